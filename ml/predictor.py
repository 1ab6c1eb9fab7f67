"""The serving engine: decoded slices in, calibrated and explained answers out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ml import explain
from ml.errors import InvalidModel, UnreadableImage
from ml.imaging.pictures import Pixels
from ml.labels import LABELS, Label
from ml.preprocess import PIPELINES, FloatImage, Prepared
from ml.registry import SERVING, Model, load_model
from ml.uncertainty import picture_score


@dataclass(frozen=True)
class Result:
    """The answer for one slice.

    Attributes:
        probabilities: calibrated, one for each class by name; they sum to 1.
        prediction_set: the classes that cannot be ruled out, likeliest first.
        in_distribution: whether the slice looks like the brain MRI that the model has learnt.
        ood_score: out-of-distribution score; above 1 is unfamiliar.
        heat: (height, width) float32 in 0..1 in the pixels of the slice.
    """

    label: Label
    probabilities: dict[str, float]
    prediction_set: tuple[Label, ...]
    in_distribution: bool
    ood_score: float
    heat: FloatImage

    def overlay_png(self) -> bytes:
        """The heatmap as a PNG with transparency, of the slice's size."""
        return explain.overlay_png(self.heat)


class Predictor:
    """One model on one device. Deterministic; not to be shared between threads."""

    def __init__(self, model: Model, *, device: torch.device, dtype: torch.dtype) -> None:
        self._doubt = model.doubt
        self._device = device
        self._dtype = dtype
        self.size = int(model.card["input"]["size"])
        self._pipeline = PIPELINES[model.card["input"]["preprocessing"]]
        self.network = model.network.to(device).to(memory_format=torch.channels_last)
        # The head stays in float32: it is tiny, and the probabilities come from it.
        self.network.features.to(dtype)
        self.name = model.name
        self.sha256 = model.sha256
        self.card: dict[str, Any] = model.card

    @classmethod
    def load(cls, card: Path = SERVING, *, device: str = "auto") -> "Predictor":
        """Load a model for ``auto``, ``cpu`` or ``cuda``.

        Raises:
            InvalidModel: the model is damaged, or ``cuda`` is wanted and there is none.
        """
        chosen = choose_device(device)
        return cls(load_model(card), device=chosen, dtype=serving_dtype(chosen))

    @property
    def engine(self) -> str:
        """Device and precision in words, such as ``cpu bfloat16``."""
        return f"{self._device.type} {str(self._dtype).removeprefix('torch.')}"

    def warm_up(self) -> None:
        """Run once on nothing in particular, so that the first real slice is not the slow one."""
        ramp = np.tile(np.arange(self.size, dtype=np.uint8), (self.size, 1))
        self.predict([ramp])

    def predict(self, slices: Sequence[Pixels]) -> list[Result | UnreadableImage]:
        """Answer a batch in one forward pass.

        Args:
            slices: (height, width) grey or (height, width, 3) RGB each, 8 or 16 bit.

        Returns:
            For each slice, in order, its result, or why it cannot be classified (``blank``).
        """
        prepared = [self._prepare(pixels) for pixels in slices]
        usable = [item for item in prepared if isinstance(item, Prepared)]
        answers = iter(self._answer(usable))
        return [
            item
            if isinstance(item, UnreadableImage)
            else _judged(next(answers), picture_score(pixels))
            for item, pixels in zip(prepared, slices, strict=True)
        ]

    def _prepare(self, pixels: Pixels) -> Prepared | UnreadableImage:
        try:
            return self._pipeline(pixels, self.size)
        except UnreadableImage as error:
            return error

    @torch.inference_mode()
    def _answer(self, prepared: list[Prepared]) -> list[Result]:
        if not prepared:
            return []
        stacked = np.stack([item.image for item in prepared])[:, None]
        output = self.network(torch.from_numpy(stacked).to(self._device))
        probabilities = self._doubt.probabilities(output.logits.float().cpu())
        scores = self._doubt.scores(output.features.float().cpu())
        maps = output.maps.float().cpu()
        return [
            self._result(prepared[n], probabilities[n], float(scores[n]), maps[n])
            for n in range(len(prepared))
        ]

    def _result(
        self, prepared: Prepared, probabilities: Tensor, score: float, maps: Tensor
    ) -> Result:
        values = probabilities.numpy()
        return Result(
            label=LABELS[int(values.argmax())],
            probabilities={
                label.value: float(value) for label, value in zip(LABELS, values, strict=True)
            },
            prediction_set=self._doubt.prediction_set(values),
            in_distribution=score <= 1.0,
            ood_score=score,
            heat=explain.heat(maps, prepared, values),
        )


def choose_device(wanted: str) -> torch.device:
    """``auto`` takes a GPU where there is one.

    Raises:
        InvalidModel: ``cuda`` is wanted and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidModel("A GPU is asked for (cuda), but there is none that torch can use.")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def serving_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor computes in it natively, float32 elsewhere."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32


def _judged(result: Result, unlike_mri: float) -> Result:
    """Let the rules about the picture as a whole have their say beside the features."""
    score = max(result.ood_score, unlike_mri)
    return replace(result, ood_score=score, in_distribution=score <= 1.0)
