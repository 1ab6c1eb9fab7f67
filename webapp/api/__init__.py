"""The JSON API under ``/api/v1``, described by OpenAPI at ``/api/v1/openapi.json``."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the API and its description."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.api import (
        consensus_views,
        drift_views,
        learning_views,
        model_views,
        plan_views,
        reading_views,
        recall_views,
        rollout_views,
        views,
    )
    from webapp.api.description import PortalApi
    from webapp.extensions import csrf

    app.config["OPENAPI_URL_PREFIX"] = "/api/v1"
    # Bearer tokens alone count here (webapp.accounts.access), so there is no cookie to misuse.
    api = PortalApi(app)
    for module in (
        views,
        consensus_views,
        learning_views,
        model_views,
        rollout_views,
        recall_views,
        drift_views,
        reading_views,
        plan_views,
    ):
        csrf.exempt(module.blueprint)
        api.register_blueprint(module.blueprint)
