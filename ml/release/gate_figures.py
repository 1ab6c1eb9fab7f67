"""What the gates judge by: both models' answers, each slice answered once, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ml.dataset import Entry
from ml.dataset.further import without_held_out
from ml.dataset.parts import has_lists
from ml.dataset.reference import Reference
from ml.dataset.snapshot import Snapshot
from ml.evaluation.evaluation import Answer, answer, count_same_label, summarise_answers
from ml.evaluation.ood.collection import read_collection
from ml.evaluation.ood.measuring import measure_ood, measure_out_of_scope
from ml.evaluation.side_by_side import peak_memory, times_as_slow
from ml.registry import Model, load_model
from ml.serving.engines import Engine, TorchEngine, choose_device, choose_engine
from ml.serving.predictor import Predictor


@dataclass(frozen=True)
class Site:
    """One model's answers about labelled slices of one origin, and their figures."""

    answers: list[Answer]

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Of :func:`ml.evaluation.evaluation.summarise_answers`."""
        return summarise_answers(self.answers)


@dataclass(frozen=True)
class Answers:
    """All that one model said.

    Attributes:
        local: about the slices that the snapshot holds out; None where it holds out nothing.
        healthy: about the healthy head of another hospital.
        pictures: how many of ``n`` pictures that are no brain MRI were ``flagged``.
        out_of_scope: the same of the snapshot's slices of none of the classes; None without any.
    """

    reference: Site
    local: Site | None
    healthy: list[Answer]
    pictures: dict[str, Any]
    out_of_scope: dict[str, Any] | None = None


@dataclass(frozen=True)
class Engines:
    """The engine that serves the candidate beside torch in float32, on the same slices."""

    name: str
    said: list[Answer]
    exact: list[Answer]

    @property
    def same(self) -> int:
        """In how many slices both say the same class."""
        return count_same_label(self.said, self.exact)


@dataclass(frozen=True)
class Evidence:
    """Candidate beside incumbent.

    Attributes:
        times_as_slow: the candidate over the incumbent.
        memory: peak bytes of a process with the candidate, and of one with the incumbent.
        learnt_copies: slices that the candidate learnt from and that copy what it is judged on.
        learnt_groups: groups of the reference set that the candidate's card does not hold out.
    """

    candidate: Answers
    incumbent: Answers
    engines: Engines
    times_as_slow: float
    memory: tuple[int, int]
    learnt_copies: dict[str, str]
    learnt_groups: list[str]


@dataclass(frozen=True)
class _Loaded:
    card: Path
    model: Model
    engine: Engine

    @property
    def size(self) -> int:
        return int(self.model.card["input"]["size"])


def gather(
    candidate: Path,
    incumbent: Path,
    snapshot: Snapshot,
    reference: Reference,
    *,
    device: str,
    engine_slices: int,
) -> Evidence:
    """Ask both models about everything once.

    Args:
        candidate, incumbent: cards.
        engine_slices: how many slices the candidate answers in float32, too.

    Raises:
        InvalidModel, InvalidManifest: a model or a list is damaged.
        UnreadableImage: a slice cannot be read or classified.
    """
    new, old = _load(candidate, device), _load(incumbent, device)
    pace = times_as_slow(new.engine, new.size, old.engine, old.size)
    said = _ask(new, snapshot, reference)
    return Evidence(
        candidate=said,
        incumbent=_ask(old, snapshot, reference),
        engines=_engines(new, said, [*reference.slices, *snapshot.holdout], engine_slices),
        times_as_slow=pace,
        memory=(peak_memory(candidate, device=device), peak_memory(incumbent, device=device)),
        learnt_copies=learnt_copies(new.model.card, snapshot, reference.held_out),
        learnt_groups=learnt_groups(new.model.card, reference),
    )


def learnt_copies(
    card: dict[str, Any], snapshot: Snapshot, reference: Sequence[Entry]
) -> dict[str, str]:
    """What a candidate learnt from that copies what it is judged on: hash of the file -> how.

    Args:
        card: a retrained model's lists the hashes of what it learnt from. Of one that does not,
            every training slice of the snapshot counts as learnt.
    """
    listed = card.get("snapshot", {}).get("learnt", {}).get("image_hashes")
    held_out = [*snapshot.holdout, *reference]
    hashes = set(listed or ())
    judged = {one.file_hash for one in held_out}
    found = dict.fromkeys(hashes & judged, "the file itself")
    learnt = [one for one in snapshot.training if listed is None or one.sha256 in hashes]
    dropped = without_held_out(learnt, held_out).dropped
    return found | {path.stem: why for path, why in dropped.items()}


def learnt_groups(card: dict[str, Any], reference: Reference) -> list[str]:
    """Groups of the reference set that a model trained from published weights did not hold out.

    The card of a retrained model lists the parts of its snapshot instead; the model that it was
    retrained from held them out.
    """
    split = card.get("split", {})
    if "retrained_from" in card or not has_lists(split):
        return []
    names = {entry.group for entry in reference.slices}
    return sorted(names - set(split.get("validation", {}).get("group_names", [])))


def _load(card: Path, device: str) -> _Loaded:
    model = load_model(card)
    return _Loaded(card, model, choose_engine(model, choose_device(device)))


def _ask(loaded: _Loaded, snapshot: Snapshot, reference: Reference) -> Answers:
    predictor = Predictor(loaded.model, loaded.engine)
    pictures = read_collection(reference.pictures)
    return Answers(
        reference=Site(answer(predictor, reference.slices)),
        local=Site(answer(predictor, snapshot.holdout)) if snapshot.holdout else None,
        healthy=answer(predictor, reference.healthy),
        pictures=measure_ood(predictor, pictures, [], [])["ood"],
        out_of_scope=measure_out_of_scope(predictor, snapshot.out_of_scope)
        if snapshot.out_of_scope
        else None,
    )


def _engines(loaded: _Loaded, said: Answers, entries: list[Entry], wanted: int) -> Engines:
    """Compare on evenly spaced slices of all that were answered."""
    answers = said.reference.answers + (said.local.answers if said.local else [])
    step = -(-len(entries) // wanted)
    # An engine of its own network: torch engines change their network's precision.
    network = load_model(loaded.card).network
    exact = TorchEngine(network, device=torch.device("cpu"), dtype=torch.float32)
    if exact.name == loaded.engine.name:
        return Engines(exact.name, answers[::step], answers[::step])
    predictor = Predictor(loaded.model, exact)
    return Engines(loaded.engine.name, answers[::step], answer(predictor, entries[::step]))
