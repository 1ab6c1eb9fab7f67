"""Readers' assessments of the model's answers."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages and the command line."""
    # Imported here: the views need webapp.accounts.access, which needs other packages' models.
    from webapp.review import commands, views

    app.register_blueprint(views.blueprint)
    app.cli.add_command(commands.feedback)
