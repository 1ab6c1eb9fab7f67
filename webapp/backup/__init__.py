"""One folder with all that an installation is: rows, files and the fingerprints of its keys."""

from flask import Flask

from webapp.backup.commands import backup, restore


def init_app(app: Flask) -> None:
    """Add ``flask backup`` and ``flask restore``."""
    app.cli.add_command(backup)
    app.cli.add_command(restore)
