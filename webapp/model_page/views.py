"""The page about the serving model: what it is, what it can, and what is not known."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from markupsafe import Markup

from webapp.accounts.access import actor
from webapp.accounts.models import Role
from webapp.charts import reliability_diagram
from webapp.model_page.figures import ModelFigures, figures_of
from webapp.models_admin.serving import overview
from webapp.watch.queries import open_alarms, runs_of
from webapp.watch.words import drift_sentence

blueprint = Blueprint("model_page", __name__)

_WEEKS = 4


@blueprint.get("/model")
def show() -> ResponseReturnValue:
    """One page in plain words."""
    found = overview()
    figures = figures_of(found)
    return render_template(
        "model_page/model.html",
        overview=found,
        figures=figures,
        diagram=_diagram(figures),
        drift=drift_sentence(runs_of(weeks=_WEEKS), open_alarms()),
        is_steward=actor().may(Role.STEWARD),
    )


def _diagram(figures: ModelFigures) -> Markup | None:
    if not figures.bins:
        return None
    return reliability_diagram(
        [(one.given, one.right, one.n) for one in figures.bins],
        name=_("Probability given and share right; the numbers are in the table."),
        across=_("probability given"),
        up=_("share right"),
    )
