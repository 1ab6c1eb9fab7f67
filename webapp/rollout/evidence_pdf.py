"""The evidence about a candidate as a PDF for people; the JSON is what is signed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from flask_babel import gettext as _
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Paragraph

from ml.release.signing import SIGNATURE
from webapp.reporting.sheets import (
    build,
    cell,
    moment_in_words,
    safe,
    section_heading,
    style,
    table_of,
)
from webapp.reporting.words import label_word, number, share
from webapp.wording import (
    CHANGES,
    DEPLOYMENTS,
    GATE_STATES,
    RECALLS,
    SHADOWS,
    VERDICTS_OF_GATES,
    word,
)

Json = Mapping[str, Any]
_NAMES = 42 * mm


def evidence_pdf(evidence: Json) -> bytes:
    """The file, in the language of the request."""
    candidate = evidence["candidate"]
    return build(
        list(_story(evidence)),
        title=_("Evidence about the model %(name)s", name=candidate["name"]),
        heading=_("Evidence about a model"),
        foot=f"{candidate['name']} · {evidence[SIGNATURE]}",
    )


def _story(evidence: Json) -> Iterator[Flowable]:
    candidate = evidence["candidate"]
    yield Paragraph(safe(candidate["name"]), style("title"))
    yield _facts(
        (_("Organisation"), evidence["organisation"]),
        (_("Weights (SHA-256)"), candidate["weights_sha256"]),
        (_("Registered"), _when_by(candidate["registered_at"], candidate["registered_by"])),
        (_("Plan of change"), _plan(evidence["plan"])),
        (_("Made"), _when_by(evidence["created_at"], evidence["created_for"])),
        (_("Signature of the JSON file"), evidence[SIGNATURE]),
    )
    for one in evidence["retrainings"]:
        yield from _retraining(one)
    for one in evidence["gate_runs"]:
        yield from _gates(one)
    yield from _shadow(evidence["shadow"])
    for one in evidence["trials"]:
        yield from _trial(one)
    yield from _decisions(evidence)
    for one in evidence["recalls"]:
        yield from _recall(one)


def _retraining(one: Json) -> Iterator[Flowable]:
    snapshot = one["snapshot"]
    yield section_heading(_("Data and retraining"))
    yield _facts(
        (_("Snapshot"), _when_by(snapshot["created_at"], snapshot["created_by"])),
        (_("Name"), snapshot["name"]),
        (_("Plan of change"), _plan(snapshot["plan"])),
        (_("Manifest (SHA-256)"), snapshot["manifest_sha256"]),
        (_("Numbers"), _listed(snapshot["counts"])),
        (_("Left out"), _listed(snapshot["left_out"])),
        (_("Requested"), _when_by(one["requested_at"], one["requested_by"])),
        (_("Starts from"), one["started_from"]),
        (_("Figures"), _listed(one["figures"])),
    )


def _gates(run: Json) -> Iterator[Flowable]:
    state = word(GATE_STATES, run["status"])
    yield section_heading(_("Gates, run %(number)s: %(state)s", number=run["number"], state=state))
    yield _facts(
        (_("Requested"), _when_by(run["requested_at"], run["requested_by"])),
        (_("Finished"), _when_by(run["finished_at"])),
        (_("Reason"), run["reason"]),
        (_("Signature"), _signature(run)),
    )
    gates = (run["report"] or {}).get("gates", [])
    if gates:
        head = (_("Gate"), _("Verdict"), _("Figure"), _("Threshold"))
        yield _table([head, *(_gate(gate) for gate in gates)], [None, 26 * mm, 48 * mm, 24 * mm])


def _gate(gate: Json) -> tuple[object, ...]:
    figure = _figure(gate.get("figure"))
    if gate.get("interval"):
        figure += " [{}, {}]".format(*(_figure(one) for one in gate["interval"]))
    return (
        f"{str(gate.get('name')).replace('_', ' ')}: {gate.get('reason', '')}",
        word(VERDICTS_OF_GATES, str(gate.get("verdict"))),
        figure,
        _figure(gate.get("threshold")),
    )


def _shadow(shadow: Json) -> Iterator[Flowable]:
    yield section_heading(_("Shadow"))
    if not shadow["runs"]:
        yield Paragraph(safe(_("There was no shadow.")), style("body"))
        return
    for run in shadow["runs"]:
        yield _facts(
            (_("Started"), _when_by(run["started_at"], run["started_by"])),
            (_("Status"), word(SHADOWS, run["status"])),
            (_("Share"), share(run["share"] / 100)),
            (_("Studies"), number(run["taken"])),
        )
    found = shadow["comparison"]
    yield _facts(
        (_("Compared with"), ", ".join(found["incumbents"])),
        (_("Studies called the same"), _agreement(found["studies"])),
        (_("Slices called the same"), _agreement(found["slices"])),
        (_("Without an answer"), number(found["failed"])),
        (_("Studies called otherwise"), _changes(found["studies"]["table"])),
    )
    if found["before"] and found["after"]:
        head = (_("Figure"), _("Serving model"), _("Candidate"))
        fields = (
            (_("Classes not ruled out, on average"), "mean_set_size"),
            (_("Slices with more than one such class"), "several"),
            (_("Slices unlike the training data"), "unfamiliar"),
            (_("Time in the model for a slice, ms"), "ms_per_slice"),
        )
        rows = [
            (name, _figure(found["before"][field]), _figure(found["after"][field]))
            for name, field in fields
        ]
        yield _table([head, *rows], [None, 36 * mm, 36 * mm])


def _trial(one: Json) -> Iterator[Flowable]:
    yield section_heading(_("Trial"))
    yield _facts(
        (_("Began"), _when_by(one["began_at"])),
        (_("Ended"), _when_by(one["ended_at"])),
        (_("Share"), share(one["share"] / 100)),
        (_("What the rule says"), one["rule_says"]),
    )
    head = (_("Studies"), _("On trial"), _("Serving model"))
    sides = one["figures"]["trial"], one["figures"]["incumbent"]
    fields = (
        (_("Answered"), "answered"),
        (_("Failed"), "failed"),
        (_("Assessed by readers"), "assessed"),
        (_("Where readers disagreed"), "overridden"),
    )
    rows = [(name, *(number(side[field]) for side in sides)) for name, field in fields]
    missed = _("Tumours found by readers where it found none")
    yield _table(
        [head, *rows, (missed, number(one["figures"]["missed"]), "")], [None, 36 * mm, 36 * mm]
    )


def _decisions(evidence: Json) -> Iterator[Flowable]:
    yield section_heading(_("Who decided what"))
    for one in evidence["proposals"]:
        yield _facts(
            (_("Proposed"), _when_by(one["proposed_at"], one["proposed_by"])),
            (_("Reason"), one["reason"]),
            (_("Share"), share(one["share"] / 100) if one["share"] else _("all studies")),
            (_("Decided"), _when_by(one["decided_at"], one["decided_by"])),
            (_("Decision"), one["decision"]),
        )
    for one in evidence["deployments"]:
        yield _facts(
            (_("Deployment"), f"{one['number']}: {word(DEPLOYMENTS, one['kind'])}"),
            (_("When"), _when_by(one["at"], one["decided_by"] or _("automatically"))),
            (_("Weights (SHA-256)"), one["weights_sha256"]),
            (_("Reason"), one["reason"]),
            (_("Signature"), _signature(one)),
        )


def _recall(one: Json) -> Iterator[Flowable]:
    yield section_heading(_("Recall"))
    yield _facts(
        (_("Began"), _when_by(one["began_at"])),
        (_("Status"), word(RECALLS, one["status"])),
        (_("Studies"), number(one["studies"])),
        *(
            (word(CHANGES, change), _acknowledged(counts))
            for change, counts in one["cases"].items()
        ),
    )


def _acknowledged(counts: Json) -> str:
    return str(
        _(
            "%(found)s, of which %(acknowledged)s acknowledged",
            found=number(counts["found"]),
            acknowledged=number(counts["acknowledged"]),
        )
    )


def _facts(*rows: tuple[object, object]) -> Flowable:
    """Names and values; those without a value are left out."""
    return _table([row for row in rows if row[1]], [_NAMES, None])


def _table(rows: Sequence[Sequence[object]], widths: Sequence[float | None]) -> Flowable:
    return table_of(
        [
            [cell(one, "fact-name" if not at else "fact") for at, one in enumerate(row)]
            for row in rows
        ],
        widths,
    )


def _when_by(moment: str | None, person: object = None) -> str:
    told = moment_in_words(datetime.fromisoformat(moment)) if moment else None
    return ", ".join(str(one) for one in (told, person) if one)


def _plan(plan: Json | None) -> str:
    return f"{plan.get('version')}, SHA-256 {plan.get('sha256')}" if plan else ""


def _signature(row: Json) -> str:
    if not row["signature"]:
        return ""
    holds = _("valid") if row["signature_holds"] else _("INVALID")
    return f"{row['signature']} ({holds})"


def _agreement(one: Json) -> str:
    if not one["number"]:
        return ""
    said = f"{share(one['share'])} ({number(one['agreeing'])} / {number(one['number'])})"
    if one["interval"]:
        said += " [{}, {}]".format(*(share(bound) for bound in one["interval"]))
    return said


def _changes(table: Sequence[Json]) -> str:
    return ", ".join(
        f"{label_word(one['before'])} → {label_word(one['after'])}: {number(one['count'])}"
        for one in table
        if one["before"] != one["after"]
    )


def _listed(values: Mapping[str, Any]) -> str:
    """Names and numbers in one line; nested ones in brackets."""
    return ", ".join(f"{name} {_value(one)}" for name, one in values.items())


def _value(one: object) -> str:
    match one:
        case dict():
            return f"({_listed(one)})"
        case list():
            return f"({len(one)})"
        case float():
            return _figure(one)
        case _:
            return str(one)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
