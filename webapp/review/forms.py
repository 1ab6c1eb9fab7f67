"""The form of a reader’s assessment."""

from collections.abc import Mapping
from typing import Self

from flask_babel import LazyString
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import RadioField, SelectChoice, SelectField, TextAreaField

from webapp.errors import PortalError
from webapp.review.models import Assessment, Confidence, Verdict
from webapp.wording import CONFIDENCES, LABELS, VERDICTS


def _choices(words: Mapping[str, LazyString]) -> list[SelectChoice]:
    return [SelectChoice(value, word) for value, word in words.items()]


class AssessmentForm(FlaskForm):
    """A reader’s assessment about one image."""

    verdict = RadioField(_l("Your assessment"), choices=_choices(VERDICTS))
    label = SelectField(
        _l("Correct diagnosis"), choices=[SelectChoice("", ""), *_choices(LABELS)], default=""
    )
    confidence = RadioField(
        _l("How sure are you?"), choices=[SelectChoice("", ""), *_choices(CONFIDENCES)], default=""
    )
    comment = TextAreaField(_l("Comment"))

    @classmethod
    def showing(cls, answer: Assessment | None) -> Self:
        """The form, filled with the reader's current answer."""
        if answer is None:
            return cls(formdata=None)
        return cls(
            formdata=None,
            verdict=answer.verdict.value,
            label=answer.label if answer.verdict is Verdict.DISAGREE else "",
            confidence=answer.confidence.value if answer.confidence else "",
            comment=answer.comment,
        )

    def show(self, error: PortalError) -> None:
        """Put each sentence of ``error`` beside the field that it is about."""
        for name, sentence in error.fields.items():
            if name in self:
                self[name].errors = [sentence]
        if not error.fields:
            self.form_errors = [error.message]

    @property
    def chosen_label(self) -> str | None:
        """The correct diagnosis; a choice made before the verdict was changed counts for nothing."""
        return self.label.data if self.verdict.data == Verdict.DISAGREE.value else None

    @property
    def chosen_confidence(self) -> Confidence | None:
        """How sure the reader is, where the reader said so."""
        return Confidence(self.confidence.data) if self.confidence.data else None
