"""Receive images from picture archives and send results to them."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages and the command line."""
    # Imported here: the views need webapp.accounts.access, which needs other packages' models.
    from webapp.inference.analyses import study_finished
    from webapp.pacs.commands import pacs
    from webapp.pacs.deliveries import queue_automatic_deliveries
    from webapp.pacs.views import blueprint

    app.register_blueprint(blueprint)
    app.cli.add_command(pacs)
    study_finished.connect(queue_automatic_deliveries)
