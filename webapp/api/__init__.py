"""The JSON API under ``/api/v1``, described by OpenAPI at ``/api/v1/openapi.json``."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the API and its description."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.api.description import PortalApi
    from webapp.api.model_views import blueprint as models
    from webapp.api.views import blueprint
    from webapp.extensions import csrf

    app.config["OPENAPI_URL_PREFIX"] = "/api/v1"
    # Bearer tokens alone count here (webapp.accounts.access), so there is no cookie to misuse.
    api = PortalApi(app)
    for each in (blueprint, models):
        csrf.exempt(each)
        api.register_blueprint(each)
