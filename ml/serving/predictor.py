"""The predictor: from decoded slices to calibrated answers with heatmaps."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ml.aggregation import borne_out, emptiness, uneven, with_neighbours, with_no_tumor
from ml.architectures import Output, tumor_by_localisation
from ml.errors import UnreadableImage
from ml.imaging.montage import several_slices
from ml.imaging.pictures import Pixels
from ml.labels import LABELS, Label, decide
from ml.preprocess import LEAST_HEAD, PIPELINES, FloatImage, Prepared
from ml.registry import SERVING, Model, load_model
from ml.serving import explain
from ml.serving.engines import Engine, choose_device, choose_engine
from ml.serving.observation import Observed, image_statistics
from ml.serving.quality import QualityFlag, quality_flags
from ml.uncertainty.ood import colour_or_bright_frame, evidence_against_head
from ml.uncertainty.ood.score import ood_score

_TRIED_BATCHES = (3, 8)

Spacing = tuple[float, float]


@dataclass(frozen=True)
class Opinion:
    """The answer about one slice without its heatmap.

    Attributes:
        label: the predicted class, usually the likeliest one (:func:`ml.labels.decide`).
        probabilities: calibrated, by class name; they sum to 1.
        prediction_set: the classes that cannot be ruled out, likeliest first.
        ood_score: out-of-distribution score; above 1 is unfamiliar.
    """

    label: Label
    probabilities: dict[str, float]
    prediction_set: tuple[Label, ...]
    ood_score: float

    @property
    def in_distribution(self) -> bool:
        """Whether the slice resembles the brain MRI of the training data."""
        return self.ood_score <= 1.0

    @property
    def tumor(self) -> float:
        """Probability of a tumour of any class."""
        return 1 - self.probabilities[Label.NO_TUMOR.value]

    @property
    def alarm(self) -> bool:
        """Whether the predicted class is a tumour."""
        return self.label is not Label.NO_TUMOR

    def plain(self) -> dict[str, Any]:
        """All fields by name, as built-in types."""
        return {
            "label": self.label.value,
            "probabilities": self.probabilities,
            "prediction_set": [label.value for label in self.prediction_set],
            "in_distribution": self.in_distribution,
            "ood_score": self.ood_score,
        }


@dataclass(frozen=True)
class Result(Opinion):
    """The answer for one slice alone, with heatmap and image quality.

    Attributes:
        heat: (height, width) float32 in 0..1 in the pixels of the slice.
        quality: what is wrong with the picture itself; mostly nothing.
        tumor_by_localisation: probability of a tumour of any class by the localisation head alone,
            not calibrated; None for networks without one.
        head_share: of the slice's area, the head.
        image_statistics: (11,) of the picture, and
        features: (16,) coordinates of the pooled features, both to watch for drift
            (:mod:`ml.serving.observation`).
    """

    heat: FloatImage
    quality: tuple[QualityFlag, ...] = ()
    tumor_by_localisation: float | None = None
    head_share: float = 1.0
    image_statistics: Observed = field(default_factory=lambda: np.empty(0, np.float32))
    features: Observed = field(default_factory=lambda: np.empty(0, np.float32))

    def overlay_png(self) -> bytes:
        """The heatmap as a transparent PNG in the slice's size."""
        return explain.overlay_png(self.heat)


class Answered(Protocol):
    """The part of a :class:`Result` that is needed to combine a volume's slices."""

    @property
    def probabilities(self) -> dict[str, float]:
        """Calibrated probabilities of the slice alone, by class name."""
        ...

    @property
    def ood_score(self) -> float:
        """Out-of-distribution score; above 1 the slice does not look like brain MRI."""
        ...

    @property
    def tumor_by_localisation(self) -> float | None:
        """Probability of a tumour by what is seen at places."""
        ...

    @property
    def head_share(self) -> float:
        """Share of the slice's area that the head covers, 0..1."""
        ...


@dataclass(frozen=True)
class _Usable:
    """A prepared slice for the network."""

    pixels: Pixels
    prepared: Prepared
    spacing: Spacing | None


def _are_equal(together: Output, alone: Sequence[Output]) -> bool:
    return all(
        torch.equal(part, torch.cat(parts))
        for part, parts in zip(together, zip(*alone, strict=True), strict=True)
    )


