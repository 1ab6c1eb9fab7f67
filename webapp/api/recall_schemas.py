"""What the API takes and gives about earlier studies that a new model sees otherwise."""

import marshmallow as ma
from marshmallow import fields, validate

from webapp.rollout.models import LONGEST_NOTE, Change


class AcknowledgementSchema(ma.Schema):
    """What the caller notes."""

    note = fields.String(load_default="", validate=validate.Length(0, LONGEST_NOTE))


class AcknowledgedSchema(ma.Schema):
    """A case that somebody has taken notice of."""

    id = fields.UUID()
    acknowledged_at = fields.AwareDateTime()
    note = fields.String()


class RecalledAnswerSchema(ma.Schema):
    """What one model says of the study."""

    label = fields.String()
    prediction_set = fields.List(fields.String())
    model = fields.String(allow_none=True)


class RecalledSliceSchema(ma.Schema):
    """A slice that both models call differently, or the key slice if there is none."""

    image_id = fields.UUID()
    position = fields.Integer()
    before = fields.String()
    after = fields.String()


class RecallCaseSchema(ma.Schema):
    """A study that a new model sees otherwise."""

    id = fields.UUID()
    study_id = fields.UUID()
    patient_code = fields.String()
    change = fields.Enum(Change, by_value=True)
    before = fields.Nested(RecalledAnswerSchema, metadata={"description": "What the study shows."})
    after = fields.Nested(RecalledAnswerSchema)
    slices = fields.List(fields.Nested(RecalledSliceSchema))
    is_current = fields.Boolean(
        metadata={"description": "The study has not been analysed again since."}
    )
    created_at = fields.AwareDateTime()


class RecallListSchema(ma.Schema):
    """Cases that nobody has acknowledged, the riskiest first; at most 50 of `total`."""

    items = fields.List(fields.Nested(RecallCaseSchema))
    total = fields.Integer()
    notice = fields.String()
