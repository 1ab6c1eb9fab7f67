"""Pages and lists of studies: worklist, one study, history, jobs."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages."""
    # Bound here: the views need models beside this package.
    from webapp.worklist.views import blueprint

    app.register_blueprint(blueprint)
