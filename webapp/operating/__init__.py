"""Operating the installation: what it does, for the operator's page and for Prometheus."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the page and the metrics."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.monitoring import add_collector
    from webapp.operating import views
    from webapp.operating.metrics import StateCollector

    app.register_blueprint(views.blueprint)
    add_collector(app, StateCollector())
