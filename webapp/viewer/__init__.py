"""Slices, series and volumes for the viewer in the browser."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the viewer's endpoints and template filter."""
    # Imported here: the views need other packages' models.
    from webapp.viewer.series import PLANES
    from webapp.viewer.views import blueprint
    from webapp.wording import word

    app.register_blueprint(blueprint)
    app.add_template_filter(lambda plane: word(PLANES, plane), "plane_word")
