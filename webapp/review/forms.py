"""The form of an assessment."""

import json
import uuid
from collections.abc import Mapping
from typing import Self

from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.datastructures import MultiDict
from wtforms import (
    HiddenField,
    IntegerField,
    RadioField,
    SelectChoice,
    SelectField,
    StringField,
    TextAreaField,
)
from wtforms.validators import Optional

from webapp.errors import InvalidInput
from webapp.formerrors import CheckedForm
from webapp.review.adjudicating import Ruling
from webapp.review.models import OTHER, Assessment, Confidence, Verdict
from webapp.review.operations import Opinion
from webapp.wording import CONFIDENCES, FINDINGS, LABELS, OTHER_LABEL, VERDICTS, word

LONGEST_REGION = 20_000
"""Characters of a region as JSON; 200 points need less than half of it."""
SCOPES = ("image", "range", "study")
"""What is assessed: the current slice, a range of its series, or the whole study."""

UNSURE = Verdict.UNSURE.value


def _choices(words: Mapping[str, LazyString]) -> list[SelectChoice]:
    return [SelectChoice(value, word) for value, word in words.items()]


class AssessmentForm(CheckedForm):
    """A reader's assessment, with the analysis and the slice that were shown.

    ``reading`` is the slice of the reading room from which it is sent; empty outside of it.
    """

    analysis_id = HiddenField()
    image_id = HiddenField()
    region = HiddenField()
    reading = HiddenField()
    scope = RadioField(choices=[SelectChoice(one, one) for one in SCOPES], default="image")
    first = IntegerField(_l("From slice"), [Optional()])
    last = IntegerField(_l("to slice"), [Optional()])
    verdict = RadioField(_l("Your assessment"), choices=_choices(VERDICTS))
    label = SelectField(
        _l("Correct diagnosis"),
        choices=[
            SelectChoice("", ""), *_choices(LABELS), SelectChoice(OTHER, OTHER_LABEL)
        ],
        default="",
    )  # fmt: skip
    finding = StringField(_l("What is it?"))
    confidence = RadioField(
        _l("How sure are you?"), choices=[SelectChoice("", ""), *_choices(CONFIDENCES)], default=""
    )
    comment = TextAreaField(_l("Comment"))

    @classmethod
    def showing(
        cls, one: Assessment | None, *, image_id: uuid.UUID, analysis_id: uuid.UUID
    ) -> Self:
        """The form for a slice, filled with the reader's current assessment of it."""
        seen = {"image_id": str(image_id), "analysis_id": str(analysis_id)}
        if one is None:
            return cls(formdata=None, data=seen)
        disagrees = one.verdict is Verdict.DISAGREE
        return cls(
            formdata=None,
            data=seen
            | {
                "verdict": one.verdict.value,
                "label": one.label if disagrees else "",
                "finding": str(word(FINDINGS, one.finding)) if disagrees else "",
                "confidence": one.confidence.value if one.confidence else "",
                "comment": one.comment,
                "region": json.dumps(one.region["points"]) if one.region else "",
            },
        )

    @classmethod
    def typed(cls, payload: Mapping[str, str]) -> Self:
        """The form with a draft's values."""
        return cls(formdata=MultiDict(payload))

    @property
    def image(self) -> uuid.UUID:
        """The slice for which the form was shown."""
        return _identifier(self.image_id.data)

    @property
    def analysis(self) -> uuid.UUID:
        """The analysis whose answer was shown."""
        return _identifier(self.analysis_id.data)

    @property
    def opinion(self) -> Opinion:
        """The reader's opinion, without values that do not belong to the chosen verdict."""
        disagrees = self.verdict.data == Verdict.DISAGREE.value
        confidence = self.confidence.data
        return Opinion(
            verdict=Verdict(self.verdict.data),
            label=self.label.data if disagrees else None,
            finding=(self.finding.data or "") if disagrees else "",
            confidence=Confidence(confidence) if confidence else None,
            comment=self.comment.data or "",
            # A region belongs to a slice, not to a whole study.
            region=None if self.scope.data == "study" else _points(self.region.data),
        )


class BlindForm(AssessmentForm):
    """What a reader says before the model's answer is shown: a diagnosis, or "unsure"."""

    scope = None
    first = None
    last = None
    verdict = None
    label = RadioField(
        _l("Your diagnosis"),
        choices=[
            *_choices(LABELS),
            SelectChoice(OTHER, OTHER_LABEL),
            SelectChoice(UNSURE, VERDICTS[UNSURE]),
        ],
    )

    @property
    def opinion(self) -> Opinion:
        """The reader's opinion; it counts as agreement where the model says the same."""
        named = self.label.data if self.label.data != UNSURE else None
        confidence = self.confidence.data
        return Opinion(
            verdict=Verdict.DISAGREE if named else Verdict.UNSURE,
            label=named,
            finding=(self.finding.data or "") if named == OTHER else "",
            confidence=Confidence(confidence) if confidence else None,
            comment=self.comment.data or "",
            region=_points(self.region.data),
        )


class RulingForm(CheckedForm):
    """What somebody decides about a slice that readers disagree about."""

    version = HiddenField()
    label = RadioField(
        _l("What is it?"),
        choices=[*_choices(LABELS), SelectChoice(OTHER, OTHER_LABEL)],
        validate_choice=False,
    )
    finding = StringField(_l("What else is it?"))
    comment = TextAreaField(_l("Comment"))

    @property
    def ruling(self) -> Ruling:
        """What is decided; a finding that was typed before another choice counts for nothing."""
        is_other = self.label.data == OTHER
        return Ruling(
            label=self.label.data or "",
            finding=(self.finding.data or "") if is_other else "",
            comment=self.comment.data or "",
            version=self.version.data or None,
        )


def _identifier(text: str | None) -> uuid.UUID:
    try:
        return uuid.UUID(text or "")
    except ValueError as error:
        raise InvalidInput(
            _("This form does not say what was on the screen. Please reload the page.")
        ) from error


def _points(text: str | None) -> list[list[float]] | None:
    """Parse a JSON list of number pairs; their range is checked later."""
    if not text:
        return None
    try:
        if len(text) > LONGEST_REGION:
            raise ValueError("too long")
        given = json.loads(text)
        if not isinstance(given, list) or not all(map(_is_pair, given)):
            raise ValueError("no list of pairs")
        return [[float(value) for value in pair] for pair in given]
    except (ValueError, OverflowError, RecursionError) as error:
        message = _("This is not a region. Please draw it again.")
        raise InvalidInput(message, fields={"region": message}) from error


def _is_pair(given: object) -> bool:
    return (
        isinstance(given, list)
        and len(given) == 2
        and all(type(value) in (int, float) for value in given)
    )
