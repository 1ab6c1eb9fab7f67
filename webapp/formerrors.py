"""Forms that show what an operation refuses beside the field that it is about."""

from flask_wtf import FlaskForm

from webapp.errors import PortalError


class CheckedForm(FlaskForm):
    """A form whose values an operation checks."""

    def show(self, error: PortalError) -> None:
        """Put each sentence of ``error`` beside its field, or above the form if there is none."""
        beside = {name: sentence for name, sentence in error.fields.items() if name in self}
        for name, sentence in beside.items():
            # In place of what the field's own checks say: the error may be made of that.
            self[name].errors = [sentence]
        if not beside:
            self.form_errors = [error.message]
