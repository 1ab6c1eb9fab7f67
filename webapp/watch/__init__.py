"""The watch: whether studies, results and readers' opinions are what they were."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add pages and metrics, and the count of alarms to every page of a data steward."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.monitoring import add_collector
    from webapp.watch import queries, views
    from webapp.watch.metrics import WatchCollector

    app.register_blueprint(views.blueprint)
    add_collector(app, WatchCollector())
    app.jinja_env.globals["count_unseen_alarms"] = queries.count_unseen_alarms
