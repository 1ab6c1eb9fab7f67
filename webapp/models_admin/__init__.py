"""Models: which have spoken here, which one serves, and how another one comes to serve."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages and the command line."""
    # Bound here: the views need webapp.accounts.access, which needs models beside this package.
    from webapp.models_admin.commands import models
    from webapp.models_admin.views import blueprint

    app.register_blueprint(blueprint)
    app.cli.add_command(models)
