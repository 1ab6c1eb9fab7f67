"""DICOMweb under ``/dicomweb`` (PS3.18): other programs store, find and retrieve instances.

Everything is answered from the de-identified instances of the caller's organisation: all UIDs on
the outside are the pseudonymous ones.
"""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the service."""
    # Bound here: the views need webapp.accounts.access, which needs models beside this package.
    from webapp.dicomweb.addresses import UidConverter
    from webapp.dicomweb.views import blueprint
    from webapp.extensions import csrf

    app.url_map.converters["uid"] = UidConverter
    # Tokens alone count here (webapp.accounts.access), so there is no cookie to misuse.
    csrf.exempt(blueprint)
    app.register_blueprint(blueprint)
