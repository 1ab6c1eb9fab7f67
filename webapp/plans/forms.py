"""The form of a new plan. What may stand in it is checked by the operations."""

from flask_babel import lazy_gettext as _l
from flask_wtf.file import FileField
from wtforms import StringField, TextAreaField

from webapp.formerrors import CheckedForm


class PlanForm(CheckedForm):
    """A plan as text, or as a file, which is taken in its place."""

    text = TextAreaField(_l("Plan (TOML)"))
    file = FileField(_l("Or a file"))
    reason = StringField(_l("Reason"))

    def given(self) -> str:
        """The file's text where there is one; what is no UTF-8 is replaced."""
        content: bytes = self.file.data.read() if self.file.data else b""
        return content.decode(errors="replace") if content else (self.text.data or "")
