"""The model's answers about studies: analyses, their leases, and what is said."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Let templates put answers into words."""
    # Bound here: results need models beside this package.
    from webapp.inference import results

    app.jinja_env.globals.update(
        headline=results.headline,
        named_classes=results.named_classes,
        short_headline=results.short_headline,
    )
