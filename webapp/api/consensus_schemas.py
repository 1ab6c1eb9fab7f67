"""What the API takes and gives about slices that readers disagree about."""

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from ml.labels import LABELS
from webapp.api.fields import WholeNumber
from webapp.review.models import OTHER

MOST_ROWS = 100
_DIAGNOSES = [*(label.value for label in LABELS), OTHER]
_WORDS = r"[^\s\u0000]"  # somewhere in the text


class DisputeQuerySchema(ma.Schema):
    """How many disputes."""

    limit = WholeNumber(load_default=25, validate=validate.Range(1, MOST_ROWS))


class OpinionSchema(ma.Schema):
    """What one reader says; nothing says who."""

    label = fields.String(allow_none=True, metadata={"description": "null for unsure."})
    finding = fields.String(metadata={"description": "What it is, where the label is `other`."})
    confidence = fields.String(allow_none=True)
    comment = fields.String()
    region = fields.List(fields.List(fields.Float()), allow_none=True)


class DisputeLinksSchema(ma.Schema):
    """Where to go from here; paths on this server."""

    pixels = fields.String(metadata={"description": "The slice at full bit depth, PNG."})
    page = fields.String(metadata={"description": "For people, with a browser."})


class DisputeSchema(ma.Schema):
    """A slice that readers disagree about."""

    image_id = fields.UUID()
    study_id = fields.UUID()
    version = fields.String(metadata={"description": "Changes when a reader says something else."})
    opinions = fields.List(fields.Nested(OpinionSchema))
    links = fields.Nested(DisputeLinksSchema)


class DisputeListSchema(ma.Schema):
    """Disputes that you may settle, the longest waiting first."""

    items = fields.List(fields.Nested(DisputeSchema))
    total = fields.Integer(metadata={"description": "Of all, not of these alone."})
    notice = fields.String()


class RulingSchema(ma.Schema):
    """What a slice is called that readers disagree about."""

    class Meta:
        """``other`` needs words."""

        conditions: list[dict[str, Any]] = [
            {
                "anyOf": [
                    {"properties": {"label": {"enum": [label.value for label in LABELS]}}},
                    {"required": ["finding"], "properties": {"finding": {"pattern": _WORDS}}},
                ]
            }
        ]

    label = fields.String(required=True, validate=validate.OneOf(_DIAGNOSES))
    finding = fields.String(
        load_default="",
        validate=validate.Length(max=64),
        metadata={"description": "What it is, with `other`."},
    )
    comment = fields.String(load_default="", validate=validate.Length(max=2000))
    version = fields.String(
        load_default=None,
        allow_none=True,
        metadata={"description": "Of the dispute that was weighed: refused if it has changed."},
    )


class AdjudicationSchema(ma.Schema):
    """A dispute that is settled."""

    id = fields.UUID()
    image_id = fields.UUID()
    label = fields.String()
    finding = fields.String()
    comment = fields.String()
    opinions = fields.Integer(metadata={"description": "Number of assessments that were weighed."})
    created_at = fields.AwareDateTime()
    notice = fields.String()
