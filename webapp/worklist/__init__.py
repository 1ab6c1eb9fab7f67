"""Pages for lists of studies: worklist, one study, history, jobs."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages."""
    # Imported here: the views need other packages' models.
    from webapp.worklist.views import blueprint

    app.register_blueprint(blueprint)
