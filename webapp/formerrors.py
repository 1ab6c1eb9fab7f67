"""Forms that show an operation's errors beside the fields."""

from flask_wtf import FlaskForm

from webapp.errors import PortalError


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
