"""What the API takes and gives about plans of change."""

import marshmallow as ma
from marshmallow import fields, validate

from webapp.api.model_schemas import ReasonSchema
from webapp.plans.models import LONGEST_TEXT, PlanVerdict

_NOT_BLANK = validate.Regexp(r"(?s).*\S", error="Please give the plan.")


class NewPlanSchema(ReasonSchema):
    """A plan to be proposed, and why."""

    text = fields.String(
        required=True,
        validate=validate.And(validate.Length(1, LONGEST_TEXT), _NOT_BLANK),
        metadata={"description": "TOML; its `version` is the next number."},
    )


class HeldPlanSchema(ma.Schema):
    """The plan that holds."""

    version = fields.Integer()
    sha256 = fields.String(metadata={"description": "Of the text's UTF-8 bytes."})
    text = fields.String()
    is_shipped = fields.Boolean(metadata={"description": "It came with the product."})


class PlanSchema(ma.Schema):
    """A plan that somebody proposed."""

    id = fields.UUID()
    version = fields.Integer()
    sha256 = fields.String()
    text = fields.String()
    reason = fields.String()
    created_at = fields.AwareDateTime()
    verdict = fields.Enum(
        PlanVerdict,
        by_value=True,
        allow_none=True,
        metadata={"description": "null while it waits for another steward."},
    )
    decided_at = fields.AwareDateTime(allow_none=True)


class RefusedPlanSchema(ma.Schema):
    """A confirmed plan that is not followed."""

    version = fields.Integer()
    reason = fields.String()


class PlansSchema(ma.Schema):
    """The plan that holds, and all that were proposed, newest first."""

    holds = fields.Nested(HeldPlanSchema)
    refused = fields.List(fields.Nested(RefusedPlanSchema))
    plans = fields.List(fields.Nested(PlanSchema))
    next_version = fields.Integer(metadata={"description": "That the next plan has to have."})
    notice = fields.String()
