"""The forms of the account pages. The operations check the values."""

from flask_babel import lazy_gettext as _l
from wtforms import (
    BooleanField,
    EmailField,
    IntegerField,
    PasswordField,
    SelectField,
    StringField,
)
from wtforms.fields.choices import SelectChoice
from wtforms.validators import (
    DataRequired,
    EqualTo,
    InputRequired,
    Length,
    NumberRange,
    Optional,
)

from webapp.accounts import operations
from webapp.accounts.models import Role, Scope
from webapp.formerrors import CheckedForm
from webapp.wording import ROLES

_MISSING = _l("Please fill this in.")
_given = DataRequired(_MISSING)
_chosen = InputRequired(_MISSING)
_SCOPES = [
    SelectChoice(Scope.WRITE, _l("Read and write")),
    SelectChoice(Scope.READ, _l("Read only")),
]
_DAYS = [SelectChoice(days, _l("%(n)d days", n=days)) for days in operations.TOKEN_DAYS]
_ROLES = [SelectChoice(role, ROLES[role.value]) for role in Role]


def _email_field() -> EmailField:
    return EmailField(_l("E-mail address"), [_given, Length(max=254)])


def _name_field() -> StringField:
    return StringField(_l("Name"), [_given, Length(max=120)])


def _password_field() -> PasswordField:
    return PasswordField(_l("Password"), [_chosen])


def _repeated_field() -> PasswordField:
    return PasswordField(
        _l("Repeat the password"),
        [_chosen, EqualTo("password", _l("The passwords do not match."))],
    )


def _role_field() -> SelectField:
    return SelectField(_l("Role"), choices=_ROLES, coerce=Role, default=Role.CLINICIAN)


class FirstRunForm(CheckedForm):
    """The first organisation and its administrator."""

    organisation = StringField(_l("Organisation"), [_given, Length(max=120)])
    name = _name_field()
    email = _email_field()
    password = _password_field()
    password_again = _repeated_field()


class SignInForm(CheckedForm):
    """Address and password."""

    email = _email_field()
    password = _password_field()
    remember = BooleanField(_l("Keep me signed in on this device"))


class AcceptInvitationForm(CheckedForm):
    """What an invited person fills in."""

    name = _name_field()
    password = _password_field()
    password_again = _repeated_field()


class PasswordForm(CheckedForm):
    """The old password and the new one twice."""

    current = PasswordField(_l("Current password"), [_chosen])
    password = PasswordField(_l("New password"), [_chosen])
    password_again = _repeated_field()


class TokenForm(CheckedForm):
    """A new API token: its purpose, access and lifetime."""

    name = StringField(_l("Name"), [_given, Length(max=80)])
    scope = SelectField(_l("Access"), choices=_SCOPES, coerce=Scope, default=Scope.WRITE)
    days = SelectField(
        _l("Valid for"), choices=_DAYS, coerce=int, default=operations.DEFAULT_TOKEN_DAYS
    )


class InviteForm(CheckedForm):
    """The address and role of a person to invite."""

    email = _email_field()
    role = _role_field()


class ChangeUserForm(CheckedForm):
    """A user's role, and whether the account is active."""

    role = _role_field()
    is_active = BooleanField(_l("May sign in"))


class ReadingForm(CheckedForm):
    """How readers of the organisation work."""

    blind_reading = BooleanField(
        _l("Hide other readers’ assessments until one’s own has been saved")
    )
    blind_share = IntegerField(
        _l("Percentage of the reading queue to be read before the model’s answer is shown"),
        [Optional(), NumberRange(0, 100, message=_l("Give a number from 0 to 100."))],
    )
