"""A model's card as one page for clinicians; :mod:`ml.reporting.model_card` has all the tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from ml.labels import Label
from ml.reporting.measured_sections import ood_figures

_WORDS = {
    Label.GLIOMA: "a glioma",
    Label.MENINGIOMA: "a meningioma",
    Label.PITUITARY: "a pituitary tumour",
}
_ABSENT = "–"

Figures = Mapping[str, Any]


def write_page(card: Figures, path: Path, *, tables: str, command: str) -> None:
    """Write the page as Markdown.

    Args:
        card: missing figures are omitted or shown as a dash.
        tables: path of the page with all tables, relative to this one.
        command: the command line that wrote both pages.
    """
    sections = [
        _head(card, tables),
        _slices(card),
        _patients(card["metrics"]),
        _other_hospitals(card),
        _doubt(card),
        _data(card),
        _list("What it does not know", card["limits"]),
        _list("What it was not tried on", _untried(card)),
        f"## Where these figures come from\n\nFrom the model's card, by\n\n```\n{command}\n```\n\n"
        f"All figures, and the commands that measured them: [tables]({tables}).",
    ]
    path.write_text("\n\n".join(part for part in sections if part) + "\n", encoding="utf-8")


def _head(card: Figures, tables: str) -> str:
    return (
        f"# The model: {card['name']}\n\n{card['intended_use']}\n\n"
        "The model is a neural network that looks at one slice of a brain MRI at a time. It says "
        "which of four classes the slice belongs to: glioma, meningioma, pituitary tumour, or none "
        "of these three. In a whole series it takes the neighbouring slices into account.\n\n"
        f"This page is the short form. [All tables]({tables}) stand behind it."
    )


def _slices(card: Figures) -> str:
    """First the unbiased figures of cross-validated networks, then those of the model itself."""
    own, crossed = card["metrics"], card.get("cross_validations", {}).get("group")
    columns = [("This model, patients kept apart from its training", own)]
    fitted = "Its doubt was fitted on them. " if own["part"] == "calibration" else ""
    explained = (
        f"**This model:** {_counted(own)} that no weight was learnt from. {fitted}Some choices "
        "were made with them in sight, so these figures are a little kind."
    )
    if crossed:
        columns.insert(0, ("Cross-validation", crossed))
        explained = (
            f"**Cross-validation:** {_counted(crossed)}. Networks of the same kind were trained "
            "anew, each without a part of the patients, and answered about these. Expect this of "
            f"patients of the same collection.\n\n{explained}"
        )
    lines = [
        ["", *(title for title, _figures in columns)],
        ["---"] * (len(columns) + 1),
        ["**Sensitivity**: slices with a tumour that are called a tumour"]
        + [_per_cent(1 - figures["tumor_called_no_tumor"]) for _title, figures in columns],
        ["**Specificity**: slices without a tumour that are called none"]
        + [_recall(figures, Label.NO_TUMOR) for _title, figures in columns],
        ["Slices that are called the right class"]
        + [_with_interval(figures, "accuracy", figures["accuracy"]) for _title, figures in columns],
        *(
            [f"… of those that show {words}"]
            + [_recall(figures, label) for _title, figures in columns]
            for label, words in _WORDS.items()
        ),
        ["The right class is not ruled out"]
        + [_per_cent(figures["coverage"]) for _title, figures in columns],
    ]
    return (
        f"## How often it is right, slice by slice\n\n{_table(lines)}\n\nIn brackets: 95 % "
        "intervals. They come from drawing patients, not slices, because slices of one patient "
        f"resemble each other. Where there is no bracket, none was computed.\n\n{explained}"
    )


def _patients(metrics: Figures) -> str:
    studies = metrics.get("studies", {})
    asked = [
        ("tumor_found", "**Sensitivity**: patients with a tumour whose study is called a tumour"),
        (
            "tumor_free_cleared",
            "**Specificity**: patients without a tumour whose study is called none",
        ),
    ]
    rows = [[words, *_share(studies[key])] for key, words in asked if key in studies]
    if studies:
        rows += [
            ["The study is called the right class", *_share(_of(studies, "right", "n"))],
            ["The right class is not ruled out", *_share(_of(studies, "covered", "n"))],
            [
                "Where it is certain of one class, this is right",
                *_share(_of(studies, "certain_and_right", "certain")),
            ],
        ]
    if not rows:
        return ""
    return (
        "## How often it is right, patient by patient\n\nAll slices of a patient were taken as one "
        "study of single pictures, and answered as the portal answers an upload. A patient here "
        "is a patient, or a cluster of near-copies where the collection does not name patients."
        f"\n\n{_table([['', 'patients', 'share', '95 % interval'], ['---'] * 4, *rows])}\n\n"
        "Intervals are Wilson's. One slice that is called a tumour makes its study one, so the "
        "specificity by patient is lower than by slice."
    )


def _other_hospitals(card: Figures) -> str:
    found, against = card.get("volumes"), card.get("cross_validations", {}).get("against-source")
    parts = []
    if found:
        parts.append(_volumes(found))
    if against:
        parts.append(
            "**Where the source tells the wrong class.** In the collection nearly all tumours come "
            "from one source and nearly all slices without a tumour from others. Networks that "
            "never saw a tumour of those other sources called "
            f"{_per_cent(against['tumor_called_no_tumor'])} of their tumours no tumour, and "
            f"{_per_cent(1 - against['per_class'][Label.NO_TUMOR]['recall'])} of their slices "
            f"without a tumour a tumour ({_counted(against)})."
        )
    return "## How it does elsewhere\n\n" + "\n\n".join(parts) if parts else ""


def _volumes(found: Figures) -> str:
    asked = [
        ("tumor_slices_found", "Slices with a glioma that are called a tumour"),
        ("false_alarms", "Slices without, of the same patients, that are called a tumour"),
        ("healthy_false_alarms", "Slices of a healthy volunteer that are called a tumour"),
    ]
    rows = [
        [words, _words(found[key]), _words(found[f"{key}_alone"])]
        for key, words in asked
        if key in found and f"{key}_alone" in found
    ]
    heads = list(found.get("heads", {}).values())
    if heads:
        rows.append(
            [
                "Slices of whole healthy heads that are called a tumour",
                _words(_sum([head["alarms"] for head in heads])),
                _words(_sum([head["alarms_alone"] for head in heads])),
            ]
        )
    named = (
        f"Of the volumes with a glioma {_words(found['class_right'])} are called a glioma, "
        "the others another tumour or none. "
        if "class_right" in found
        else ""
    )
    head = [["", "in a whole series", "each slice by itself"], ["---"] * 3]
    return (
        "**Scans of other hospitals**, which it never learnt from:\n\n"
        f"{_table([*head, *rows])}\n\n{named}Single slices of an unknown hospital raise many false "
        "alarms; whole series are answered better. These are very few patients, and the rules for "
        "whole series were chosen with them in sight: others will fare worse."
    )


def _doubt(card: Figures) -> str:
    sets = (
        "Beside the class stand all classes that are not ruled out. They are chosen so that the "
        "right one is among them in 95 % of slices like those of the collection; on average "
        f"{card['metrics']['mean_set_size']:.2f} classes are named."
    )
    ood = ood_figures(card)
    flagged = (
        " A warning appears where a picture does not look like a brain MRI: it appeared for "
        f"{ood['ood']['flagged']} of {ood['ood']['n']} pictures of other things and for "
        f"{ood['brain']['flagged']} of {ood['brain']['n']} slices of brains. It guards against "
        "mistakes and does not judge quality."
        if ood
        else ""
    )
    pointing = card["metrics"]["pointing_game"]
    heat = (
        f"\n\nThe hottest spot of the heatmap lies in the tumour's box in {pointing['hits']} of "
        f"{pointing['n']} slices ({_per_cent(pointing['rate'])}), in the quarter with the smallest "
        f"tumours in {_per_cent(pointing['rate_by_size_quarter'][0])}. It points; it does not "
        "outline a tumour."
        if pointing["n"]
        else ""
    )
    return f"## How it says what it does not know\n\n{sets}{flagged}{heat}"


def _data(card: Figures) -> str:
    split = card["split"]
    # Uncertainty fitted on a cross-validation's answers needs no calibration part.
    own = split["calibration"]["slices"] or card.get("calibration", {}).get("slices", 0)
    parts = f"{split['training']['slices']:,} to learn from, {own:,} to set its doubt"
    further = card.get("data", {}).get("further_training_slices", {})
    healthy = (
        f" It also learnt from {sum(further.values()):,} slices of healthy heads that free "
        f"packages ship ({', '.join(further)})."
        if further
        else ""
    )
    planes = {
        name: part["n"]
        for name, part in card["metrics"].get("by_plane", {}).items()
        if name != "unknown"
    }
    shown = (
        " Planes of the slices that it was measured on, where known: "
        + ", ".join(f"{name} {count}" for name, count in planes.items())
        + "."
        if planes
        else ""
    )
    return (
        "## Where the data come from\n\n"
        f"Single slices of a public collection: {parts} and {split['validation']['slices']:,} to "
        "measure it on. All slices of a patient, and near-copies, stay in one part."
        f"{healthy}{shown} `docs/research/data.md` tells which collection, and what is wrong with "
        "it."
    )


def _untried(card: Figures) -> list[str]:
    """Conditions that no figure of the card covers."""
    lines = [
        "Use in a clinic: there was no study of readers and no prospective study.",
        "Other diseases: how it answers about them was not measured.",
        "Age, sex, scanner, field strength and sequence: the data do not tell them, so nothing was "
        "measured apart for any of them.",
    ]
    if "volumes" in card:
        lines.append(
            "Whole series with a meningioma or a pituitary tumour: only series of gliomas and of "
            "healthy heads were at hand."
        )
    return lines


def _list(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counted(figures: Figures) -> str:
    return f"{figures['n']:,} slices of {figures['groups']:,} patients and clusters of near-copies"


def _recall(figures: Figures, label: Label) -> str:
    if not figures["per_class"][label]["n"]:
        return _ABSENT
    return _with_interval(figures, f"recall_{label}", figures["per_class"][label]["recall"])


def _with_interval(figures: Figures, name: str, value: float) -> str:
    if name not in figures["intervals_95"]:
        return _per_cent(value)
    low, high = figures["intervals_95"][name]
    if low == high:  # no draw contained a mistake, so there is no interval
        return _per_cent(value)
    return f"{_per_cent(value)} ({100 * low:.1f} to {100 * high:.1f})"


def _per_cent(share: float | None) -> str:
    return _ABSENT if share is None else f"{100 * share:.1f} %"


def _of(figures: Figures, count: str, total: str) -> dict[str, int]:
    return {"n": figures[count], "of": figures[total]}


def _sum(shares: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {key: sum(share[key] for share in shares) for key in ("n", "of")}


def _words(share: Mapping[str, int]) -> str:
    return f"{share['n']:,} of {share['of']:,}"


def _share(share: Mapping[str, int]) -> tuple[str, str, str]:
    """Counts, share and Wilson's interval (Wilson 1927), for the cells of a row."""
    if not share["of"]:
        return _words(share), _ABSENT, _ABSENT
    interval = binomtest(share["n"], share["of"]).proportion_ci(method="wilson")
    return (
        _words(share),
        _per_cent(share["n"] / share["of"]),
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %",
    )
