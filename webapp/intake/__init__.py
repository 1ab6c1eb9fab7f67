"""What arrives: checked, de-identified, put together, and handed to the model."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the upload page."""
    # Bound here: the views need models beside this package.
    from webapp.intake.views import blueprint

    app.register_blueprint(blueprint)
