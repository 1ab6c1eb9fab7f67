"""What readers agreed about, frozen so that models can learn from it."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages and the command line."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.learning import commands, views

    app.register_blueprint(views.blueprint)
    app.cli.add_command(commands.snapshots)
