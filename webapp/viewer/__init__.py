"""Slices, series and volumes for the browser."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add what the browser fetches."""
    # Bound here: the views need models beside this package.
    from webapp.viewer.series import PLANES
    from webapp.viewer.views import blueprint
    from webapp.wording import word

    app.register_blueprint(blueprint)
    app.add_template_filter(lambda plane: word(PLANES, plane), "plane_word")
