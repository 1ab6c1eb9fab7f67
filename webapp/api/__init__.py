"""The JSON API under ``/api/v1``, described by OpenAPI at ``/api/v1/openapi.json``."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the API and its description."""
    # Imported here: the views need webapp.accounts.access, which needs other packages' models.
    from webapp.api.description import PortalApi
    from webapp.api.views import blueprint
    from webapp.extensions import csrf

    app.config["OPENAPI_URL_PREFIX"] = "/api/v1"
    # The API accepts only bearer tokens (webapp.accounts.access), so no cookie can be misused.
    csrf.exempt(blueprint)
    PortalApi(app).register_blueprint(blueprint)
