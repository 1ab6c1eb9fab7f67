"""Fine-tune a network on prepared slices; a rerun resumes from the checkpoint of each epoch."""

import csv
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from ml.architectures import LocalisationNetwork, Network, Output
from ml.dataset import Entry
from ml.dataset.tensors import Slices, prepare
from ml.serving.engines import serving_dtype
from ml.training.averaging import MovingAverage
from ml.training.batches import Batches, KeptVariants, NewVariants, Told, frozen_part, say_nothing
from ml.training.checkpoints import Checkpoint
from ml.training.distributed import Distributed, single_process
from ml.training.inference import forward_all, mixed_precision
from ml.training.losses import coverage, localisation_loss, outside_loss, whole_slice_loss
from ml.training.recipe import Recipe, Stage
from ml.training.starting import build, start
from ml.training.transforms import Batch
from ml.training.winograd import quicken, slow_down

LOG = "log.csv"
"""In the folder of a run: loss and held-out accuracy of each epoch."""


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        network: with its averaged weights, on the CPU, in evaluation mode.
        start: description of the starting weights, for tables.
        started_from: name and training of the model that it started from; None for other starts.
    """

    network: Network
    start: str
    started_from: dict[str, Any] | None = None


def train(
    recipe: Recipe,
    training: list[Entry],
    watched: list[Entry],
    *,
    folder: Path,
    distributed: Distributed | None = None,
    variants: Path | None = None,
    told: Told = say_nothing,
) -> Trained:
    """Train, or resume the run whose checkpoint is in ``folder``.

    Args:
        watched: the part whose accuracy is logged after each epoch. It is not used for early
            stopping or selection, so it may be the calibration part.
        folder: receives ``checkpoint.pt`` and ``log.csv``, and the stored variants if the recipe
            uses them.
        distributed: the processes that share the work; each must call this with the same
            arguments.
        variants: where kept variants lie, ``folder / "variants"`` without it. Runs that differ
            only in what they learn above the frozen layers may share them.
        told: told after each step, and each batch of kept variants. What it raises ends the run,
            and a rerun goes on after the last whole epoch or variant.

    Raises:
        InvalidConfiguration: the recipe does not match the network or the run in ``folder``.
        InvalidModel: the starting weights are unavailable.
    """
    steps = math.ceil(len(training) / recipe.batch)
    run = _Run(
        recipe,
        folder,
        distributed or single_process(),
        steps_per_epoch=steps,
        variants=variants or folder / "variants",
        told=told,
    )
    for size, epochs in _remaining(recipe.stages, run.epoch):
        slices = prepare(training, preprocessing=recipe.preprocessing, size=size, progress=True)
        held_out = prepare(watched, preprocessing=recipe.preprocessing, size=size)
        run.stage(slices, held_out, epochs)
    network = run.averaged.network.cpu()
    slow_down(network)
    network.both_sides = recipe.flip
    return Trained(network, run.start, run.started_from)


class _Run:
    """One training run: its state, which checkpoints store, and its epochs."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        distributed: Distributed,
        *,
        steps_per_epoch: int,
        variants: Path,
        told: Told,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self._variants, self._told = variants, told
        self.recipe = recipe
        self.folder = folder
        self.distributed = distributed
        self.network = build(recipe)
        resumes = self._checkpoint.exists()
        self.start, self.started_from = ("", None) if resumes else start(self.network, recipe)
        groups = self.network.parameter_groups(
            head_rate=recipe.head_rate, body_rate=recipe.body_rate, frozen=recipe.frozen
        )
        self.network.to(distributed.device).to(memory_format=torch.channels_last)
        if recipe.winograd and serving_dtype(distributed.device) is torch.float32:
            quicken(self.network)
        self.averaged = MovingAverage(self.network, recipe.averaging)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        self._steps = steps_per_epoch * recipe.epochs
        self.schedule = LambdaLR(self.optimizer, _warm_up_then_cosine(self._steps))
        self.epoch = 0
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        if resumes:
            self._resume()
        self.shared = (
            DistributedDataParallel(self.network) if distributed.world_size > 1 else self.network
        )

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def stage(self, slices: Slices, held_out: Slices, epochs: int) -> None:
        """Train some epochs at one size."""
        size = slices.images.shape[-1]
        batches: Batches = NewVariants(slices, self.recipe, self.network, self.distributed)
        watched = held_out.images
        if self.recipe.variants:
            batches = KeptVariants(
                slices, self.recipe, self.network, self.distributed, self._variants, self._told
            )
            self.network.eval()
            watched = torch.cat(
                [
                    frozen_part(self.network, part.to(self.distributed.device), self.recipe.frozen)
                    for part in torch.split(held_out.images, self.recipe.batch)
                ]
            )
        for _ in range(epochs):
            started = time.monotonic()
            loss = self._one_epoch(batches)
            if self.distributed.is_main:
                said = forward_all(self.averaged.network, watched, skipped=batches.skipped)
                right = said.logits.argmax(1) == held_out.labels
                seconds = time.monotonic() - started
                self._log(size, loss, float(right.float().mean()), seconds)
                self._save()
            self.distributed.wait()

    def _one_epoch(self, batches: Batches) -> float:
        """Train one pass over the data; return the mean loss."""
        # Seeded by the epoch, so that a resumed run draws the same numbers as an uninterrupted
        # one. All processes draw the same batches, and each augments its own share.
        seed = self.recipe.seed + self.epoch
        dealer = torch.Generator().manual_seed(seed)
        shuffled = torch.randperm(len(batches.labels), generator=dealer)
        order = torch.split(shuffled, self.recipe.batch)
        generator = dealer
        if self.distributed.world_size > 1:
            generator = torch.Generator().manual_seed(seed + 7919 * (self.distributed.rank + 1))
        torch.manual_seed(seed + self.distributed.rank)
        self.network.train()
        silent = None if self.distributed.is_main else True
        losses = [
            self._one_step(
                batches.take(self.distributed.share(chosen), self.epoch, generator), batches
            )
            for chosen in tqdm(order, f"epoch {self.epoch + 1}", unit="batch", disable=silent)
        ]
        self.epoch += 1
        return self.distributed.mean(sum(losses) / len(losses))

    def _loss(self, output: Output, batch: Batch) -> Tensor:
        if not isinstance(self.network, LocalisationNetwork):
            return self._whole_loss(output.logits, batch).mean()
        opinions = self.network.opinions(output)
        loss = torch.stack([self._whole_loss(one, batch) for one in opinions]).mean(0)
        maps = output.maps
        covered = coverage(batch.masks, (maps.shape[2], maps.shape[3]))
        places = localisation_loss(maps, batch.wanted, covered)
        outside = outside_loss(self.network, maps, covered)
        taught = self.recipe.places * places + self.recipe.outside * outside
        return (loss + batch.known * taught).mean()

    def _whole_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        smoothing = self.recipe.label_smoothing
        return whole_slice_loss(logits.float(), batch.wanted, smoothing=smoothing)

    def _one_step(self, batch: Batch, batches: Batches) -> float:
        with mixed_precision(self.distributed.device):
            output = self.shared(batch.images, batches.skipped)
        loss = self._loss(output, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self.averaged.update(self.network)
        self._told("training", self.step, self._steps)
        return loss.item()

    def _log(self, size: int, loss: float, accuracy: float, seconds: float) -> None:
        path = self.folder / LOG
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["epoch", "size", "loss", "held_out_accuracy", "seconds"])
            writer.writerow([self.epoch, size, f"{loss:.4f}", f"{accuracy:.4f}", f"{seconds:.0f}"])

    def _save(self) -> None:
        Checkpoint(
            epoch=self.epoch,
            step=self.step,
            network=self.network.state_dict(),
            averaged=self.averaged.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            recipe=asdict(self.recipe),
            start=self.start,
            started_from=self.started_from,
        ).save(self._checkpoint)

    def _resume(self) -> None:
        found = Checkpoint.load(self._checkpoint, self.recipe, self.distributed.device)
        self.start, self.started_from = found.start, found.started_from
        self.epoch, self.step = found.epoch, found.step
        self.network.load_state_dict(found.network)
        self.averaged.resume(found.averaged, found.step)
        self.optimizer.load_state_dict(found.optimizer)
        self.schedule.load_state_dict(found.schedule)


def _remaining(stages: tuple[Stage, ...], done: int) -> Iterator[tuple[int, int]]:
    """(size, epochs) of the remaining stages of a run with ``done`` epochs."""
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