class Predictor:
    """One model on one engine. Deterministic; not to be shared between threads.

    Attributes:
        batches_are_alike: whether what it says of a slice is the same to the last bit in any
            small batch; None until :meth:`try_batches`.
    """

    def __init__(self, model: Model, engine: Engine) -> None:
        self._doubt = model.doubt
        self.operating_points = model.operating_points
        self._balance = model.network.localisation_balance
        self._engine = engine
        self.size = int(model.card["input"]["size"])
        self._pipeline = PIPELINES[model.card["input"]["preprocessing"]]
        self.name = model.name
        self.sha256 = model.sha256
        self.card: dict[str, Any] = model.card
        self.batches_are_alike: bool | None = None

    @classmethod
    def load(cls, card: Path = SERVING, *, device: str = "auto") -> "Predictor":
        """Load a model on its serving engine for ``auto``, ``cpu`` or ``cuda``.

        Raises:
            InvalidModel: the model is damaged, or ``cuda`` is requested but unavailable.
        """
        model = load_model(card)
        return cls(model, choose_engine(model, choose_device(device)))

    @property
    def engine(self) -> str:
        """Runtime, device and precision, such as ``OpenVINO cpu int8``."""
        return self._engine.name

    def warm_up(self) -> None:
        """Run once on dummy input, so that the first real slice is not slow."""
        ramp = np.tile(np.arange(self.size, dtype=np.uint8), (self.size, 1))
        self.predict([ramp])

    def try_batches(self) -> None:
        """Find out whether slices may share a batch with others (:attr:`batches_are_alike`).

        8-bit integers add up exactly. Floating point depends on how the library divides a batch
        among cores, so it is tried out on this machine.
        """
        chance = np.random.default_rng(0)
        shape = (max(_TRIED_BATCHES), 1, self.size, self.size)
        images = chance.random(shape, dtype=np.float32)
        alone = [self._engine.run(images[n : n + 1]) for n in range(len(images))]
        self.batches_are_alike = all(
            _are_equal(self._engine.run(images[:size]), alone[:size]) for size in _TRIED_BATCHES
        )

    def predict(
        self, slices: Sequence[Pixels], spacings: Sequence[Spacing | None] | None = None
    ) -> list[Result | UnreadableImage]:
        """Answer a batch in one forward pass.

        Args:
            slices: (height, width) grey or (height, width, 3) RGB each, 8 or 16 bit.
            spacings: of each slice, acquired millimetres between pixel centres as (row, column),
                or None if unknown; only used for the quality flags.

        Returns:
            For each slice, in order, its result, or the reason of a refusal (``blank``).
        """
        prepared = [self._prepare(pixels) for pixels in slices]
        usable = [
            _Usable(pixels, item, spacing)
            for pixels, item, spacing in zip(
                slices, prepared, spacings or [None] * len(slices), strict=True
            )
            if isinstance(item, Prepared)
        ]
        answers = iter(self._answer(usable))
        return [item if isinstance(item, UnreadableImage) else next(answers) for item in prepared]

    def in_volume(
        self, volume: Sequence[Answered], places: Sequence[float | None] | None = None
    ) -> list[Opinion]:
        """The answers about a stack's slices, each combined with its neighbours.

        A tumour that the localisation head does not confirm (:func:`ml.aggregation.borne_out`)
        keeps "no tumour" in the prediction set. The decision threshold is one half: the prior
        already balances missed tumours and false alarms. Slices without brain are no neighbours
        and count as out of distribution.

        Args:
            volume: results of :meth:`predict` for neighbouring slices in order; at least one.
            places: position of each along the stack's normal in millimetres; if one is unknown,
                the steps count as even.
        """
        apart = uneven(places)
        alone = np.array([[one.probabilities[label.value] for label in LABELS] for one in volume])
        points = self.operating_points
        empty = emptiness([one.head_share for one in volume], points)
        brain = np.array(empty) <= 1
        together = with_neighbours(
            alone,
            tumor_share=self._doubt.calibration.tumor_share,
            brain=brain,
            places=apart,
            points=points,
        )
        by_places = [one.tumor_by_localisation for one in compress(volume, brain)]
        certain = np.zeros(len(volume), bool)
        together[brain], certain[brain] = borne_out(
            together[brain],
            by_places,
            places=None if apart is None else apart[brain],
            points=points,
        )
        return [
            self._opinion(row, decide(row), max(one.ood_score, score), certain=bool(sure))
            for row, one, score, sure in zip(together, volume, empty, certain, strict=True)
        ]

    def _opinion(
        self,
        values: npt.NDArray[np.float64],
        label: Label,
        ood_score: float,
        *,
        certain: bool = True,
    ) -> Opinion:
        probabilities = {
            label.value: float(value) for label, value in zip(LABELS, values, strict=True)
        }
        possible = self._doubt.prediction_set(values, label)
        return Opinion(
            label=label,
            probabilities=probabilities,
            prediction_set=possible if certain else with_no_tumor(possible, probabilities),
            ood_score=ood_score,
        )

    def _prepare(self, pixels: Pixels) -> Prepared | UnreadableImage:
        try:
            return self._pipeline(pixels, self.size)
        except UnreadableImage as error:
            return error

    def _answer(self, usable: list[_Usable]) -> list[Result]:
        if not usable:
            return []
        output = self._engine.run(np.stack([one.prepared.image for one in usable])[:, None])
        probabilities = self._doubt.probabilities(output.logits)
        distances = self._doubt.feature_distance(output.features)
        coordinates = self._doubt.coordinates(output.features).numpy()
        by_places: list[float | None] = [None] * len(usable)
        if self._balance is not None:
            by_places = tumor_by_localisation(output.maps, self._balance).tolist()
        return [
            replace(
                self._result(
                    one, probabilities[n], float(distances[n]), output.maps[n], by_places[n]
                ),
                image_statistics=image_statistics(one.pixels, one.prepared),
                features=coordinates[n],
            )
            for n, one in enumerate(usable)
        ]

    def _result(
        self,
        one: "_Usable",
        probabilities: Tensor,
        feature_distance: float,
        maps: Tensor,
        by_places: float | None,
    ) -> Result:
        values = probabilities.numpy()
        slices = several_slices(one.pixels)
        score = max(
            colour_or_bright_frame(one.pixels),
            slices,
            # Smaller heads are not cropped to, so they are smaller than any in training.
            LEAST_HEAD / max(one.prepared.head_share, 1e-3),
            ood_score(
                against_head=evidence_against_head(one.pixels), feature_distance=feature_distance
            ),
        )
        return Result(
            **vars(self._opinion(values, self._doubt.label(values), score)),
            heat=explain.heat(maps, one.prepared, values),
            quality=quality_flags(one.pixels, one.spacing, slices=slices),
            tumor_by_localisation=by_places,
            head_share=one.prepared.head_share,
        )
