"""Receive images: check, de-identify, group into studies, and queue for the model."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the upload page."""
    # Imported here: the views need other packages' models.
    from webapp.intake.views import blueprint

    app.register_blueprint(blueprint)
