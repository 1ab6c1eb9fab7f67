"""The plan of change: what may change in a model, on which data, and what it has to pass."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the page and the command line."""
    # Bound here: the views need webapp.accounts.access, which needs models beside this package.
    from webapp.plans.commands import plans
    from webapp.plans.views import blueprint

    app.register_blueprint(blueprint)
    app.cli.add_command(plans)
