"""Classify the slices of volumes with known tumours, alone and with their neighbours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml.aggregation import SliceAnswer
from ml.errors import InvalidManifest, UnreadableImage
from ml.imaging import Slice, read_path, square_pixels
from ml.imaging.studies import read_study
from ml.preprocess import FloatImage
from ml.serving.predictor import Opinion, Predictor, Result

_FEWEST_PIXELS = 120  # of the mask, from which a reader is expected to find the tumour
_HEAD_SHARE = 0.5  # share of the volume's largest head area from which a slice shows brain
_BATCH = 8

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """One slice of a volume and the predictor's answers.

    Attributes:
        result: about the slice alone.
        opinion: combined with its neighbours.
        tumor_pixels: size of the tumour's mask.
        free: shows brain, and no mask of the patient has a tumour at this level.
        hit: whether the hottest pixel of the heatmap is inside the mask's bounding box.
    """

    result: Result
    opinion: Opinion
    tumor_pixels: int
    free: bool
    hit: bool

    @property
    def tumor(self) -> float:
        """Probability of a tumour of any class, combined with the neighbours."""
        return self.opinion.tumor

    @property
    def tumor_alone(self) -> float:
        """Probability of a tumour of any class for the slice alone."""
        return self.result.tumor

    @property
    def answer(self) -> SliceAnswer:
        """The answer for the aggregation over the volume."""
        return self.answered(self.opinion, in_volume=True)

    @property
    def expected(self) -> bool:
        """Whether a reader is expected to find a tumour here."""
        return self.tumor_pixels > _FEWEST_PIXELS

    def answered(
        self, opinion: Opinion, *, in_volume: bool, place: float | None = None
    ) -> SliceAnswer:
        """The answer for the aggregation with a given ``opinion`` about the slice.

        Args:
            place: position along the normal of its stack, for uneven steps.
        """
        return SliceAnswer(
            series=0,
            in_volume=in_volume,
            label=opinion.label,
            probabilities=opinion.probabilities,
            prediction_set=opinion.prediction_set,
            in_distribution=opinion.in_distribution,
            tumor_by_localisation=self.result.tumor_by_localisation,
            head_share=self.result.head_share,
            place=place,
        )


def judge(
    predictor: Predictor,
    slices: Sequence[Slice],
    mask: Sequence[Mask] | None = None,
    anywhere: Sequence[bool] | None = None,
) -> list[Judged]:
    """Predict the slices of one volume; blank ones are left out.

    The first answer is about each slice alone, the second combines it with its neighbours.

    Args:
        mask: the tumour in each slice, (height, width) each; None for no tumour.
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


def masked_scans(folder: Path) -> Iterator[tuple[Path, list[Mask], list[bool]]]:
    """Each scan with its mask and, per slice, whether any mask of the patient has a tumour.

    Args:
        folder: with one folder per patient that contains NIfTI files on one grid, in pairs
            ``NAME_Scan….nii.gz`` and ``NAME_Mask.nii.gz``.

    Raises:
        InvalidManifest: there are no such files, or a mask does not match its scan.
    """
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


def slices_of_study(path: Path) -> list[Slice]:
    """The slices of a folder, an archive or a file.

    Raises:
        UnreadableImage: one of them cannot be read.
    """
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
