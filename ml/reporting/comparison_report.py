"""The comparison report: tables, plots, and conclusions that the numbers support."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml.architectures.network import SCRATCH
from ml.experiments.comparison import BASELINE, Comparison
from ml.labels import LABELS
from ml.reporting.plots import plot_intervals

_LEVEL = 0.05
_DECISION = (
    "A difference counts as shown where the McNemar test, corrected for the number of rows (Holm), "
    f"has p < {_LEVEL} and the 95 % interval of the difference, drawn over groups, leaves out zero."
)


def write_report(
    figures: dict[str, Any], comparison: Comparison, *, command: str, report: Path
) -> None:
    """Write a Markdown page, and its plots into the folder ``images`` next to it.

    Args:
        figures: from :func:`ml.experiments.comparison.compare`.
        command: the command line that made them, for the page.
    """
    images = report.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = figures["networks"] | figures["baseline"]
    networks, ablation = f"{report.stem}-networks.png", f"{report.stem}-ablation.png"
    plot_intervals(_bars(rows), "accuracy, 95 % interval", images / networks)
    parts = [
        "# Comparison of networks",
        summary(figures),
        f"Made by `{command}`; every figure on this page comes from that run.",
        _budget(figures, comparison),
        "## Result",
        "\n".join(f"- {sentence}" for sentence in conclusions(figures)),
        _DECISION,
        "## Accuracy",
        _accuracy_table(rows),
        f"![Accuracy of each network with its interval](images/{networks})",
        "## Recall of each class",
        _recall_table(rows),
        "## Doubt and explanation",
        _doubt_table(figures["networks"]),
        "## Cost",
        _cost_table(figures["networks"]),
    ]
    if figures["ablation"]:
        reference = figures["reference"]
        usual = comparison.reference.recipe.preprocessing
        rows = {usual: figures["networks"][reference]} | figures["ablation"]
        plot_intervals(_bars(rows), "accuracy, 95 % interval", images / ablation)
        parts += [
            f"## Preprocessing, with {reference}",
            _accuracy_table(rows),
            f"![Accuracy under each preprocessing](images/{ablation})",
        ]
    report.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def summary(figures: dict[str, Any]) -> str:
    """A summary of the page in three lines."""
    lines = [
        conclusions(figures)[0],
        _beside_baseline(figures["baseline"][BASELINE], figures["reference"]),
        f"Measured on {figures['measured_folds']} of {figures['folds']} folds; all networks have "
        "the same folds, preprocessing and budget.",
    ]
    return "\n".join(f"> {line}" for line in lines)


def conclusions(figures: dict[str, Any]) -> list[str]:
    """One sentence about the reference and about each other candidate."""
    networks, reference = figures["networks"], figures["reference"]
    best = max(networks, key=lambda name: float(networks[name]["accuracy"]))
    sentences = [f"{best} has the highest accuracy, {_with_interval(networks[best], 'accuracy')}."]
    if best != reference and not _is_shown(networks[best]["difference"]):
        sentences.append(
            f"That it is better than {reference} "
            f"({_with_interval(networks[reference], 'accuracy')}) is not shown."
        )
    sentences += [
        _verdict(name, row["difference"], reference) + _uneven_start(row, networks[reference])
        for name, row in networks.items()
        if name != reference
    ]
    sentences.append(_beside_baseline(figures["baseline"][BASELINE], reference))
    sentences += [
        _verdict(f"{reference} with the preprocessing {name}", row["difference"], reference)
        for name, row in figures["ablation"].items()
    ]
    return sentences


def _verdict(name: str, found: Mapping[str, Any], reference: str) -> str:
    numbers = (
        f"{100 * found['accuracy']:+.1f} points, 95 % interval {100 * found['low']:+.1f} to "
        f"{100 * found['high']:+.1f}, corrected p {_p(found['p_holm'])}"
    )
    if not _is_shown(found):
        return f"No difference between {name} and {reference} is shown ({numbers})."
    better = "more" if found["accuracy"] > 0 else "less"
    return f"{name} is {better} accurate than {reference} ({numbers})."


def _uneven_start(row: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """A warning if only one of the two started from random weights."""
    if (row.get("start") == SCRATCH) is (reference.get("start") == SCRATCH):
        return ""
    return " Only one of them started from scratch, so this says little about the networks."


def _is_shown(found: Mapping[str, Any]) -> bool:
    return bool(found["p_holm"] < _LEVEL and (found["low"] > 0 or found["high"] < 0))


def _beside_baseline(baseline: Mapping[str, Any], reference: str) -> str:
    both = (
        f"The baseline, which sees no more than intensity and texture statistics, reaches "
        f"{_with_interval(baseline, 'accuracy')}"
    )
    found = baseline["difference"]
    if _is_shown(found) and found["accuracy"] < 0:
        gain = -100 * found["accuracy"]
        return f"{both}; {reference} stands {gain:.1f} points above it, and only these count."
    return f"{both}; that {reference} has learnt more than such statistics is not shown."


def _budget(figures: dict[str, Any], comparison: Comparison) -> str:
    recipe = comparison.reference.recipe
    stages = ", ".join(f"{stage.epochs} epochs at {stage.size} px" for stage in recipe.stages)
    answered = "every slice is answered once"
    measured = figures["measured_folds"]
    if measured < figures["folds"]:
        answered = (
            f"{measured} of them {'is' if measured == 1 else 'are'} measured, so that "
            f"{figures['measured_slices']} slices are answered once"
        )
    text = (
        f"{figures['slices']} slices of {figures['groups']} groups (patients and near-copies stay "
        f"together) in {figures['folds']} folds, the same for all; {answered}, by a model that "
        f"saw nothing of the slice's group. Training: {stages}, batches of {recipe.batch}, "
        f"measured at {recipe.input_size} px, preprocessing {recipe.preprocessing}, seed "
        f"{figures['seed']}. Intervals are 95 % bootstrap intervals over groups. A network "
        "counts by what it calls a slice, no tumour only where that is likely enough, the baseline "
        "by its likeliest class."
    )
    limits = [
        f"{limit} {words}"
        for limit, words in (
            (comparison.groups_per_class, "groups a class"),
            (comparison.slices_per_group, "slices a group"),
        )
        if limit
    ]
    if limits:
        text += (
            f"\n\n**A small budget: at most {' and '.join(limits)} were used. The figures say how "
            "the rows compare under this budget, not what each can reach.**"
        )
    return text


def _accuracy_table(rows: Mapping[str, Any]) -> str:
    lines = [
        "| | start | accuracy | balanced accuracy | ECE | difference, points | p | corrected p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        found = row.get("difference")
        compared = (
            f"{100 * found['accuracy']:+.1f} ({100 * found['low']:+.1f} to "
            f"{100 * found['high']:+.1f}) | {_p(found['p'])} | {_p(found['p_holm'])}"
            if found
            else "reference | |"
        )
        lines.append(
            f"| {name} | {row.get('start', 'no network')} | {_with_interval(row, 'accuracy')} | "
            f"{_with_interval(row, 'balanced_accuracy')} | {row['ece']:.3f} | {compared} |"
        )
    return "\n".join(lines)


def _recall_table(rows: Mapping[str, Any]) -> str:
    names = [label.value for label in LABELS]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, row in rows.items():
        cells = (
            _interval_of(row["per_class"][one]["recall"], row, f"recall_{one}") for one in names
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _doubt_table(rows: Mapping[str, Any]) -> str:
    lines = [
        "| | coverage of the 95 % sets | mean size of the sets | pointing game |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        game = row["pointing_game"]
        hits = f"{game['hits']} of {game['n']}" if game["n"] else "no boxes"
        lines.append(
            f"| {name} | {100 * row['coverage']:.1f} % | {row['mean_set_size']:.2f} | {hits} |"
        )
    return "\n".join(lines)


def _cost_table(rows: Mapping[str, Any]) -> str:
    lines = [
        "| | network | parameters, millions | GFLOPs a slice | CPU time a slice, ms |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        cost = row["cost"]
        lines.append(
            f"| {name} | {row['title']} | {cost['parameters'] / 1e6:.1f} | "
            f"{cost['operations'] / 1e9:.1f} | {1000 * cost['cpu_seconds']:.0f} |"
        )
    lines.append(
        "\nA multiply-add counts as two operations. CPU time: one slice at a time in float32, all "
        "threads together."
    )
    return "\n".join(lines)


def _bars(rows: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    return {name: (row["accuracy"], *row["intervals_95"]["accuracy"]) for name, row in rows.items()}


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    return _interval_of(row[name], row, name)


def _interval_of(value: float, row: Mapping[str, Any], name: str) -> str:
    if name not in row["intervals_95"]:
        return "none"
    low, high = row["intervals_95"][name]
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
