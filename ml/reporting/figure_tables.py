"""Markdown tables of an evaluation's figures, shared by all pages."""

import math
from typing import Any

from ml.labels import LABELS


def figures_table(metrics: dict[str, Any]) -> str:
    """A table of :func:`ml.evaluation.evaluation.summarise`, with intervals if available."""
    intervals = metrics["intervals_95"]

    def between(name: str) -> str:
        if name not in intervals:
            return ""
        low, high = intervals[name]
        return f"{low:.3f} to {high:.3f}"

    pointing = metrics["pointing_game"]
    quarters = ", ".join(f"{rate:.2f}" for rate in pointing["rate_by_size_quarter"])
    rows = [
        ("accuracy", f"{metrics['accuracy']:.3f}", between("accuracy")),
        ("balanced accuracy", f"{metrics['balanced_accuracy']:.3f}", between("balanced_accuracy")),
        *(
            (
                f"recall, {label}",
                _recall(metrics["per_class"][label]),
                between(f"recall_{label}"),
            )
            for label in LABELS
        ),
        ("tumours called no tumour", _shown(metrics["tumor_called_no_tumor"]), ""),
        ("area under the curve, tumour or not", _shown(metrics["auroc_tumor"], 4), ""),
        ("expected calibration error", f"{metrics['ece']:.3f}", ""),
        ("negative log-likelihood", f"{metrics['nll']:.3f}", ""),
        ("coverage of the 95 % sets", f"{metrics['coverage']:.3f}", ""),
        *(
            (f"coverage, {label}", _shown(metrics["coverage_per_class"][label]), "")
            for label in LABELS
        ),
        ("mean size of the sets", f"{metrics['mean_set_size']:.2f}", ""),
        ("called a brain MRI", f"{metrics['in_distribution']:.3f}", ""),
        ("hottest spot in the tumour's box", f"{_shown(pointing['rate'])} of {pointing['n']}", ""),
        ("by quarters of the box's area, smallest first", quarters, ""),
        ("share of the heat in the box", _shown(pointing["energy_in_box"]), ""),
    ]
    lines = "\n".join(f"| {name} | {value} | {interval} |" for name, value, interval in rows)
    return f"| figure | value | 95 % interval |\n|---|---|---|\n{lines}"


def confusion_section(metrics: dict[str, Any]) -> str:
    """A section with the confusion matrix."""
    confusion = metrics["confusion"]
    head = "| true class | " + " | ".join(f"said {name}" for name in confusion["labels"]) + " |"
    rows = [
        f"| {name} | " + " | ".join(map(str, row)) + " |"
        for name, row in zip(confusion["labels"], confusion["matrix"], strict=True)
    ]
    return "\n".join(["## Confusion", "", head, "|---|---|---|---|---|", *rows])


def parts_section(metrics: dict[str, Any]) -> str:
    """A section with figures by source and plane; empty if they are unknown."""
    tables = []
    for kind, title in (("by_source", "source"), ("by_plane", "plane")):
        if parts := metrics.get(kind):
            rows = [
                f"| {name} | {part['n']} | {part['groups']} | {part['accuracy']:.3f} | "
                f"{part['coverage']:.3f} | {part['in_distribution']:.3f} |"
                for name, part in parts.items()
            ]
            tables.append(
                f"| {title} | slices | groups | accuracy | coverage | called a brain MRI |\n"
                "|---|---|---|---|---|---|\n" + "\n".join(rows)
            )
    return "## Parts\n\n" + "\n\n".join(tables) if tables else ""


def _recall(of_class: dict[str, Any]) -> str:
    """The recall of a class; a dash without slices, for which old cards have 0."""
    return _shown(of_class["recall"] if of_class["n"] else None)


def _shown(figure: float | None, digits: int = 3) -> str:
    """The rounded figure; a dash if it is undefined."""
    return "–" if figure is None or math.isnan(figure) else f"{figure:.{digits}f}"
