"""Guess from file names which files of an upload show the same patient.

DICOM files name the patient. Pictures and volumes do not, but people name them by patient
(``pat01_slice03.png``, ``P001-1.jpg``) or put each patient into a folder. A shared prefix with a
running number (``Tr-gl_0010``) distinguishes no patients.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

ENDINGS = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".heic", ".heif", ".nii", ".nii.gz",
    ".mgh", ".mgz", ".nrrd",
)  # fmt: skip
"""File name extensions of pictures and volumes, whose content does not identify the patient."""
_EXTENSION = re.compile(
    "(?:" + "|".join(map(re.escape, (*ENDINGS, ".gz", ".dcm", ".dicom", ".ima", ".zip"))) + ")+$",
    re.IGNORECASE,
)
# A patient number at the start of a name, followed by more: "pat01_slice03", "P001-1".
_NUMBERED = re.compile(r"([^\W\d_]*)[ _-]?(\d+)(?=[ _.-]+\S)")
_DIGITS = re.compile(r"\d+")
# Words for slices and series in file names; their numbers are not patient numbers.
_NOBODY = re.compile(
    "im|img|image|i|slice|slc|sl|se|ser|series|seq|scan|sc|frame|fr|dcm|dicom|file|page|mr|mri|mrt|"
    "t|z|ax|axial|tra|sag|sagittal|cor|coronal|flair|dwi|adc|swi|pd|st|stu|study|exam|screen|"
    "screenshot|photo|pxl|dsc|dscn|wa|part|vol|volume|echo|phase|bild|schnitt|serie|coupe|corte|"
    "imagen|disc|disk|cd|dvd",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class NamedGroup:
    """Files that seem to show one patient.

    Attributes:
        label: the common part of their names; empty for files that fit no group.
        members: indices of the files, in order.
    """

    label: str
    members: tuple[int, ...]


def patients_by_name(paths: Sequence[str]) -> list[NamedGroup]:
    """Group files by patient according to their relative paths; one group if these do not tell."""
    split = [[part for part in re.split(r"[/\\]", path) if part] or [""] for path in paths]
    by_name = [_numbered(parts[-1]) for parts in split]
    if len({label for label in by_name if label}) > 1:
        return _groups(by_name)
    for labels in _levels(split):
        if len({label for label in labels if label}) > 1:
            return _groups(labels)
    return _groups([""] * len(paths))


def _groups(labels: Sequence[str]) -> list[NamedGroup]:
    found: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        found.setdefault(label, []).append(number)
    return [NamedGroup(label, tuple(members)) for label, members in found.items()]


def _numbered(name: str) -> str:
    """The patient number at the start of a file name, or an empty string."""
    match = _NUMBERED.match(_EXTENSION.sub("", name))
    if match is None or _NOBODY.fullmatch(match[1]) or _is_day(match[2]):
        return ""
    return match[0]


def _levels(split: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """For the first level of folders that differ, each file's folder if it names a patient.

    Deeper folders are studies and series of one patient.
    """
    deepest = max((len(parts) for parts in split), default=0) - 1
    for level in range(deepest):
        folders = [parts[level] if len(parts) > level + 1 else "" for parts in split]
        if len(set(folders)) == 1:
            continue
        yield [folder if _names_patient(folder) else "" for folder in folders]
        return


def _names_patient(folder: str) -> bool:
    """``PAT00001``, ``P-12``, ``4711`` or ``Doe_Jane``; not ``SER1``, ``axial`` or ``glioma``."""
    words = [word for word in re.split(r"[\W\d_]+", _EXTENSION.sub("", folder)) if word]
    if any(_NOBODY.fullmatch(word) for word in words):
        return False
    digits = _DIGITS.findall(folder)
    return len(words) == 2 if not digits else not _is_day("".join(digits))


def _is_day(digits: str) -> bool:
    try:
        return len(digits) == 8 and bool(datetime.strptime(digits, "%Y%m%d"))  # noqa: DTZ007
    except ValueError:
        return False
