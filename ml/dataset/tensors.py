"""Convert files of labelled slices to tensors with the serving pipeline."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ml.dataset import Entry, outline_mask
from ml.dataset.pixels import pixels_of
from ml.errors import InvalidConfiguration
from ml.labels import INDEX, Label
from ml.preprocess import PIPELINES


@dataclass(frozen=True)
class Slices:
    """Prepared slices.

    Attributes:
        images: (N, 1, S, S) float16 in 0..1.
        labels: (N,) int64, class indices.
        masks: (N, 1, S, S) uint8, 1 inside the tumour's outline; zero without an outline.
        known: (N,) bool, whether the mask is complete: there is an outline, or no tumour.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    known: Tensor


def prepare(
    entries: list[Entry], *, preprocessing: str, size: int, progress: bool = False
) -> Slices:
    """Read and preprocess files.

    Raises:
        UnreadableImage: a file is not a readable image.
        InvalidConfiguration: the preprocessing is unknown.
    """
    if preprocessing not in PIPELINES:
        known = ", ".join(PIPELINES)
        raise InvalidConfiguration(f"There is no preprocessing {preprocessing!r}, only {known}.")
    pipeline = PIPELINES[preprocessing]
    images = np.empty((len(entries), 1, size, size), np.float16)
    masks = np.zeros((len(entries), 1, size, size), np.uint8)
    for number, entry in enumerate(
        tqdm(entries, f"reading at {size} px", unit="slice", disable=None if progress else True)
    ):
        prepared = pipeline(pixels_of(entry), size)
        images[number, 0] = prepared.image
        if entry.outline is not None:
            mask = outline_mask(entry.outline, prepared.shape).astype(np.float32)
            masks[number, 0] = prepared.from_source(mask) >= 0.5
    return Slices(
        images=torch.from_numpy(images),
        labels=torch.tensor([INDEX[entry.label.value] for entry in entries]),
        masks=torch.from_numpy(masks),
        known=torch.tensor(
            [bool(entry.outline) or entry.label is Label.NO_TUMOR for entry in entries]
        ),
    )
