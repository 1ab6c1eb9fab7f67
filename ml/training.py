"""Fine-tune a network on prepared slices; every epoch leaves a checkpoint that a rerun resumes."""

import copy
import csv
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from ml.architectures import ARCHITECTURES, Network, Output, VGG16Odds
from ml.augmentation import augment, exchange_tissue
from ml.dataset import Entry, outline_mask
from ml.engines import serving_dtype
from ml.imaging import read_path
from ml.labels import INDEX, Label
from ml.preprocess import PIPELINES
from ml.supervision import ANY_TUMOR, coverage, outside_loss, places_loss, whole_slice_loss


@dataclass(frozen=True)
class Stage:
    """``epochs`` passes over the data at ``size`` pixels."""

    size: int
    epochs: int


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run beside the data.

    Attributes:
        start: ``imagenet``, ``scratch`` or a safetensors file with the convolutions.
        stages: progressive resizing, smallest first.
        input_size: side of the model's input when it serves. Average pooling takes any size;
            which one suits the weights is chosen on the calibration part.
        body_rate, head_rate: peak learning rates of the convolutions and of the head.
        frozen: layers of the convolutions that keep their starting weights.
        places, outside: weights of what the outlines teach; see :mod:`ml.supervision`. They and
            the exchange of tissue apply to networks that judge each place.
    """

    architecture: str = "vgg16-odds"
    preprocessing: str = "head-crop"
    start: str = "imagenet"
    stages: tuple[Stage, ...] = (Stage(128, 5), Stage(176, 4))
    input_size: int = 176
    batch: int = 32
    body_rate: float = 6e-5
    head_rate: float = 1e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.08
    averaging: float = 0.99
    frozen: int = 5
    places: float = 1.0
    outside: float = 0.5
    seed: int = 20261123


@dataclass(frozen=True)
class Slices:
    """Prepared slices.

    Attributes:
        images: (N, 1, S, S) float16 in 0..1.
        labels: (N,) int64, class indices.
        masks: (N, 1, S, S) uint8, 1 inside the tumour's outline; zero where none is known.
        known: (N,) bool, whether the mask tells all: there is an outline, or no tumour at all.
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
    """
    pipeline = PIPELINES[preprocessing]
    images = np.empty((len(entries), 1, size, size), np.float16)
    masks = np.zeros((len(entries), 1, size, size), np.uint8)
    for number, entry in enumerate(
        tqdm(entries, f"reading at {size} px", unit="slice", disable=None if progress else True)
    ):
        prepared = pipeline(read_path(entry.path)[0].pixels, size)
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


def train(recipe: Recipe, training: list[Entry], watched: list[Entry], *, folder: Path) -> Network:
    """Train, or go on with the run whose checkpoint lies in ``folder``.

    Args:
        watched: the part whose accuracy is logged after each epoch. It stops nothing and
            chooses nothing, so it may be the calibration part.
        folder: gets ``checkpoint.pt`` and ``log.csv``.

    Returns:
        The network with its averaged weights, on the CPU, in evaluation mode.
    """
    run = _Run(recipe, folder, steps_per_epoch=math.ceil(len(training) / recipe.batch))
    for size, epochs in _remaining(recipe.stages, run.epoch):
        slices = prepare(training, preprocessing=recipe.preprocessing, size=size, progress=True)
        held_out = prepare(watched, preprocessing=recipe.preprocessing, size=size)
        for _ in range(epochs):
            run.one_epoch(slices, held_out)
    return run.averaged.cpu().eval()


@dataclass(frozen=True)
class Logits:
    """What the network says about many slices: logits (N, 4) and features (N, 512), float32."""

    logits: Tensor
    features: Tensor


@torch.inference_mode()
def forward_all(network: Network, images: Tensor, *, batch: int = 32) -> Logits:
    """Run prepared images (N, 1, S, S) through ``network`` on the device it lies on."""
    device = next(network.parameters()).device
    logits, features = [], []
    with _mixed_precision(device):
        for start in range(0, len(images), batch):
            output = network(images[start : start + batch].to(device, torch.float32))
            logits.append(output.logits.float().cpu())
            features.append(output.features.float().cpu())
    return Logits(torch.cat(logits), torch.cat(features))


class _Run:
    """State of one training run: what a checkpoint holds, and how an epoch changes it."""

    def __init__(self, recipe: Recipe, folder: Path, *, steps_per_epoch: int) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.folder = folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = ARCHITECTURES[recipe.architecture].build()
        self.network.start_from(recipe.start)
        groups = self.network.parameter_groups(
            head_rate=recipe.head_rate, body_rate=recipe.body_rate, frozen=recipe.frozen
        )
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.network).eval()
        self.optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        total = steps_per_epoch * sum(stage.epochs for stage in recipe.stages)
        self.schedule = LambdaLR(self.optimizer, _warm_up_then_cosine(total))
        self.epoch = 0
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.exists():
            self._resume()

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def one_epoch(self, slices: Slices, held_out: Slices) -> None:
        # Seeded by the epoch, so that a resumed run draws what an unbroken one would have.
        generator = torch.Generator().manual_seed(self.recipe.seed + self.epoch)
        torch.manual_seed(self.recipe.seed + self.epoch)
        started = time.monotonic()
        self.network.train()
        losses = [
            self._one_step(*self._varied(batch, generator))
            for batch in self._batches(slices, generator)
        ]
        self.epoch += 1
        said = forward_all(self.averaged, held_out.images).logits.argmax(1)
        accuracy = float((said == held_out.labels).float().mean())
        size = slices.images.shape[-1]
        self._log(size, sum(losses) / len(losses), accuracy, time.monotonic() - started)
        self._save()

    def _batches(self, slices: Slices, generator: torch.Generator) -> Iterator[Slices]:
        everything = torch.randperm(len(slices.images), generator=generator)
        order = torch.split(everything, self.recipe.batch)
        for chosen in tqdm(order, f"epoch {self.epoch + 1}", unit="batch", disable=None):
            yield Slices(
                slices.images[chosen].to(self.device).float(),
                slices.labels[chosen].to(self.device),
                slices.masks[chosen].to(self.device).float(),
                slices.known[chosen].to(self.device),
            )

    def _varied(
        self, batch: Slices, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, wanted classes, masks and whether the masks tell all, after all augmentation."""
        images, wanted, masks = batch.images, batch.labels, batch.masks
        if isinstance(self.network, VGG16Odds):
            healthy = wanted == INDEX[Label.NO_TUMOR]
            changed = exchange_tissue(images, masks, healthy, generator)
            images, masks = changed.images, changed.masks
            wanted = wanted.masked_fill(changed.erased.to(self.device), INDEX[Label.NO_TUMOR])
            wanted = wanted.masked_fill(changed.pasted.to(self.device), ANY_TUMOR)
        images, masks = augment(images, generator, masks)
        return images, wanted, masks, batch.known

    def _loss(self, output: Output, wanted: Tensor, masks: Tensor, known: Tensor) -> Tensor:
        loss = whole_slice_loss(
            output.logits.float(), wanted, smoothing=self.recipe.label_smoothing
        )
        if isinstance(self.network, VGG16Odds):
            maps = output.maps
            covered = coverage(masks, (maps.shape[2], maps.shape[3]))
            places = places_loss(maps, wanted, covered)
            outside = outside_loss(self.network, maps, covered)
            loss = loss + known * (self.recipe.places * places + self.recipe.outside * outside)
        return loss.mean()

    def _one_step(self, images: Tensor, wanted: Tensor, masks: Tensor, known: Tensor) -> float:
        with _mixed_precision(self.device):
            output = self.network(images)
        loss = self._loss(output, wanted, masks, known)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self._average()
        return loss.item()

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of the weights, faster while the run is young."""
        decay = min(self.recipe.averaging, (1 + self.step) / (10 + self.step))
        for mean, new in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(new, 1 - decay)
        # The statistics of batches are running averages already.
        for kept, now in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
            kept.copy_(now)

    def _log(self, size: int, loss: float, accuracy: float, seconds: float) -> None:
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["epoch", "size", "loss", "held_out_accuracy", "seconds"])
            writer.writerow([self.epoch, size, f"{loss:.4f}", f"{accuracy:.4f}", f"{seconds:.0f}"])

    def _save(self) -> None:
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(
            {
                "epoch": self.epoch,
                "step": self.step,
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
            },
            partial,
        )
        partial.replace(self._checkpoint)

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        self.epoch, self.step = state["epoch"], state["step"]
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


def _mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where the processor has it: where it is emulated it takes many times longer."""
    native = serving_dtype(device) is torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


def _remaining(stages: tuple[Stage, ...], done: int) -> Iterator[tuple[int, int]]:
    """(size, epochs) of what a run with ``done`` epochs still has to do."""
    for stage in stages:
        skipped = min(done, stage.epochs)
        done -= skipped
        if stage.epochs > skipped:
            yield stage.size, stage.epochs - skipped


def _warm_up_then_cosine(total: int) -> Callable[[int], float]:
    warm_up = max(1, total // 20)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        progress = min(1.0, (step - warm_up) / max(1, total - warm_up))
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))

    return factor
