"""The report of a cross-validation as a Markdown page."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ml.registry import read_card, write_card
from ml.reporting.figure_tables import confusion_section, figures_table, parts_section
from ml.training.recipe import Recipe

# What is left out of each fold's training, by the kind of folds.
LEFT_OUT = {
    "group": "one part of the patients and clusters of copies at a time",
    "source": "all slices of one source",
    "against-source": "the tumours of every source that holds slices with a tumour and slices "
    "without. Only such sources are measured: there the source tells the wrong class, and what "
    "has learnt sources instead of tumours finds none",
}


def enter_in_card(
    figures: dict[str, Any], recipe: Recipe, path: Path, *, by: str, command: str
) -> None:
    """Add the figures to a model's card, for its page.

    They belong to networks of the same kind that were trained for the folds. An earlier entry of
    the same kind of folds is replaced.

    Args:
        figures: from :func:`ml.experiments.crossvalidation.pooled`.
        path: the card.
        by: a key of :data:`LEFT_OUT`.
    """
    card = read_card(path)
    made = {"architecture": recipe.architecture, "epochs": recipe.epochs, "command": command}
    card.setdefault("cross_validations", {})[by] = made | figures
    write_card(card, path)


def write_report(
    figures: dict[str, Any], recipe: Recipe, path: Path, *, by: str, command: str
) -> None:
    """Write the page as Markdown.

    Args:
        figures: of :func:`ml.experiments.crossvalidation.pooled`.
        by: a key of :data:`LEFT_OUT`.
        command: the command line that made the figures and the page.
    """
    sections = [
        _head(figures, recipe.architecture, by, command),
        _folds(figures),
        "## All slices together\n\n"
        f"{figures['n']} slices of {figures['groups']} groups; intervals by bootstrap over "
        f"groups.\n\n{figures_table(figures)}",
        calibrated_on_others_section(figures),
        confusion_section(figures),
        parts_section(figures),
        f"## Recipe\n\n```json\n{_without_folders(recipe)}\n```",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(part for part in sections if part) + "\n", encoding="utf-8")


def summary(figures: dict[str, Any]) -> str:
    """A summary of the page in three lines."""
    low, high = figures["intervals_95"]["accuracy"]
    pointing = figures["pointing_game"]
    missed = figures["tumor_called_no_tumor"]
    tumors = (
        "No tumour was shown"
        if missed is None or math.isnan(missed)
        else f"{missed:.1%} of the tumours are called no tumour"
    )
    heat = (
        f"The hottest spot of the heatmap lies in the tumour's box in {pointing['rate']:.1%} of "
        f"{pointing['n']} slices."
        if pointing["n"]
        else "No tumour's box is known here, so nothing is said about heatmaps."
    )
    return (
        f"> Of {figures['n']} slices of {figures['groups']} groups {figures['accuracy']:.1%} are "
        f"called the right class ({100 * low:.1f} to {100 * high:.1f}).\n"
        f"> {tumors}; the sets hold the right class in {figures['coverage']:.1%}, with "
        f"{figures['mean_set_size']:.2f} classes.\n> {heat}"
    ).replace("%", " %")


def calibrated_by_others(figures: dict[str, Any]) -> str:
    """A paragraph about folds without their own calibration part; empty for other folds."""
    if not figures.get("calibrated_by_others"):
        return ""
    return (
        "Offsets, temperature, thresholds of the sets, the least probability of no tumour and the "
        "limit of what is familiar were fitted, for each fold, to what the other folds' networks "
        "said about the patients that they had not seen. No patient is calibrated on and measured "
        "at once.\n\n"
    )


def calibrated_on_others_section(figures: dict[str, Any]) -> str:
    """A section with the figures of folds calibrated on the others."""
    others = figures.get("calibrated_on_others")
    if others is None:
        return ""
    return (
        "### Calibrated on the other folds\n\nThe same networks, each with offsets, temperature, "
        "thresholds of its sets and least probability of no tumour fitted to what the other folds' "
        "networks said about the patients that they had not seen: many more than a fold's own "
        "calibration part holds. No patient is calibrated on and measured at once.\n\n"
        + figures_table(others)
    )


def _head(figures: dict[str, Any], architecture: str, by: str, command: str) -> str:
    kind = "" if by == "group" else f"Kept away from each fold's training: {LEFT_OUT[by]}.\n\n"
    return (
        f"# Cross-validation of {architecture}, by {by}\n\n{summary(figures)}\n\n"
        "Research software, not a certified medical device.\n\n"
        "Every slice was answered once, by a model that had seen no slice of its group (a patient, "
        "or near-copies), neither for its weights nor for its calibration. Each fold's model is a "
        f"new one; none of them is the model that serves. All started from {figures['start']}.\n\n"
        f"{kind}{calibrated_by_others(figures)}This page was written by\n\n```\n{command}\n```"
    )


def _folds(figures: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {accuracy:.3f} |" for name, accuracy in figures["accuracy_by_fold"].items()
    ]
    deviation = figures["accuracy_deviation"]
    spread = "" if deviation is None else f" ± {deviation:.3f} (standard deviation)"
    return (
        "## Folds\n\n| fold | accuracy |\n|---|---|\n"
        + "\n".join(rows)
        + f"\n\nMean {figures['accuracy_mean']:.3f}{spread}."
    )


def _without_folders(recipe: Recipe) -> str:
    """The recipe as JSON; a starting file is reduced to its name."""
    return json.dumps(asdict(recipe) | {"start": Path(recipe.start).name}, indent=2)
