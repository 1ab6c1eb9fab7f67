"""Forms of data stewards. What a value must look like is checked by the operations."""

from flask_babel import lazy_gettext as _l
from wtforms import StringField

from webapp.formerrors import CheckedForm


class SnapshotForm(CheckedForm):
    """A new snapshot."""

    name = StringField(_l("Name"))


class WithdrawalForm(CheckedForm):
    """A patient whom no later snapshot may hold."""

    code = StringField(_l("Patient code"))
