"""Studies put right: their data, their slices, and that they are here at all."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages."""
    # Bound here: the views need models beside this package.
    from webapp.corrections.views import blueprint

    app.register_blueprint(blueprint)
