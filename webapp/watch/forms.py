"""The form of an alarm. What may stand in it is checked by the operation."""

from flask_babel import lazy_gettext as _l
from wtforms import TextAreaField

from webapp.formerrors import CheckedForm


class AcknowledgementForm(CheckedForm):
    """What was done about an alarm."""

    note = TextAreaField(_l("What was found and done"))
