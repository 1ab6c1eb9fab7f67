"""How pages tell an operation's errors: beside the fields of a form, or on the next page."""

from collections.abc import Callable

from flask import flash, redirect
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm

from webapp.database import db
from webapp.errors import Conflict, PortalError


class CheckedForm(FlaskForm):
    """A form whose values an operation checks."""

    def show(self, error: PortalError) -> None:
        """Put each sentence of ``error`` beside its field, or above the form if there is none."""
        beside = {name: sentence for name, sentence in error.fields.items() if name in self}
        for name, sentence in beside.items():
            # Replaces the field's own errors: ``error`` may be built from them.
            self[name].errors = [sentence]
        if not beside:
            self.form_errors = [error.message]


def done_or_refused(
    change: Callable[[], object],
    told: str,
    address: str,
    *,
    refusals: tuple[type[PortalError], ...] = (Conflict,),
) -> ResponseReturnValue:
    """Do something and redirect; the next page says that it is done, or why it was refused.

    Args:
        told: what it says where all went well.
        refusals: errors that are told in this way; others get their own page.
    """
    try:
        change()
    except refusals as error:
        db.session.rollback()
        flash(error.message, "error")
    else:
        flash(told, "success")
    return redirect(address)
