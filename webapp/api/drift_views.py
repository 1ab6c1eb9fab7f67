"""The address of the API about drift."""

from webapp.accounts.access import requires
from webapp.accounts.models import Role
from webapp.api.answers import Json, notice
from webapp.api.description import PortalBlueprint
from webapp.api.drift_schemas import DriftSchema
from webapp.watch import queries
from webapp.watch.words import drift_sentence

blueprint = PortalBlueprint(
    "drift_api", __name__, url_prefix="/api/v1", description="Whether studies are what they were."
)


@blueprint.get("/drift")
@blueprint.response(200, DriftSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@requires(Role.STEWARD)
def get_drift() -> Json:
    """Open alarms and the newest weeks; data stewards and above."""
    alarms = queries.open_alarms()
    return {
        "alarms": alarms,
        "weeks": queries.newest_runs(),
        "baseline": queries.newest_baseline(),
        "sentence": drift_sentence(queries.runs_of(weeks=4), alarms),
        "notice": notice(),
    }
