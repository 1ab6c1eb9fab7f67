"""From the upload to the result: patients, studies, images, jobs and predictions."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages."""
    # Bound here: the views need webapp.access, and that needs models beside this package.
    from webapp.studies import corrections_views, results, views
    from webapp.studies.series import PLANES
    from webapp.wording import word

    app.register_blueprint(views.blueprint)
    app.register_blueprint(corrections_views.blueprint)
    app.add_template_filter(lambda plane: word(PLANES, plane), "plane_word")
    app.jinja_env.globals.update(
        headline=results.headline,
        named_classes=results.named_classes,
        short_headline=results.short_headline,
    )
