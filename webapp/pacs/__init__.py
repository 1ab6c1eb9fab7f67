"""The way in from picture archives and the way out to them."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages and the command line."""
    # Bound here: the views need webapp.accounts.access, which needs models beside this package.
    from webapp.inference.analyses import study_finished
    from webapp.pacs.commands import pacs
    from webapp.pacs.deliveries import queue_automatic_deliveries
    from webapp.pacs.views import blueprint

    app.register_blueprint(blueprint)
    app.cli.add_command(pacs)
    study_finished.connect(queue_automatic_deliveries)
