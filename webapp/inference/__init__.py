"""The model's answers about studies: analyses, their leases, and results."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Give templates the functions that put results into words."""
    # Imported here: results need other packages' models.
    from webapp.inference import results

    app.jinja_env.globals.update(
        headline=results.headline,
        named_classes=results.named_classes,
        short_headline=results.short_headline,
    )
