"""Cross-validation: every slice is classified by a model that was not trained on its group.

Like a released model, a fold is trained, calibrated on its calibration groups and measured on its
validation groups. Finished parts are stored in the folder, and a rerun continues from there. Folds
without calibration groups are trained on more patients; once all are trained, each is calibrated
on the answers of the others about their validation groups.

The answers about the validation groups of all folds form a calibration part with every patient
(cross-conformal prediction: Vovk 2015, Annals of Mathematics and Artificial Intelligence 74). It
is evaluated by calibrating each fold on the others.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ml.dataset import (
    Entry,
    Split,
    folds_against_source,
    folds_by_group,
    folds_by_hash,
    without_mirrored_twins,
)
from ml.errors import InvalidConfiguration
from ml.evaluation.evaluation import (
    Answer,
    Pointed,
    accuracy,
    chances_and_classes,
    summarise_answers,
)
from ml.experiments.fold_files import SETTINGS, answers_file, claim, unseen_file, write_whole
from ml.labels import Label, decide
from ml.registry import load_model
from ml.release.packaging import reference_features, release, said_unseen
from ml.release.plan import Plan
from ml.release.steps import TrainingData, make_network
from ml.training.distributed import Distributed
from ml.training.recipe import Recipe
from ml.training.trainer import Trained, train
from ml.uncertainty.calibration import Calibration
from ml.uncertainty.doubt import Doubt, Unseen

_CALIBRATION_PARTS = 8  # one in so many parts of the data outside the left-out source


@dataclass(frozen=True)
class Fold:
    """A measured fold.

    Attributes:
        start: description of its starting weights.
        answers: about each slice of its validation part.
        calibration: the calibration from the network's logits to the answers' probabilities.
        by_others: whether the calibration was fitted to the other folds' answers instead of the
            fold's own calibration groups.
    """

    name: str
    start: str
    answers: list[Answer]
    calibration: Calibration
    by_others: bool = False

    def logits(self) -> Tensor:
        """(N, 4) float64 logits before calibration, up to a constant."""
        probabilities, _ = chances_and_classes(self.answers)
        logs = torch.from_numpy(probabilities).clamp(min=1e-30).log()
        offsets = torch.tensor(self.calibration.offsets, dtype=torch.float64)
        return logs * self.calibration.temperature - offsets

    def labels(self) -> Tensor:
        """(N,) class indices."""
        return torch.from_numpy(chances_and_classes(self.answers)[1])


def splits_by_group(
    entries: list[Entry], *, folds: int, seed: int, calibrated_apart: bool = True
) -> dict[str, Split]:
    """Parts by fold name (``fold-1`` …); see :func:`ml.dataset.folds_by_group`."""
    dealt = folds_by_group(entries, folds=folds, seed=seed, calibrated_apart=calibrated_apart)
    return {f"fold-{number}": split for number, split in enumerate(dealt, 1)}


def splits_by_hash(entries: list[Entry], *, folds: int, seed: int) -> dict[str, Split]:
    """Parts by fold name (``fold-1`` …); see :func:`ml.dataset.folds_by_hash`."""
    dealt = folds_by_hash(entries, folds=folds, seed=seed)
    return {f"fold-{number}": split for number, split in enumerate(dealt, 1)}


def splits_by_source(entries: list[Entry], *, seed: int) -> dict[str, Split]:
    """Parts named ``without-SOURCE``: the source is the validation part and in no other part.

    Raises:
        InvalidConfiguration: all entries come from one source.
    """
    sources = sorted({_source(entry) for entry in entries})
    if len(sources) < 2:
        raise InvalidConfiguration("All slices come from one source, so none can be left out.")
    splits = {}
    for source in sources:
        held_out = [entry for entry in entries if _source(entry) == source]
        groups = {entry.group for entry in held_out}
        rest = [entry for entry in entries if entry.group not in groups]
        first = folds_by_group(rest, folds=_CALIBRATION_PARTS, seed=seed)[0]
        splits[f"without-{source}"] = Split(
            training=first.training + first.calibration,
            calibration=first.validation,
            validation=held_out,
        )
    return splits


def splits_against_source(entries: list[Entry], *, folds: int, seed: int) -> dict[str, Split]:
    """Parts named ``against-source-1`` …; see :func:`ml.dataset.folds_against_source`.

    Raises:
        InvalidConfiguration: no source has both slices with and without a tumour.
    """
    dealt = folds_against_source(folds_by_group(entries, folds=folds, seed=seed))
    if not dealt:
        raise InvalidConfiguration("No source holds both slices with a tumour and slices without.")
    return {f"against-source-{number}": split for number, split in enumerate(dealt, 1)}


def cross_validate(
    splits: dict[str, Split],
    recipe: Recipe,
    *,
    folder: Path,
    distributed: Distributed,
    also: Sequence[Entry] = (),
    only: Collection[int] | None = None,
    plan: Plan | None = None,
) -> list[Fold]:
    """Train and measure every unfinished fold, or only those with the numbers ``only``.

    A finished cross-validation can be extended: with further epochs at the end of its recipe,
    training of every fold continues, and it is measured again.

    Args:
        also: further training slices for every fold; never used for measurement.
        only: numbers of folds, from 1.
        plan: the steps that make every fold's network; ``recipe`` is then its serving recipe.
        folder: receives one folder per fold with checkpoint, model, log and ``answers.json``.

    Returns:
        All finished folds.

    Raises:
        InvalidConfiguration: ``folder`` has another cross-validation, a fold does not exist, or
            the recipe starts from a model that was trained on slices of nearly every fold.
    """
    if recipe.starting_model is not None:
        raise InvalidConfiguration(
            f"The model {recipe.start} has learnt from slices that the folds measure: start from "
            "imagenet, scratch, or weights of other data."
        )
    wanted = set(range(1, len(splits) + 1) if only is None else only)
    if strange := sorted(wanted - set(range(1, len(splits) + 1))):
        raise InvalidConfiguration(f"There is no fold {strange[0]}, only 1 to {len(splits)}.")
    if distributed.is_main:
        claim(folder, splits, recipe, also, plan)
    distributed.wait()
    for number, (name, split) in enumerate(splits.items(), 1):
        kept = answers_file if split.calibration else unseen_file
        if number in wanted and not kept(folder, name).exists():
            trained = _train_fold(split, recipe, folder / name, distributed, also, plan)
            if distributed.is_main and split.calibration:
                _measure_fold(name, split, trained, recipe, folder)
            elif distributed.is_main:
                _keep_unseen(split, trained, recipe, unseen_file(folder, name))
            distributed.wait()
    if all(unseen_file(folder, name).exists() for name in splits):
        _calibrate_by_others(splits, recipe, folder, distributed, also, plan)
    return [_read(folder, name) for name in splits if answers_file(folder, name).exists()]


def pooled(folds: list[Fold]) -> dict[str, Any]:
    """The figures of all answers, with bootstrap intervals over groups, in total and by fold.

    With more than one fold there is also ``calibrated_on_others``: the figures with each fold
    calibrated on the answers of all others, unless all folds are already.
    """
    by_fold = {fold.name: accuracy(fold.answers) for fold in folds}
    accuracies = list(by_fold.values())
    by_others = folds[0].by_others
    others = {}
    if len(folds) > 1 and not by_others:
        others = {"calibrated_on_others": summarise_answers(_answers(calibrated_on_others(folds)))}
    return (
        summarise_answers(_answers(folds))
        | others
        | {
            "start": folds[0].start,
            "calibrated_by_others": by_others,
            "accuracy_by_fold": by_fold,
            "accuracy_mean": float(np.mean(accuracies)),
            "accuracy_deviation": float(np.std(accuracies, ddof=1)) if len(folds) > 1 else None,
        }
    )


def calibration_of(folds: Sequence[Fold]) -> Calibration:
    """The calibration fitted to the folds' answers about their validation groups."""
    return Calibration.fit(
        torch.cat([fold.logits() for fold in folds]), torch.cat([fold.labels() for fold in folds])
    )


