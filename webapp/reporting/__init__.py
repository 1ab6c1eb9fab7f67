"""Results as files: PDF for people, DICOM for archives, FHIR for other systems."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages, and the template filters for deliveries."""
    # Imported here: the views need webapp.accounts.access, which needs other packages' models.
    from webapp.reporting.views import blueprint
    from webapp.reporting.words import DELIVERY_REASONS, DELIVERY_STATUSES
    from webapp.wording import word

    app.register_blueprint(blueprint)
    app.add_template_filter(lambda value: word(DELIVERY_STATUSES, value), "delivery_status_word")
    app.add_template_filter(lambda value: word(DELIVERY_REASONS, value), "delivery_reason_word")
