"""Between candidate and serving model: shadow, trial, recall of earlier studies, evidence."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages, the command line, and what follows the end of an analysis."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.inference.analyses import comparison_finished
    from webapp.rollout import commands as _commands  # noqa: F401 - adds to those of models
    from webapp.rollout import recall_views, views
    from webapp.rollout.recall_queries import count_for_navigation
    from webapp.rollout.recalling import note_change

    app.register_blueprint(views.blueprint)
    app.register_blueprint(recall_views.blueprint)
    app.jinja_env.globals.update(count_open_recalls=count_for_navigation)
    comparison_finished.connect(note_change)
