"""What the API gives of the reading room."""

import marshmallow as ma
from marshmallow import fields, validate

from webapp.api.answer_schemas import ListLinksSchema
from webapp.api.fields import WholeNumber
from webapp.inference.telling import Reason
from webapp.reading.outcomes import Counting
from webapp.review.consensus import State

MOST_ROWS = 100
_REASONS = [one.value for one in Reason]


class QueueQuerySchema(ma.Schema):
    """How many entries."""

    limit = WholeNumber(load_default=50, validate=validate.Range(1, MOST_ROWS))


class EntryLinksSchema(ma.Schema):
    """Where to go from here; paths on this server."""

    pixels = fields.String(metadata={"description": "The slice at full bit depth, PNG."})
    feedback = fields.String(metadata={"description": "Where the assessment is sent."})
    page = fields.String(metadata={"description": "For people, with a browser."})


class EntrySchema(ma.Schema):
    """A slice that is asked for."""

    image_id = fields.UUID()
    study_id = fields.UUID()
    position = fields.Integer(metadata={"description": "In the study, from 0."})
    patient_code = fields.String()
    blind = fields.Boolean(
        metadata={
            "description": (
                "To be named before the model's answer is shown: send the diagnosis with "
                "`model_shown` false, and do not ask for the study before."
            )
        }
    )
    reasons = fields.List(
        fields.String(validate=validate.OneOf(_REASONS)),
        metadata={"description": "Why it is asked for; empty while it is to be read blind."},
    )
    weight = fields.Float(
        allow_none=True,
        metadata={"description": "What the queue is ordered by; null while it is read blind."},
    )
    links = fields.Nested(EntryLinksSchema)


class QueueSchema(ma.Schema):
    """The queue of the token's user, the most telling slice first."""

    items = fields.List(fields.Nested(EntrySchema))
    total = fields.Integer(metadata={"description": "Of all, not of these alone."})
    total_is_least = fields.Boolean(metadata={"description": "There are more than `total`."})
    notice = fields.String()


class LearntSchema(ma.Schema):
    """A candidate model that was made with the slice."""

    model = fields.String()
    served_since = fields.AwareDateTime(allow_none=True)


class KeptSchema(ma.Schema):
    """A snapshot that holds the slice."""

    snapshot = fields.String()
    label = fields.String()
    is_held_out = fields.Boolean()
    learnt = fields.List(fields.Nested(LearntSchema))


class NewAnswerSchema(ma.Schema):
    """What the model says of the slice in a later analysis of its study."""

    label = fields.String()
    model = fields.String()


class OutcomeSchema(ma.Schema):
    """What became of one of your assessments."""

    assessment_id = fields.UUID()
    study_id = fields.UUID()
    image_id = fields.UUID(allow_none=True)
    label = fields.String(allow_none=True)
    finding = fields.String()
    model_shown = fields.Boolean(
        metadata={"description": "false where it was given before the model's answer was shown."}
    )
    created_at = fields.AwareDateTime()
    said_by_model = fields.String(allow_none=True)
    counting = fields.Enum(Counting, by_value=True)
    consensus = fields.Enum(State, by_value=True, allow_none=True)
    agreed_label = fields.String(allow_none=True)
    snapshots = fields.List(fields.Nested(KeptSchema))
    new_answer = fields.Nested(NewAnswerSchema, allow_none=True)


class OutcomeListSchema(ma.Schema):
    """One page of your assessments, newest first."""

    items = fields.List(fields.Nested(OutcomeSchema))
    next_cursor = fields.String(allow_none=True)
    links = fields.Nested(ListLinksSchema)
    notice = fields.String()
