"""The form in which a person says why. What may stand in it is checked by the operations."""

from flask_babel import lazy_gettext as _l
from wtforms import TextAreaField
from wtforms.validators import DataRequired, Length

from webapp.formerrors import CheckedForm
from webapp.models_admin.models import LONGEST_REASON


class ReasonForm(CheckedForm):
    """Why a model is proposed, taken back, or switched off."""

    reason = TextAreaField(
        _l("Reason"), [DataRequired(_l("Please give a reason.")), Length(max=LONGEST_REASON)]
    )
