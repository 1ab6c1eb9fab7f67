"""Measure a predictor on volumes of other hospitals: found tumours, false alarms, key slices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ml.errors import InvalidManifest, UnreadableImage
from ml.imaging import Slice, read_path, square_pixels
from ml.imaging.nifti import PLANES
from ml.imaging.studies import read_study
from ml.measured_sections import volume_rows
from ml.predictor import Opinion, Predictor, Result
from ml.preprocess import FloatImage
from ml.volumes import SliceAnswer, answer_study

_FEWEST_PIXELS = 120  # of the mask, in a slice that a reader would be expected to find
_HEAD_SHARE = 0.5  # of the volume's largest head area, in a slice that shows brain
_BATCH = 8

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """One slice of a volume and what the predictor said.

    Attributes:
        result: about the slice by itself.
        opinion: in the light of its neighbours.
        tumor_pixels: size of the tumour's mask.
        free: shows brain, and no mask of the patient holds a tumour at this height.
        hit: whether the hottest pixel of the heatmap lies inside the mask's bounding box.
    """

    result: Result
    opinion: Opinion
    tumor_pixels: int
    free: bool
    hit: bool

    @property
    def tumor(self) -> float:
        """Probability of a tumour of any class, in the light of the neighbours."""
        return self.opinion.tumor

    @property
    def tumor_alone(self) -> float:
        """The same of the slice by itself."""
        return self.result.tumor

    @property
    def answer(self) -> SliceAnswer:
        """The answer for the aggregation over the volume."""
        return SliceAnswer(
            0,
            True,
            self.opinion.label,
            self.opinion.probabilities,
            self.opinion.prediction_set,
            self.opinion.in_distribution,
            self.result.tumor_by_places,
            self.result.head_share,
        )


def measure_volumes(predictor: Predictor, *, glioma: Path, healthy: Path) -> dict[str, Any]:
    """Figures of the ``volumes`` command.

    A slice must be called a tumour where its mask holds more than 120 px, and must not where
    it shows brain (half of the volume's largest head area or more) and no mask of the patient
    holds a tumour at its height.

    Args:
        glioma: a folder with one folder a patient, in it NIfTI files on one grid, in pairs
            ``NAME_Scan….nii.gz`` and ``NAME_Mask.nii.gz``.
        healthy: a study without a tumour: a folder, an archive or a file.

    Raises:
        InvalidManifest: there are no such files, or a mask does not fit its scan.
        UnreadableImage: a file cannot be read.
    """
    volumes = {
        f"{scan.parent.name}/{scan.name}": judge(predictor, read_path(scan), mask, anywhere)
        for scan, mask, anywhere in _pairs(glioma)
    }
    slices = [one for volume in volumes.values() for one in volume]
    without = judge(predictor, _study(healthy))
    tumors = [one for one in slices if one.tumor_pixels > _FEWEST_PIXELS]
    free = [one for one in slices if one.free]
    healthy_free = [one for one in without if one.free]
    return {
        "model": predictor.name,
        "tumor_slices_found": _share(one.opinion.alarm for one in tumors),
        "tumor_slices_found_alone": _share(one.result.alarm for one in tumors),
        "heat_on_tumor": _share(one.hit for one in tumors),
        "false_alarms": _share(one.opinion.alarm for one in free),
        "false_alarms_alone": _share(one.result.alarm for one in free),
        "in_distribution": _share(one.opinion.in_distribution for one in tumors + free),
        "healthy_false_alarms": _share(one.opinion.alarm for one in healthy_free),
        "healthy_false_alarms_alone": _share(one.result.alarm for one in healthy_free),
        "key_slices_on_tumor": _share(
            volume[key].tumor_pixels > 0
            for volume in volumes.values()
            for key in answer_study([one.answer for one in volume]).key
        ),
        "volumes": {name: _by_slice(volume) for name, volume in volumes.items()}
        | {"healthy": _by_slice(without)},
    }


def measure_heads(predictor: Predictor, paths: Sequence[Path]) -> dict[str, Any]:
    """False alarms in volumes of whole heads without a tumour, of every slice in every plane.

    Args:
        paths: NIfTI files.

    Returns:
        For each ``NAME, PLANE`` how many slices are called a tumour (``alarms``), how many would
        be by themselves (``alarms_alone``), and the ``study`` answer's class.

    Raises:
        UnreadableImage: a file cannot be read.
    """
    return {
        f"{path.name.split('.')[0]}, {plane}": _head(judge(predictor, read_path(path, plane=plane)))
        for path in paths
        for plane in PLANES
    }


def _head(volume: Sequence[Judged]) -> dict[str, Any]:
    key = answer_study([one.answer for one in volume]).key[0]
    return {
        "alarms": _share(one.opinion.alarm for one in volume),
        "alarms_alone": _share(one.result.alarm for one in volume),
        "study": volume[key].opinion.label.value,
    }


def judge(
    predictor: Predictor,
    slices: Sequence[Slice],
    mask: Sequence[Mask] | None = None,
    anywhere: Sequence[bool] | None = None,
) -> list[Judged]:
    """Predict the slices of one volume; blank ones are left out.

    The first answer is about each slice by itself, the second in the light of its neighbours.

    Args:
        mask: the tumour in each slice, (height, width) each; none without it.
        anywhere: whether any scan of the patient shows a tumour in each slice.
    """
    pixels = [square_pixels(one) for one in slices]
    kept: list[tuple[int, Result]] = []
    for start in range(0, len(pixels), _BATCH):
        for offset, result in enumerate(predictor.predict(pixels[start : start + _BATCH])):
            if not isinstance(result, UnreadableImage):
                kept.append((start + offset, result))
    opinions = predictor.in_volume([result for _number, result in kept])
    enough = _HEAD_SHARE * max(result.head_share for _number, result in kept)
    judged = []
    for (number, result), opinion in zip(kept, opinions, strict=True):
        tumor = mask[number] if mask is not None else np.zeros((1, 1), bool)
        judged.append(
            Judged(
                result=result,
                opinion=opinion,
                tumor_pixels=int(tumor.sum()),
                free=result.head_share >= enough and not (anywhere and anywhere[number]),
                hit=_hits(result.heat, tumor),
            )
        )
    return judged


def table(figures: dict[str, Any]) -> str:
    """The shares as lines of text."""
    return "\n".join(f"{words:44}{found}" for words, found in volume_rows(figures))


def _pairs(folder: Path) -> Iterator[tuple[Path, list[Mask], list[bool]]]:
    """Each scan with its mask, and whether any mask of the same patient holds a tumour."""
    patients = sorted({path.parent for path in folder.glob("*/*_Mask.nii*")})
    if not patients:
        raise InvalidManifest(f"{folder} holds no volumes with masks.")
    for patient in patients:
        masks = {path: _mask(path) for path in sorted(patient.glob("*_Mask.nii*"))}
        if len({len(mask) for mask in masks.values()}) > 1:
            raise InvalidManifest(f"The masks of {patient} do not lie on one grid.")
        anywhere = [any(one.any() for one in level) for level in zip(*masks.values(), strict=True)]
        for path, mask in masks.items():
            scans = sorted(patient.glob(path.name.split("_Mask")[0] + "_Scan*.nii*"))
            if len(scans) != 1:
                raise InvalidManifest(f"{path} wants exactly one scan beside it.")
            yield scans[0], mask, anywhere


def _mask(path: Path) -> list[Mask]:
    return [one.pixels * one.scale + one.offset > 0 for one in read_path(path)]


def _study(path: Path) -> list[Slice]:
    slices = []
    for found in read_study(path):
        if isinstance(found.slice, UnreadableImage):
            raise found.slice
        slices.append(found.slice)
    return slices


def _hits(heat: FloatImage, tumor: Mask) -> bool:
    if not tumor.any():
        return False
    rows, columns = np.nonzero(tumor)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return bool(rows.min() <= row <= rows.max() and columns.min() <= column <= columns.max())


def _share(values: Iterator[bool]) -> dict[str, int]:
    listed = list(values)
    return {"n": sum(listed), "of": len(listed)}


def _by_slice(volume: Sequence[Judged]) -> list[dict[str, Any]]:
    return [
        {
            "tumor_pixels": one.tumor_pixels,
            "free": one.free,
            "tumor": round(one.tumor, 4),
            "tumor_alone": round(one.tumor_alone, 4),
            "label": one.opinion.label.value,
            "ood_score": round(one.opinion.ood_score, 3),
            "hit": one.hit,
        }
        for one in volume
    ]
