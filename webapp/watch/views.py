"""Pages of data stewards about drift, and the monthly report."""

import uuid
from collections.abc import Sequence

from flask import Blueprint, Response, flash, jsonify, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from markupsafe import Markup

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.charts import Line, line_chart
from webapp.database import db, now
from webapp.errors import InvalidInput
from webapp.formerrors import done_or_refused
from webapp.reporting.operations import ReportFile
from webapp.reporting.views import send_report
from webapp.watch import queries, words
from webapp.watch.forms import AcknowledgementForm
from webapp.watch.models import DriftRun
from webapp.watch.monthly import last_months, monthly_report, plain
from webapp.watch.monthly_pdf import monthly_pdf
from webapp.watch.operations import FEWEST_OF_BASELINE, acknowledge_alarm, freeze_baseline

blueprint = Blueprint("watch", __name__)

_MONTHS = 12


@blueprint.get("/watch")
@requires(Role.STEWARD)
def index() -> ResponseReturnValue:
    """Alarms, the last weeks, and what they are compared with."""
    return _page(AcknowledgementForm(formdata=None))


@blueprint.post("/watch/baseline")
@requires(Role.STEWARD)
def freeze() -> ResponseReturnValue:
    """Freeze the newest studies as the baseline."""
    return done_or_refused(
        lambda: freeze_baseline(actor=actor()),
        _("The baseline is frozen. Later weeks are compared with it."),
        url_for("watch.index"),
    )


@blueprint.post("/watch/alarms/<uuid:alarm_id>/acknowledgement")
@requires(Role.STEWARD)
def acknowledge(alarm_id: uuid.UUID) -> ResponseReturnValue:
    """Note what was found and done about an alarm."""
    form = AcknowledgementForm()
    if form.validate_on_submit():
        try:
            acknowledge_alarm(actor=actor(), alarm_id=alarm_id, note=form.note.data or "")
        except InvalidInput as error:
            db.session.rollback()
            form.show(error)
        else:
            flash(_("What was done is noted."), "success")
            return redirect(url_for("watch.index"))
    return _page(form, about=alarm_id)


@blueprint.get("/watch/report/<month>.pdf")
@requires(Role.STEWARD)
def report_pdf(month: str) -> Response:
    """The report of a month as PDF."""
    report = monthly_report(month)
    name = f"sulcus-{report.month}.pdf"
    return send_report(ReportFile(monthly_pdf(report), "application/pdf", name))


@blueprint.get("/watch/report/<month>.json")
@requires(Role.STEWARD)
def report_json(month: str) -> Response:
    """The report of a month for programs."""
    response = jsonify(plain(monthly_report(month)))
    response.cache_control.private = True
    response.cache_control.no_store = True
    return response


def _page(form: AcknowledgementForm, *, about: uuid.UUID | None = None) -> ResponseReturnValue:
    runs = queries.runs_of()
    alarms = queries.open_alarms()
    page = render_template(
        "watch/watch.html",
        runs=runs,
        newest=_newest(runs),
        sentence=words.drift_sentence(runs, alarms),
        charts=_charts(runs),
        alarms=alarms,
        ended=queries.ended_alarms(),
        origins=queries.newest_runs(),
        rates=queries.monthly_rates(),
        baseline=queries.newest_baseline(),
        fewest=FEWEST_OF_BASELINE,
        months=last_months(now().date(), _MONTHS),
        nodes=queries.node_names(),
        words=words,
        form=form,
        about=about,
    )
    return page, 422 if form.errors else 200


def _newest(runs: Sequence[DriftRun]) -> DriftRun | None:
    """The last week that was compared, else the last one."""
    compared = [run for run in runs if run.figures]
    return next(reversed(compared or list(runs)), None)


def _charts(runs: Sequence[DriftRun]) -> list[tuple[str, Markup, list[tuple[str, float | None]]]]:
    """Of each family that was compared: its name, the drawing, and the same as numbers."""
    found = []
    for family, name in words.FAMILIES.items():
        points = [(run.week.isoformat(), _share_of_limit(run, family)) for run in runs]
        if any(value is not None for _week, value in points):
            drawing = line_chart(
                points,
                name=_("%(family)s: largest distance of each week", family=str(name)),
                lines=[Line(1.0, _("limit"))],
                top=1.2,
            )
            found.append((str(name), drawing, points))
    return found


def _share_of_limit(run: DriftRun, family: str) -> float | None:
    """The largest distance of a family, where 1 is the limit of its statistic."""
    shares = [
        float(one["distance"]) / float(one["limits"][1])
        for one in run.figures
        if one["family"] == family and one.get("limits")
    ]
    return max(shares, default=None)