def calibrated_on_others(folds: Sequence[Fold]) -> list[Fold]:
    """The folds with probabilities and prediction sets calibrated on all other folds."""
    return [
        _calibrated(fold, calibration_of([other for other in folds if other is not fold]))
        for fold in folds
    ]


def finished_folds(folder: Path) -> list[Fold]:
    """The folds of the cross-validation in ``folder``.

    Raises:
        InvalidConfiguration: there is none, or some of its folds are unfinished.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return [_read(folder, name) for name in settings["folds"]]
    except FileNotFoundError as error:
        raise InvalidConfiguration(f"{folder} holds no finished cross-validation.") from error


def _calibrated(fold: Fold, calibration: Calibration) -> Fold:
    probabilities = calibration.probabilities(fold.logits()).numpy()
    labels = [calibration.label(row) for row in probabilities]
    answers = [
        replace(
            answer,
            called=label,
            probabilities=tuple(row.tolist()),
            prediction_set=calibration.prediction_set(row, label),
        )
        for answer, row, label in zip(fold.answers, probabilities, labels, strict=True)
    ]
    return replace(fold, answers=answers, calibration=calibration)


def _answers(folds: Sequence[Fold]) -> list[Answer]:
    return [answer for fold in folds for answer in fold.answers]


def _train_fold(
    split: Split,
    recipe: Recipe,
    folder: Path,
    distributed: Distributed,
    also: Sequence[Entry],
    plan: Plan | None,
) -> Trained:
    """The fold's network; loaded if its training is finished."""
    watched = split.calibration or split.validation  # only logged, not used for selection
    if plan is not None:
        data = TrainingData(without_mirrored_twins(split.training), also, watched)
        return make_network(plan, data, folder=folder, distributed=distributed)
    training = [*without_mirrored_twins(split.training), *also]
    return train(recipe, training, watched, folder=folder, distributed=distributed)


