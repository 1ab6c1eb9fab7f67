"""The reading room: a queue for each reader, and what became of each assessment."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.reading import views, words

    app.register_blueprint(views.blueprint)
    words.init_app(app)
