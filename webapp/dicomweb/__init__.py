"""DICOMweb under ``/dicomweb`` (PS3.18): programs store, find and retrieve instances.

All responses come from the de-identified instances of the caller's organisation, with their
pseudonymous UIDs.
"""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the service."""
    # Imported here: the views need webapp.accounts.access, which needs other packages' models.
    from webapp.dicomweb.addresses import UidConverter
    from webapp.dicomweb.views import blueprint
    from webapp.extensions import csrf

    app.url_map.converters["uid"] = UidConverter
    # Only tokens are accepted (webapp.accounts.access), so no cookie can be misused.
    csrf.exempt(blueprint)
    app.register_blueprint(blueprint)
