"""The form in which a person says why. What may stand in it is checked by the operations."""

from flask_babel import lazy_gettext as _l
from wtforms import IntegerField, TextAreaField
from wtforms.validators import DataRequired, Length, Optional

from webapp.formerrors import CheckedForm
from webapp.models_admin.models import LONGEST_REASON


class ReasonForm(CheckedForm):
    """Why a model is proposed, taken back, or switched off."""

    reason = TextAreaField(
        _l("Reason"), [DataRequired(_l("Please give a reason.")), Length(max=LONGEST_REASON)]
    )


class ProposalForm(ReasonForm):
    """A model that is proposed, for all studies or on trial for a share of new ones."""

    share = IntegerField(_l("Share of new studies, in per cent"), [Optional()])
