"""The monthly report as PDF, in the language of the request."""

from collections.abc import Sequence

from flask_babel import gettext as _
from flask_babel import ngettext
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Paragraph

from webapp.reporting import sheets
from webapp.reporting.words import label_word, number
from webapp.reporting.words import share as percent
from webapp.watch import words
from webapp.watch.monthly import MonthlyReport, Share, limits_known
from webapp.wording import DEPLOYMENTS, REASONS, word

_NAMES = 62 * mm


def monthly_pdf(report: MonthlyReport) -> bytes:
    """The report laid out on A4."""
    return sheets.build(
        [
            *_head(report),
            *_use(report),
            *_doubt(report),
            *_readers(report),
            *_failures(report),
            *_alarms(report),
            *_changes(report),
            *_conclusion(report),
            *_limits(),
        ],
        title=_("Sulcus: monitoring report %(month)s", month=report.month),
        heading=_("Post-market monitoring of a model in use"),
        foot=f"{report.organisation} · {report.month}",
    )


def _head(report: MonthlyReport) -> list[Flowable]:
    made = _("Made %(moment)s.", moment=sheets.moment_in_words(report.made_at))
    if not report.is_over:
        made += " " + _("The month is not over; the figures are preliminary.")
    purpose = _(
        "Purpose: to see, from data collected while the software is in use, whether its model "
        "still does what was measured before, and whether something has to be done about it."
    )
    return [
        Paragraph(sheets.safe(f"{report.organisation}, {report.month}"), sheets.style("title")),
        _text(purpose),
        _text(made),
    ]


def _use(report: MonthlyReport) -> list[Flowable]:
    models = [
        (one.name, ngettext("%(num)d analysis", "%(num)d analyses", one.analyses))
        for one in report.models
    ]
    answers = [
        (label_word(label), number(count)) for label, count in sorted(report.answers.items())
    ]
    rows = [(_("Studies with a result"), number(report.studies)), *answers]
    return [
        *_section(_("Software in use: its model"), models, _("No model has answered.")),
        *_section(_("Results"), rows, ""),
    ]


def _doubt(report: MonthlyReport) -> list[Flowable]:
    rows = [
        (_("Results that name several classes, or none"), _share(report.several)),
        (_("Studies unlike the training data"), _share(report.unfamiliar)),
    ]
    return _section(_("Doubt"), rows, "")


def _readers(report: MonthlyReport) -> list[Flowable]:
    rows = [
        (_("Studies assessed"), number(report.overrides.of)),
        (_("Agreement: nobody disagreed"), _share(report.agreements)),
        (_("Override: a reader disagreed"), _share(report.overrides)),
        (_("Complaints: disagreements with a comment"), number(report.complaints)),
    ]
    return _section(_("Feedback of users"), rows, "")


def _failures(report: MonthlyReport) -> list[Flowable]:
    rows = [(str(word(REASONS, code)), number(n)) for code, n in sorted(report.failures.items())]
    return _section(_("Failures: analyses without a result"), rows, _("None."))


def _alarms(report: MonthlyReport) -> list[Flowable]:
    rows = []
    for one in report.alarms:
        until = sheets.moment_in_words(one.cleared_at) if one.cleared_at else _("still open")
        parts = [f"{one.origin}; {sheets.moment_in_words(one.raised_at)} – {until}."]
        parts.append(
            _("Done (%(who)s): %(what)s", who=one.acknowledged_by, what=one.note)
            if one.note
            else _("Nobody has noted yet what was done.")
        )
        rows.append((words.word_of(words.FAMILIES, one.family), " ".join(parts)))
    compared = ngettext(
        "%(num)d week was compared with those before.",
        "%(num)d weeks were compared with those before.",
        report.weeks_compared,
    )
    return [
        *_section(_("Trends: alarms about drift, and corrective action"), rows, _("No alarm.")),
        _text(compared),
    ]


def _changes(report: MonthlyReport) -> list[Flowable]:
    rows = [
        (
            sheets.moment_in_words(one.at),
            f"{word(DEPLOYMENTS, one.kind)} {one.model}, {one.decided_by}. {one.reason}",
        )
        for one in report.changes
    ]
    return _section(_("Changes of the model"), rows, _("None."))


def _conclusion(report: MonthlyReport) -> list[Flowable]:
    waiting = sum(not one.note for one in report.alarms)
    if waiting:
        sentence = ngettext(
            "Action is needed: about %(num)d alarm nobody has noted what was done.",
            "Action is needed: about %(num)d alarms nobody has noted what was done.",
            waiting,
        )
    elif not report.weeks_compared:
        sentence = _("No conclusion about trends: no week had enough studies to be compared.")
    else:
        sentence = _("By these figures nothing further has to be done.")
    return [KeepTogether([sheets.section_heading(_("Conclusion")), _text(sentence)])]


def _limits() -> list[Flowable]:
    lines = [Paragraph(sheets.safe(one), sheets.style("small")) for one in limits_known()]
    return [KeepTogether([sheets.section_heading(_("Limits of what is known")), *lines])]


def _section(title: str, rows: Sequence[tuple[str, str]], nothing: str) -> list[Flowable]:
    if not rows:
        return [KeepTogether([sheets.section_heading(title), _text(nothing)])]
    table = sheets.table_of(
        [[sheets.cell(name, "fact-name"), sheets.cell(value, "fact")] for name, value in rows],
        [_NAMES, None],
    )
    return [sheets.section_heading(title), table]


def _text(text: str) -> Paragraph:
    return Paragraph(sheets.safe(text), sheets.style("body"))


def _share(share: Share) -> str:
    if share.low is None or share.high is None:
        return "–"
    return str(
        _(
            "%(number)s of %(all)s (%(share)s; 95 %% interval %(low)s to %(high)s)",
            number=number(share.number),
            all=number(share.of),
            share=percent(share.number / share.of),
            low=percent(share.low),
            high=percent(share.high),
        )
    )
