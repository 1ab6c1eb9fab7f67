"""Forms about models beside the serving one. What a value may be is checked by the operations."""

from flask_babel import lazy_gettext as _l
from wtforms import IntegerField, TextAreaField
from wtforms.validators import InputRequired, Length

from webapp.formerrors import CheckedForm
from webapp.rollout.models import LONGEST_NOTE

_NUMBER = _l("Please give a whole number.")


class ShadowForm(CheckedForm):
    """How much of the work a candidate gets beside the serving model."""

    share = IntegerField(_l("Share of new studies, in per cent"), [InputRequired(_NUMBER)])
    most = IntegerField(_l("Studies at most"), [InputRequired(_NUMBER)])


class AcknowledgementForm(CheckedForm):
    """What a clinician notes about a study that a new model sees otherwise."""

    note = TextAreaField(_l("Note"), [Length(max=LONGEST_NOTE)])
