"""``make demo``: an account and a dozen real slices, so that a new user sees results."""

from flask import Flask

from webapp.demo.commands import demo


def init_app(app: Flask) -> None:
    """Add ``flask demo …``."""
    app.cli.add_command(demo)
