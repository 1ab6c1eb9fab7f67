"""Between candidate and serving model: shadow, trial, recall of earlier studies, evidence."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages, the command line, and what follows the end of an analysis."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.rollout import views

    app.register_blueprint(views.blueprint)
