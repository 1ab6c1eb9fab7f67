"""Sections of a model's page about measurements other than its metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

# Text with a heading, and the header and rows of a table.
_Described = tuple[str, Sequence[str], Sequence[Sequence[str]]]

THINNED = {
    "tumor_slices_found": "slices with a tumour, called tumour",
    "false_alarms": "slices without a tumour, called tumour",
    "key_slices_on_tumor": "key slices that show the tumour",
    "called_tumor": "studies of a glioma, called a tumour",
    "class_right": "called a glioma",
    "class_in_set": "the set holds it",
    "healthy_false_alarms": "slices of healthy heads, called tumour",
    "healthy_called_tumor": "studies of healthy heads, called a tumour",
}

VOLUMES = {
    "tumor_slices_found": "slices with a tumour, called tumour",
    "tumor_slices_found_alone": "  each by itself",
    "heat_on_tumor": "  of them with the hottest pixel on it",
    "false_alarms": "slices without a tumour, called tumour",
    "false_alarms_alone": "  each by itself",
    "healthy_false_alarms": "slices of the healthy study, called tumour",
    "healthy_false_alarms_alone": "  each by itself",
    "key_slices_on_tumor": "key slices that show the tumour",
    "class_right": "studies of a glioma, called one",
    "class_in_set": "  the set holds it",
    "in_distribution": "slices that look familiar",
}


def measured_sections(card: Mapping[str, Any]) -> list[str]:
    """The sections with figures in the card, each with its heading and measuring command."""
    shown = {
        "volumes": _volumes,
        "thinned": _thinned,
        "out_of_distribution": _out_of_distribution,
        "explanations": _explanations,
    }
    measured = {**card, "out_of_distribution": ood_figures(card)}
    return [
        _section(measured[name], *described(measured[name]))
        for name, described in shown.items()
        if measured.get(name)
    ]


def _volumes(figures: Mapping[str, Any]) -> _Described:
    """Of :func:`ml.evaluation.volumes.measure_volumes`."""
    words = (
        "## Volumes of other hospitals\n\nEach slice is answered in the light of its neighbours. "
        "How many tumours are expected beforehand was chosen on `nifti-glioma` and "
        "`dicom-t1-healthy` (docs/research/notes/0019), the rules for whole heads on such heads "
        "(docs/research/notes/0021)."
    )
    rows = [(name.replace("  ", "… "), found) for name, found in volume_rows(figures)]
    return words, ("", "slices"), rows


def volume_rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Counts of :func:`ml.evaluation.volumes.measure_volumes` as text."""
    rows = [(words, _of(figures[key])) for key, words in VOLUMES.items() if key in figures]
    for name, head in figures.get("heads", {}).items():
        rows.append((f"{name}, called tumour", _of(head["alarms"])))
        rows.append(("  each by itself", _of(head["alarms_alone"])))
        rows.append(("  the study as a whole", head["study"]))
    return rows


def _per_cent(share: Mapping[str, int]) -> str:
    return f"{100 * share['n'] / share['of']:.1f} %"


def _thinned(figures: Mapping[str, Any]) -> _Described:
    """Of :func:`ml.evaluation.thinned_volumes.measure_thinned`."""
    words = (
        "## Uneven stacks\n\nThe same volumes and whole heads, from which slices are "
        "left out at random: each slice by itself, with neighbours weighed by their number as if "
        "the steps were even, and by their distance, as is served (docs/research/notes/0027)."
    )
    return words, ("", "by itself", "by number", "by distance"), thinned_rows(figures["ways"])


def thinned_rows(figures: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Counts of :func:`ml.evaluation.thinned_volumes.measure_thinned`, for each way to thin.

    Returns:
        The name of the count, then its percentage for each way to weigh neighbours, in the order
        of the figures: alone, by number, by distance.
    """
    return [
        (f"{way}: {words}", *(_per_cent(one[key]) for one in found.values()))
        for way, found in figures.items()
        for key, words in THINNED.items()
        if all(one[key]["of"] for one in found.values())
    ]


def volume_table(figures: dict[str, Any]) -> str:
    """The shares as text; for thinned volumes alone, by number and by distance."""
    lines = [f"{words:44}{found}" for words, found in volume_rows(figures)]
    lines += [
        f"{words:64}{''.join(f'{one:>9}' for one in found)}"
        for words, *found in thinned_rows(figures.get("thinned", {}))
    ]
    return "\n".join(lines)


def _of(share: Mapping[str, int]) -> str:
    return f"{share['n']} of {share['of']}"


def ood_figures(card: Mapping[str, Any]) -> dict[str, Any]:
    """What the ``ood`` command entered in a card; empty where it did not.

    Earlier cards call the entry ``familiarity``, and the pictures in it ``odd``.
    """
    found = card.get("out_of_distribution") or card.get("familiarity") or {}
    return {("ood" if name == "odd" else name): part for name, part in found.items()}


def _out_of_distribution(figures: Mapping[str, Any]) -> _Described:
    """Of :func:`ml.evaluation.ood.measuring.measure_ood`."""
    words = "## Is it a brain MRI at all?\n\nHow many were called unfamiliar."
    rows = [
        (f"{kind}, {name}", f"{found['flagged']} of {found['n']}")
        for part, kind in (("ood", "no brain MRI"), ("brain", "brain MRI"))
        for name, found in ({"all": figures[part]} | figures[part]["by_group"]).items()
    ]
    return words, ("pictures", "flagged"), rows


def _explanations(figures: Mapping[str, Any]) -> _Described:
    """Of :func:`ml.evaluation.explanations.compare_explanations`."""
    words = (
        "## Heatmaps compared\n\nThe class map is the one that serves. Torch in float32, on "
        f"{figures['n']} slices with a tumour's box: how often the hottest spot lies in the box, "
        "the share of the heat in it, and how alike the heatmap is to that of the same network "
        "with parts drawn anew (rank correlation; near 0 is right, near 1 means that it shows the "
        "picture's edges whatever was learnt)."
    )
    stages = list(next(iter(figures["sanity"].values())))
    rows = [
        (
            name,
            f"{found['pointing_game']:.3f}",
            f"{found['energy_in_box']:.3f}",
            *(f"{figures['sanity'][name][stage]:.2f}" for stage in stages),
        )
        for name, found in figures["methods"].items()
    ]
    return words, ("method", "pointing game", "energy in box", *stages), rows


def _section(
    figures: Mapping[str, Any], words: str, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{words}\n\n```\n{figures['command']}\n```\n\n{table}"
