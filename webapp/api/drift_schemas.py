"""What the API gives about drift."""

import marshmallow as ma
from marshmallow import fields, validate

from ml.serving.observation import Family
from webapp.watch.models import Against, RunVerdict

_FAMILY = validate.OneOf([family.value for family in Family])


class FigureSchema(ma.Schema):
    """One statistic of a week beside the baseline."""

    statistic = fields.String()
    family = fields.String(validate=_FAMILY)
    distance = fields.Float(
        metadata={"description": "Without what chance alone makes of it; 0 or more."}
    )
    p = fields.Float()
    now = fields.Float(metadata={"description": "Mean or share in the week."})
    before = fields.Float(metadata={"description": "Mean or share in the baseline."})
    level = fields.Integer(
        validate=validate.Range(0, 3),
        metadata={"description": "0 within the limits, 1 between, 2 different, 3 very different."},
    )
    limits = fields.List(
        fields.Float(), allow_none=True, metadata={"description": "From which each level begins."}
    )


class WeekSchema(ma.Schema):
    """A week of one origin."""

    week = fields.Date(metadata={"description": "Its Monday, in UTC."})
    scope = fields.String(metadata={"description": "`all`, `node:ID` or `format:NAME`."})
    is_final = fields.Boolean(metadata={"description": "The week is over."})
    studies = fields.Integer()
    assessed = fields.Integer()
    overridden = fields.Integer()
    against = fields.Enum(Against, by_value=True)
    verdict = fields.Enum(RunVerdict, by_value=True)
    figures = fields.List(fields.Nested(FigureSchema))


class AlarmSchema(ma.Schema):
    """Something that drifts."""

    id = fields.UUID()
    family = fields.String(validate=_FAMILY)
    scope = fields.String()
    week = fields.Date()
    created_at = fields.AwareDateTime()
    cleared_at = fields.AwareDateTime(allow_none=True)
    acknowledged_at = fields.AwareDateTime(allow_none=True)
    note = fields.String()


class BaselineSchema(ma.Schema):
    """What weeks are compared with."""

    created_at = fields.AwareDateTime()
    studies = fields.Integer()
    model_sha256 = fields.String()


class DriftSchema(ma.Schema):
    """Open alarms, the newest week of each origin, and the baseline."""

    alarms = fields.List(fields.Nested(AlarmSchema))
    weeks = fields.List(fields.Nested(WeekSchema))
    baseline = fields.Nested(BaselineSchema, allow_none=True)
    sentence = fields.String(metadata={"description": "The same in one sentence."})
    notice = fields.String()
