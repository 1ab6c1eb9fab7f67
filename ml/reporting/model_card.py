"""A page with all tables of a model's card, and a gallery of its mistakes.

:mod:`ml.reporting.model_page` writes the short page that links to it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ml.dataset.pixels import pixels_of
from ml.evaluation.evaluation import Observed
from ml.imaging.pictures import encode_png
from ml.labels import DECISION_THRESHOLD
from ml.reporting.crossvalidation_report import (
    LEFT_OUT,
    calibrated_by_others,
    calibrated_on_others_section,
)
from ml.reporting.figure_tables import confusion_section, figures_table, parts_section
from ml.reporting.measured_sections import measured_sections
from ml.serving.explain import blend

_TILE = 192  # px, side of a slice in the gallery
_COLUMNS = 4
_MOST_FAILURES = 12
_LINE = 18  # px, height of a line of text in the gallery

Picture = npt.NDArray[np.uint8]


def write_tables(card: dict[str, Any], path: Path, *, gallery: str | None, command: str) -> None:
    """Write the page as Markdown.

    Args:
        gallery: path of the picture of mistakes, relative to the page; None to omit it.
        command: the command line that made the figures and the page.
    """
    sections = [
        _head(card, command),
        _data(card),
        _figures(card),
        confusion_section(card["metrics"]),
        parts_section(card["metrics"]),
        _studies(card["metrics"]),
        _engines(card),
        *measured_sections(card),
        _cross_validations(card),
        _failures(card["metrics"], gallery),
        _limits(card),
        _training(card),
    ]
    path.write_text("\n\n".join(part for part in sections if part) + "\n", encoding="utf-8")


def failure_gallery(observed: Sequence[Observed]) -> bytes | None:
    """PNG of the most confident mistakes with their heatmaps; None if there are none."""
    wrong = [one for one in observed if not one.right]
    wrong.sort(key=lambda one: -one.result.probabilities[one.result.label])
    tiles = [_tile(one) for one in _one_of_each_group(wrong)[:_MOST_FAILURES]]
    if not tiles:
        return None
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[n : n + _COLUMNS]) for n in range(0, len(tiles), _COLUMNS)]
    return encode_png(np.vstack(rows))


def _one_of_each_group(observed: Sequence[Observed]) -> list[Observed]:
    kept: dict[str, Observed] = {}
    for one in observed:
        kept.setdefault(one.entry.group, one)
    return list(kept.values())


def _tile(one: Observed) -> Picture:
    pixels = pixels_of(one.entry)
    picture = cv2.resize(blend(pixels, one.result.heat), (_TILE, _TILE))
    said = one.result.label
    words = [f"is {one.entry.label}", f"said {said} {one.result.probabilities[said]:.0%}"]
    caption = np.zeros((_LINE * len(words) + 6, _TILE, 3), np.uint8)
    for number, line in enumerate(words):
        place = (4, _LINE * (number + 1) - 4)
        cv2.putText(
            caption, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255,) * 3, 1, cv2.LINE_AA
        )
    return np.asarray(np.vstack([picture, caption]), dtype=np.uint8)


def _head(card: dict[str, Any], command: str) -> str:
    weights = card["weights"]
    return (
        f"# Tables of the model: {card['name']}\n\n"
        f"{card['intended_use']}\n\n"
        f"Network `{card['architecture']}`, input {card['input']['size']} px, preprocessing "
        f"`{card['input']['preprocessing']}`, weights `{'`, `'.join(weights['files'])}` "
        f"({sum(weights['bytes']) / 1e6:.0f} MB, SHA-256 `{weights['sha256'][:16]}…`), "
        f"made {card['created']}.\n\nThis page was written by\n\n```\n{command}\n```"
    )


def _data(card: dict[str, Any]) -> str:
    split = card["split"]
    rows = [
        f"| {name} | {split[name]['slices']} | {split[name]['groups']} |"
        for name in ("training", "calibration", "validation")
    ]
    return (
        f"## Data\n\nSplit by {split['by']}.\n\n| part | slices | groups |\n"
        "|---|---|---|\n" + "\n".join(rows)
    )


def _figures(card: dict[str, Any]) -> str:
    metrics = card["metrics"]
    seen = (
        " No weight learnt from them; offsets and doubt were fitted on them, so that "
        "the cross-validation tells more about both."
        if metrics["part"] == "calibration"
        else ""
    )
    least = card["doubt"].get("no_tumor_from", DECISION_THRESHOLD)
    called_no_tumor = (
        f" A slice is called no tumour where that has a probability of {least:.2f} or more, "
        "otherwise the likeliest tumour (docs/research/notes/0022)."
    )
    return (
        f"## Figures on the {metrics['part']} part\n\n{metrics['n']} slices of "
        f"{metrics['groups']} groups, engine {metrics['engine']}; intervals by bootstrap over "
        f"groups.{seen}{called_no_tumor}\n\n{figures_table(metrics)}"
    )


def _studies(metrics: dict[str, Any]) -> str:
    if "studies" not in metrics:
        return ""
    own, mixed = metrics["studies"], metrics["mixed"]
    return (
        "## Studies\n\nEach group of slices as one study of single pictures, answered as the "
        "portal answers an upload; and every two groups with different tumours, as if two "
        "patients had been mixed up in one (docs/research/notes/0024, 0026).\n\n"
        "| figure | value |\n|---|---|\n"
        f"| class of the study right | {own['right']} of {own['n']} |\n"
        f"| class in the study's prediction set | {own['covered']} of {own['n']} |\n"
        f"| mean size of the sets | {own['mean_set_size']:.2f} |\n"
        f"| certain of one class, and right | {own['certain_and_right']} of {own['certain']} |\n"
        f"{_tumors_of_studies(own)}"
        f"| contradicted by slices of their own | {own['contradicted']} of {own['n']} |\n"
        f"| mixed up: certain of one class | {mixed['certain']} of {mixed['n']} |\n"
        f"| mixed up: both tumours in the set | {mixed['covered']} of {mixed['n']} |"
    )


def _tumors_of_studies(own: dict[str, Any]) -> str:
    """Rows of newer counts; empty for old cards without them."""
    words = {
        "tumor_found": "a tumour, called a tumour of any kind",
        "tumor_free_cleared": "no tumour, called none",
    }
    return "".join(
        f"| {told} | {own[key]['n']} of {own[key]['of']} |\n"
        for key, told in words.items()
        if key in own
    )


def _engines(card: dict[str, Any]) -> str:
    exact = card["metrics"].get("float32")
    if exact is None:
        return ""
    return (
        "## Precision\n\n"
        f"The same slices by torch in float32: accuracy {exact['accuracy']:.4f} (serving engine "
        f"{card['metrics']['accuracy']:.4f}), the same class in {exact['same_label']:.2%}."
    )


def _cross_validations(card: dict[str, Any]) -> str:
    made = card.get("cross_validations", {})
    if not made:
        return ""
    parts = [
        "## Cross-validation\n\nOther networks, trained anew for each fold, and not the one that "
        "serves: what to expect of its kind on patients and sources that it has not seen."
    ]
    for by, figures in made.items():
        folds = ", ".join(f"{one:.3f}" for one in figures["accuracy_by_fold"].values())
        parts.append(
            f"### By {by}\n\n`{figures['architecture']}`, {figures['epochs']} epochs from "
            f"{figures['start']}. Kept away from each fold's training: {LEFT_OUT[by]}. "
            f"{figures['n']} slices of {figures['groups']} groups; accuracy of the folds {folds}."
            f"\n\n{calibrated_by_others(figures)}```\n{figures['command']}\n```\n\n{figures_table(figures)}"
        )
        if others := calibrated_on_others_section(figures):
            parts.append(f"#{others}")
    return "\n\n".join(parts)


def _failures(metrics: dict[str, Any], gallery: str | None) -> str:
    if gallery is None:
        return ""
    return (
        "## Where it was wrong\n\nThe most confident mistakes of the "
        f"{metrics['part']} part, one of each group, with the heatmap of what was said.\n\n"
        f"![Mistakes with heatmaps]({gallery})"
    )


def _limits(card: dict[str, Any]) -> str:
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in card["limits"])


def _training(card: dict[str, Any]) -> str:
    return f"## How it was trained\n\n```json\n{json.dumps(card['training'], indent=2)}\n```"
