"""What was measured of a model beside its metrics, as sections of its card's page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VOLUMES = {
    "tumor_slices_found": "slices with a tumour, called tumour",
    "tumor_slices_found_alone": "  each by itself",
    "heat_on_tumor": "  of them with the hottest pixel on it",
    "false_alarms": "slices without a tumour, called tumour",
    "false_alarms_alone": "  each by itself",
    "healthy_false_alarms": "slices of the healthy study, called tumour",
    "healthy_false_alarms_alone": "  each by itself",
    "key_slices_on_tumor": "key slices that show the tumour",
    "in_distribution": "slices that look familiar",
}


def volumes_section(card: Mapping[str, Any]) -> str:
    """Of :func:`ml.volume_evaluation.measure_volumes`, with a heading; empty without it."""
    figures = card.get("volumes")
    if figures is None:
        return ""
    rows = [
        (words.replace("  ", "… "), f"{figures[key]['n']} of {figures[key]['of']}")
        for key, words in VOLUMES.items()
    ]
    return (
        "## Volumes of other hospitals\n\nEach slice is answered in the light of its neighbours. "
        "How many tumours are expected beforehand was chosen on `nifti-glioma` and "
        "`dicom-t1-healthy` "
        f"(docs/decisions/0019).\n\n{_code(figures)}\n\n{_table(('', 'slices'), rows)}"
    )


def familiarity_section(card: Mapping[str, Any]) -> str:
    """Of :func:`ml.odd.measuring.measure_odd`, with a heading; empty without it."""
    figures = card.get("familiarity")
    if figures is None:
        return ""
    rows = [
        (f"{words}, {name}", f"{found['flagged']} of {found['n']}")
        for part, words in (("odd", "no brain MRI"), ("brain", "brain MRI"))
        for name, found in ({"all": figures[part]} | figures[part]["by_group"]).items()
    ]
    return (
        "## Is it a brain MRI at all?\n\nHow many were called unfamiliar.\n\n"
        f"{_code(figures)}\n\n{_table(('pictures', 'flagged'), rows)}"
    )


def explanations_section(card: Mapping[str, Any]) -> str:
    """Of :func:`ml.explanation_comparison.compare_explanations`, with a heading, or empty."""
    figures = card.get("explanations")
    if figures is None:
        return ""
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
    return (
        "## Heatmaps compared\n\nThe first is the one that serves. Torch in float32, on "
        f"{figures['n']} slices with a tumour's box: how often the hottest spot lies in the box, "
        "the share of the heat in it, and how alike the heatmap is to that of the same network "
        "with parts drawn anew (rank correlation; near 0 is right, near 1 means that it shows the "
        f"picture's edges whatever was learnt).\n\n{_code(figures)}\n\n"
        f"{_table(('method', 'pointing game', 'energy in box', *stages), rows)}"
    )


def _code(figures: Mapping[str, Any]) -> str:
    return f"```\n{figures['command']}\n```"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
