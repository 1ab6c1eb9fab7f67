"""Training batches: newly augmented in each epoch, or stored outputs of frozen layers."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ml.architectures import LocalisationNetwork, Network
from ml.dataset.tensors import Slices
from ml.errors import InvalidConfiguration
from ml.files import in_one_piece
from ml.training.distributed import Distributed
from ml.training.recipe import Recipe
from ml.training.transforms import Batch, vary

_FACTS = ("wanted", "known")  # fields of a batch besides pictures
_LARGEST = 6e4  # largest value used in half precision


# (what is being done, pieces done, pieces in all)
Told = Callable[[str, int, int], None]


def say_nothing(_what: str, _done: int, _total: int) -> None:
    """Nobody wants to know how far it is."""


class Batches(Protocol):
    """A stage's training data.

    Attributes:
        labels: (N,) class indices.
        skipped: number of layers already applied to the output of :meth:`take`.
    """

    labels: Tensor
    skipped: int

    def take(self, chosen: Tensor, epoch: int, generator: torch.Generator) -> Batch:
        """The batch of the slices with indices ``chosen`` (n,) in ``epoch``."""
        ...


class NewVariants:
    """Batches that are augmented anew each time."""

    skipped = 0

    def __init__(
        self, slices: Slices, recipe: Recipe, network: Network, distributed: Distributed
    ) -> None:
        self.labels = slices.labels
        self._slices, self._recipe = slices, recipe
        self._localises = isinstance(network, LocalisationNetwork)
        self._device = distributed.device

    def take(self, chosen: Tensor, epoch: int, generator: torch.Generator) -> Batch:
        """As in :class:`Batches`; the epoch has no effect."""
        del epoch
        slices = self._slices
        taken = Slices(
            slices.images[chosen].to(self._device).float(),
            slices.labels[chosen].to(self._device),
            slices.masks[chosen].to(self._device).float(),
            slices.known[chosen].to(self._device),
        )
        return vary(taken, self._recipe, generator, localises=self._localises)


class KeptVariants:
    """The frozen layers' outputs for ``recipe.variants`` augmented variants, stored in files.

    Each variant is one pass of the data through the frozen layers, written once in half precision
    to a memory-mapped file. Later epochs and resumed runs reuse it. The epochs cycle through the
    variants.
    """

    def __init__(
        self,
        slices: Slices,
        recipe: Recipe,
        network: Network,
        distributed: Distributed,
        folder: Path,
        told: Told = say_nothing,
    ) -> None:
        self.labels = slices.labels
        self._told = told
        self.skipped = recipe.frozen
        self._network, self._recipe, self._distributed = network, recipe, distributed
        self._folder = folder
        self._size = slices.images.shape[-1]
        folder.mkdir(parents=True, exist_ok=True)
        self._claim(slices)
        new = NewVariants(slices, recipe, network, distributed)
        for number in range(distributed.rank, recipe.variants, distributed.world_size):
            if not self._facts(number).exists():
                self._make(number, new)
        distributed.wait()
        self._variants = [self._read(number) for number in range(recipe.variants)]

    def take(self, chosen: Tensor, epoch: int, generator: torch.Generator) -> Batch:
        """As in :class:`Batches`; the generator has no effect."""
        del generator
        images, masks, facts = self._variants[epoch % len(self._variants)]
        device = self._distributed.device
        # Ascending order, for sequential disk access.
        order = np.sort(chosen.numpy())
        return Batch(
            images=torch.from_numpy(images[order]).to(device).float(),
            **{name: torch.from_numpy(facts[name][order]).to(device) for name in _FACTS},
            masks=torch.from_numpy(masks[order]).to(device).float() / 255,
        )

    def _claim(self, slices: Slices) -> None:
        """Record the inputs of the variants, so that no run uses those of another.

        Raises:
            InvalidConfiguration: the stored ones are from other data, layers or augmentations.
        """
        digest = hashlib.sha256()
        for tensor in (slices.images, slices.masks, *self._frozen_weights()):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        recipe = self._recipe
        changes: tuple[float, ...] = (recipe.seed, recipe.batch, recipe.frozen, recipe.erasing)
        changes += (recipe.elastic, recipe.parts, recipe.bright_centre, recipe.suppressed)
        exchanges = isinstance(self._network, LocalisationNetwork) or recipe.exchange
        own = (recipe.inpainted,) if exchanges else ()
        digest.update(repr((changes, own)).encode())
        note = self._folder / f"{self._size}.sha256"
        if not note.exists() and self._distributed.is_main:
            note.write_text(digest.hexdigest())
        self._distributed.wait()
        if note.read_text() != digest.hexdigest():
            raise InvalidConfiguration(
                f"{self._folder} holds variants of other slices, layers or changes: name another "
                "folder."
            )

    def _frozen_weights(self) -> list[Tensor]:
        return list(self._network.features[: self._recipe.frozen].state_dict().values())

    def _make(self, number: int, new: NewVariants) -> None:
        generator = torch.Generator().manual_seed(self._recipe.seed + 1000 * (number + 1))
        # Shuffled, because slices exchange tissue and histograms within a batch.
        order = torch.randperm(len(self.labels), generator=generator)
        batches: list[Batch] = []

        def made(chosen: Tensor) -> Tensor:
            batch = new.take(chosen, number, generator)
            masks = (batch.masks * 255).round().to(torch.uint8).cpu()
            batches.append(replace(batch, images=torch.empty(0), masks=masks))
            return frozen_part(self._network, batch.images, self._recipe.frozen)

        self._network.eval()
        words = f"variant {number + 1} at {self._size} px"
        _write(
            self._images(number),
            order,
            made,
            batch=self._recipe.batch,
            words=words,
            told=self._told,
        )
        back = torch.argsort(order)
        np.save(self._masks(number), torch.cat([one.masks for one in batches])[back].numpy())
        facts = {
            name: torch.cat([getattr(one, name) for one in batches]).cpu()[back].numpy()
            for name in _FACTS
        }
        with in_one_piece(self._facts(number)) as partial:  # last: marks completion
            np.savez(partial, allow_pickle=False, **facts)

    def _read(self, number: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        images = np.load(self._images(number), mmap_mode="r")
        masks = np.load(self._masks(number), mmap_mode="r")
        with np.load(self._facts(number)) as facts:
            return images, masks, dict(facts)

    def _images(self, number: int) -> Path:
        return self._folder / f"{self._size}-{number}.npy"

    def _masks(self, number: int) -> Path:
        return self._folder / f"{self._size}-{number}-masks.npy"

    def _facts(self, number: int) -> Path:
        return self._folder / f"{self._size}-{number}.npz"


@torch.inference_mode()
def frozen_part(network: Network, images: Tensor, layers: int) -> Tensor:
    """The output (N, C, h, w) of the first ``layers`` layers for (N, 1, S, S), float16 on CPU."""
    return network.lower(images.float(), layers).clamp(-_LARGEST, _LARGEST).half().cpu()


def _write(
    path: Path,
    order: Tensor,
    made: Callable[[Tensor], Tensor],
    *,
    batch: int,
    words: str,
    told: Told,
) -> None:
    """Write float16 (N, C, h, w); ``made`` computes the part at (n,) indices.

    Args:
        order: (N,) indices into the file, in the order of computation.
    """
    kept: np.memmap | None = None
    pieces = torch.split(order, batch)
    for number, chosen in enumerate(tqdm(pieces, words, unit="batch", disable=None), 1):
        rows = made(chosen).numpy()
        if kept is None:
            shape = (len(order), *rows.shape[1:])
            kept = np.lib.format.open_memmap(path, "w+", dtype=np.float16, shape=shape)
        kept[chosen.numpy()] = rows
        told(words, number, len(pieces))
    if kept is not None:
        kept.flush()
