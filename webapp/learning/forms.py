"""Forms of data stewards. What a value must look like is checked by the operations."""

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import StringField

from webapp.errors import InvalidInput
from webapp.formerrors import CheckedForm
from webapp.learning.models import RetrainingMode


class SnapshotForm(CheckedForm):
    """A new snapshot."""

    name = StringField(_l("Name"))


class RetrainingForm(CheckedForm):
    """What may change in a retraining; without a choice, the head."""

    mode = StringField()

    def chosen(self) -> RetrainingMode:
        """The mode; raises :class:`webapp.errors.InvalidInput`."""
        try:
            return RetrainingMode(self.mode.data or RetrainingMode.HEAD)
        except ValueError as error:
            raise InvalidInput.of_field("mode", _("There is no such choice.")) from error


class WithdrawalForm(CheckedForm):
    """A patient whom no later snapshot may hold."""

    code = StringField(_l("Patient code"))
