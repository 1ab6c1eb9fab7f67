"""Which files of an upload seem to show which patient, by what the files are called.

DICOM says so itself. Pictures and volumes do not: people name them (``pat01_slice03.png``,
``P001-1.jpg``) or put each patient into a folder. A shared prefix with a running number
(``Tr-gl_0010``) tells nobody apart.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

ENDINGS = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".heic", ".heif", ".nii", ".nii.gz",
    ".mgh", ".mgz", ".nrrd",
)  # fmt: skip
"""Of names of pictures and volumes, whose content does not say whose they are."""
_EXTENSION = re.compile(
    "(?:" + "|".join(map(re.escape, (*ENDINGS, ".gz", ".dcm", ".dicom", ".ima", ".zip"))) + ")+$",
    re.IGNORECASE,
)
# A patient's number at the start of a name with something behind it: "pat01_slice03", "P001-1".
_NUMBERED = re.compile(r"([^\W\d_]*)[ _-]?(\d+)(?=[ _.-]+\S)")
_DIGITS = re.compile(r"\d+")
# What cameras, scanners and archives call slices and series; their numbers are not patients'.
_NOBODY = re.compile(
    "im|img|image|i|slice|slc|sl|se|ser|series|seq|scan|sc|frame|fr|dcm|dicom|file|page|mr|mri|mrt|"
    "t|z|ax|axial|tra|sag|sagittal|cor|coronal|flair|dwi|adc|swi|pd|st|stu|study|exam|screen|"
    "screenshot|photo|pxl|dsc|dscn|wa|part|vol|volume|echo|phase|bild|schnitt|serie|coupe|corte|"
    "imagen|disc|disk|cd|dvd",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class NamedGroup:
    """Files that seem to be of one patient.

    Attributes:
        label: what they have in common in their names; empty for those that fit no group.
        members: their numbers, in order.
    """

    label: str
    members: tuple[int, ...]


def patients_by_name(paths: Sequence[str]) -> list[NamedGroup]:
    """Sort files by patient as far as their relative paths tell; one group where they do not."""
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
    """The patient's number at the start of a file's name, or an empty text."""
    match = _NUMBERED.match(_EXTENSION.sub("", name))
    if match is None or _NOBODY.fullmatch(match[1]) or _is_day(match[2]):
        return ""
    return match[0]


def _levels(split: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """For the first level of folders that differ: the folder of each file, if it names a patient.

    Folders below are a patient's own: studies, series.
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
