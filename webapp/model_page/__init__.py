"""The page about the serving model, for everybody who signs in."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the page."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.model_page.views import blueprint

    app.register_blueprint(blueprint)
