"""From the upload to the result: patients, studies, images, jobs and predictions."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages."""
    # Bound here: the views need webapp.accounts.access, and that needs models beside this package.
    from webapp.corrections import views as corrections_views
    from webapp.inference import results
    from webapp.viewer.series import PLANES
    from webapp.wording import word
    from webapp.worklist import views

    app.register_blueprint(views.blueprint)
    app.register_blueprint(corrections_views.blueprint)
    app.add_template_filter(lambda plane: word(PLANES, plane), "plane_word")
    app.jinja_env.globals.update(
        headline=results.headline,
        named_classes=results.named_classes,
        short_headline=results.short_headline,
    )
