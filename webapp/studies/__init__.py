"""From the upload to the result: patients, studies, images, jobs and predictions."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages."""
    # Bound here: the views need webapp.access, and that needs models beside this package.
    from webapp.studies import results, views

    app.register_blueprint(views.blueprint)
    app.jinja_env.globals.update(
        headline=results.headline,
        named_classes=results.named_classes,
        short_headline=results.short_headline,
    )
