"""One release from its recipe: folds, network, calibration, quantisation, figures, card and pages.

Every stage writes its result atomically to its own folder. If the folder exists, the stage is done
and a rerun continues after it. The uncertainty is fitted in float32 on the folds' predictions for
held-out groups (cross-conformal prediction: Vovk 2015, Annals of Mathematics and Artificial
Intelligence 74), or without folds on a calibration part.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml.dataset import Entry, Split, without_mirrored_twins
from ml.dataset.further import Further
from ml.dataset.parts import groups_hash, images_hash
from ml.errors import InvalidConfiguration
from ml.experiments.crossvalidation import (
    cross_validate,
    pooled,
    splits_by_hash,
    unseen_by_folds,
)
from ml.experiments.fold_files import write_whole
from ml.files import stage
from ml.release.packaging import measure_model, package, reference_features, said_unseen
from ml.release.plan import Plan
from ml.release.steps import TrainingData, make_network
from ml.reporting.crossvalidation_report import enter_in_card
from ml.reporting.pages import write_pages
from ml.serving.predictor import Predictor
from ml.training.distributed import Distributed
from ml.training.trainer import Trained
from ml.uncertainty.doubt import Doubt

_SETTINGS = "release.json"


def run_release(
    plan: Plan,
    split: Split,
    further: Further,
    *,
    folder: Path,
    distributed: Distributed,
    facts: dict[str, Any],
    command: str,
) -> Path | None:
    """Make the serving model, or resume the release that was started in ``folder``.

    Args:
        split: with folds, its calibration part is used for training, as in the folds.
        facts: further entries of the card from the caller.
        command: the command line, for card and pages.

    Returns:
        The card's path; None in all processes but the main one.

    Raises:
        InvalidConfiguration: ``folder`` holds a release of another recipe or of other data.
    """
    if plan.folds > 1:
        split = replace(split, training=split.training + split.calibration, calibration=[])
    if distributed.is_main:
        _claim(folder, plan, split, further)
    distributed.wait()
    summary, names = _folds(plan, split, further, folder / "folds", distributed)
    watched = split.calibration or split.validation  # it is logged, and chooses nothing
    data = TrainingData(without_mirrored_twins(split.training), further.entries, watched)
    trained = make_network(plan, data, folder=folder / "steps", distributed=distributed)
    if not distributed.is_main:
        return None
    recipe = plan.serving
    stem = recipe.architecture

    def calibrate(where: Path) -> None:
        known = facts | {"training": plan.training(plan.steps[-1].name)} | _calibrated(summary)
        doubt = _doubt(plan, trained, split, folder / "folds", names)
        package(trained, recipe, split, folder=where, stem=stem, facts=known, doubt=doubt)

    def measure(where: Path) -> None:
        shutil.copytree(folder / "calibrated", where, dirs_exist_ok=True)
        made = where / f"{stem}.json"
        measure_model(made, split, quantised=plan.quantised)
        if summary:
            taught = replace(recipe, stages=plan.stages)
            enter_in_card(summary, taught, made, by="group", command=command)

    def describe(where: Path) -> None:
        _part, measured = split.measured
        write_pages(
            Predictor.load(card),
            measured,
            page=where / "model.md",
            tables=where / "model-tables.md",
            gallery=where / "failures.png",
            command=command,
        )

    card = folder / "model" / f"{stem}.json"
    stage(folder / "calibrated", calibrate)
    stage(folder / "model", measure)
    stage(folder / "pages", describe)
    return card


def _folds(
    plan: Plan, split: Split, further: Further, folder: Path, distributed: Distributed
) -> tuple[dict[str, Any], list[str]]:
    """Figures of the recipe's cross-validation and names of its folds; both empty without folds."""
    if plan.folds < 2:
        return {}, []
    splits = splits_by_hash(split.training, folds=plan.folds, seed=plan.seed)
    done = cross_validate(
        splits,
        plan.serving,
        folder=folder,
        distributed=distributed,
        also=further.entries,
        plan=plan,
    )
    return (pooled(done) if distributed.is_main else {}), list(splits)


def _doubt(plan: Plan, trained: Trained, split: Split, folds: Path, names: list[str]) -> Doubt:
    recipe = plan.serving
    reference = reference_features(trained.network, recipe, split.training, exact=True)
    if names:
        return Doubt.fit(unseen_by_folds(folds, names), reference)
    said = said_unseen(trained.network, recipe, reference, split.calibration, exact=True)
    return Doubt.fit(said, reference)


def _calibrated(summary: dict[str, Any]) -> dict[str, Any]:
    """The card's entry about the source of the calibration if it is another model's."""
    if not summary:
        return {}
    told = {
        "calibrated_on": "answers of a cross-validation's folds about groups that they had not "
        "learnt from",
        "slices": summary["n"],
        "groups": summary["groups"],
    }
    return {"calibration": told}


def _claim(folder: Path, plan: Plan, split: Split, further: Further) -> None:
    """Record the release that the folder belongs to, so that two releases cannot share it."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "training": split.training,
        "calibration": split.calibration,
        "validation": split.validation,
        "further": further.entries,
    }
    settings = {
        "recipe": plan.settings(),
        "parts": {name: _content(part) for name, part in parts.items()},
    }
    wanted = json.loads(json.dumps(settings))  # tuples become lists, as in the stored file
    note = folder / _SETTINGS
    if note.exists():
        _check(folder, json.loads(note.read_text(encoding="utf-8")), wanted)
    write_whole(note, json.dumps(wanted, indent=2).encode())


def _check(folder: Path, before: dict[str, Any], wanted: dict[str, Any]) -> None:
    if before["recipe"] != wanted["recipe"]:
        raise InvalidConfiguration(
            f"{folder} holds a release of another recipe: name another folder."
        )
    for name, content in wanted["parts"].items():
        if before["parts"][name] != content:
            raise InvalidConfiguration(
                f"Images, labels, outlines or groups of the {name} part have changed since the "
                f"release in {folder} was begun: name another folder."
            )


def _content(part: list[Entry]) -> dict[str, str]:
    outlines = sorted(str((one.path.name, one.outline, one.box)) for one in part)
    return {
        "groups_sha256": groups_hash(one.group for one in part),
        "images_sha256": images_hash(part),
        "outlines_sha256": hashlib.sha256("\n".join(outlines).encode()).hexdigest(),
    }
