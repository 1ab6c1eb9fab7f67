"""Forms of the correction pages."""

import uuid
from collections.abc import Sequence

from flask_babel import lazy_gettext as _l
from werkzeug.datastructures import MultiDict
from wtforms import BooleanField, HiddenField, RadioField, SelectChoice, SelectField, StringField

from webapp.corrections.moving import NewStudy
from webapp.corrections.operations import LONGEST_NOTE, Correction, Deletion, DeletionReason
from webapp.errors import InvalidInput
from webapp.formerrors import CheckedForm
from webapp.studies.models import Priority, Series
from webapp.wording import DELETION_REASONS, PRIORITIES

_PRIORITIES = [SelectChoice(value, word) for value, word in PRIORITIES.items()]
_ASK = SelectChoice("", _l("Please choose"))
NEW, EXISTING = "new", "existing"


class CorrectionForm(CheckedForm):
    """A study's data. The operations check the values."""

    patient_code = StringField(_l("Patient code"))
    description = StringField(_l("Description"))
    priority = SelectField(_l("Priority"), choices=_PRIORITIES)
    code_confirmed = BooleanField(_l("The patient code is a pseudonym and names nobody"))
    seen = HiddenField()

    @property
    def correction(self) -> Correction:
        """The values of a validated form."""
        return Correction(
            patient_code=self.patient_code.data or "",
            description=self.description.data or "",
            priority=Priority(self.priority.data),
            code_confirmed=bool(self.code_confirmed.data),
        )


class MoveForm(CheckedForm):
    """Where to move slices; :func:`chosen_images` reads which ones."""

    where = RadioField(
        _l("Move them to"),
        choices=[
            SelectChoice(NEW, _l("a new study")),
            SelectChoice(EXISTING, _l("another study that is here")),
        ],
        default=NEW,
    )
    target = SelectField(_l("Study"), choices=[], validate_choice=False)
    patient_code = StringField(_l("Patient code"))
    description = StringField(_l("Description"))
    priority = SelectField(_l("Priority"), choices=_PRIORITIES)
    code_confirmed = BooleanField(_l("The patient code is a pseudonym and names nobody"))

    @property
    def destination(self) -> uuid.UUID | NewStudy:
        """The chosen study, or the new one to create.

        Raises:
            InvalidInput: none was chosen.
        """
        if self.where.data == EXISTING:
            try:
                return uuid.UUID(self.target.data or "")
            except ValueError:
                sentence = str(_l("Please choose a study."))
                raise InvalidInput(sentence, fields={"target": sentence}) from None
        return NewStudy(
            patient_code=self.patient_code.data or "",
            description=self.description.data or "",
            priority=Priority(self.priority.data),
            code_confirmed=bool(self.code_confirmed.data),
        )


class DeletionForm(CheckedForm):
    """Why a study is deleted, and a box to confirm it."""

    reason = SelectField(
        _l("Reason"),
        choices=[_ASK, *(SelectChoice(code, word) for code, word in DELETION_REASONS.items())],
        validate_choice=False,
    )
    note = StringField(_l("Reason in your words"), render_kw={"maxlength": LONGEST_NOTE})
    sure = BooleanField(_l("I have looked: this study is to be deleted for good"))
    seen = HiddenField()

    @property
    def deletion(self) -> Deletion:
        """The reason and note.

        Raises:
            InvalidInput: there is no reason, or the box is not ticked.
        """
        try:
            reason = DeletionReason(self.reason.data or "")
        except ValueError:
            sentence = str(_l("Please choose a reason."))
            raise InvalidInput(sentence, fields={"reason": sentence}) from None
        if not self.sure.data:
            sentence = str(_l("Please tick the box if this study is to be deleted."))
            raise InvalidInput(sentence, fields={"sure": sentence})
        return Deletion(reason, self.note.data or "")


def identifier(text: str | None) -> uuid.UUID | None:
    """Parse an id from a form; None if it is not one."""
    try:
        return uuid.UUID(text) if text else None
    except ValueError:
        return None


def chosen_images(values: MultiDict[str, str], series: Sequence[Series]) -> set[uuid.UUID]:
    """Ids of the slices chosen in a form: one by one, by range, or by whole series."""
    named = map(identifier, values.getlist("image"))
    chosen = {image_id for image_id in named if image_id is not None}
    whole = set(values.getlist("series"))
    for one in series:
        first, last = (values.get(f"{end}-{one.id}", type=int) for end in ("from", "to"))
        if str(one.id) in whole:
            chosen.update(image.id for image in one.images)
        elif first is not None or last is not None:
            start, end = first or 1, last or len(one.images)
            chosen.update(image.id for image in one.images[max(start, 1) - 1 : max(end, 0)])
    return chosen
