"""Correct a study's data, move its slices to another study, or delete it."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages."""
    # Imported here: the views need other packages' models.
    from webapp.corrections.views import blueprint

    app.register_blueprint(blueprint)