def _measure_fold(
    name: str,
    split: Split,
    trained: Trained,
    recipe: Recipe,
    folder: Path,
    doubt: Doubt | None = None,
) -> None:
    made = release(
        trained,
        recipe,
        split,
        folder=folder / name,
        stem="model",
        facts={"fold": name},
        quantised=False,
        doubt=doubt,
    )
    content = {
        "start": trained.start,
        "calibration": asdict(load_model(made.card).doubt.calibration),
        "by_others": doubt is not None,
        "answers": [asdict(Answer.of(one)) for one in made.observed],
    }
    write_whole(answers_file(folder, name), json.dumps(content).encode())


def _keep_unseen(split: Split, trained: Trained, recipe: Recipe, file: Path) -> None:
    """Store the float32 outputs of the fold's network for its validation part.

    They calibrate other folds, which may serve in another precision than that of training.
    """
    network = trained.network
    reference = reference_features(network, recipe, split.training, exact=True)
    unseen = said_unseen(network, recipe, reference, split.validation, exact=True)
    write_whole(file, save({"reference": reference, **vars(unseen)}))


def _calibrate_by_others(
    splits: dict[str, Split],
    recipe: Recipe,
    folder: Path,
    distributed: Distributed,
    also: Sequence[Entry],
    plan: Plan | None,
) -> None:
    """Measure the trained folds that are not measured yet."""
    for name, split in splits.items():
        if answers_file(folder, name).exists():
            continue
        trained = _train_fold(split, recipe, folder / name, distributed, also, plan)
        if distributed.is_main:
            doubt = _doubt_of_others(folder, name, list(splits))
            _measure_fold(name, split, trained, recipe, folder, doubt)
        distributed.wait()


def _doubt_of_others(folder: Path, name: str, names: Sequence[str]) -> Doubt:
    """Uncertainty fitted to the outputs of all other folds for their validation parts."""
    own = load_file(unseen_file(folder, name))["reference"]
    return Doubt.fit(unseen_by_folds(folder, [other for other in names if other != name]), own)


def unseen_by_folds(folder: Path, names: Sequence[str]) -> Unseen:
    """Outputs of trained folds without calibration parts for their validation parts."""
    kept = [load_file(unseen_file(folder, name)) for name in names]
    return Unseen.together([Unseen(one["logits"], one["labels"], one["distances"]) for one in kept])


def _read(folder: Path, name: str) -> Fold:
    content = json.loads(answers_file(folder, name).read_text(encoding="utf-8"))
    answers = [_answer(one) for one in content["answers"]]
    kept = {name: _tupled(value) for name, value in content["calibration"].items()}
    by_others = content.get("by_others", False)
    return Fold(name, content["start"], answers, Calibration(**kept), by_others)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _answer(kept: dict[str, Any]) -> Answer:
    return Answer(
        **kept
        | {
            "label": Label(kept["label"]),
            # Old answers lack the predicted class: decide at one half.
            "called": Label(kept.get("called") or decide(kept["probabilities"])),
            "probabilities": tuple(kept["probabilities"]),
            "prediction_set": tuple(Label(one) for one in kept["prediction_set"]),
            "pointed": kept["pointed"] and Pointed(**kept["pointed"]),
        }
    )


def _source(entry: Entry) -> str:
    return entry.source or "unknown"
