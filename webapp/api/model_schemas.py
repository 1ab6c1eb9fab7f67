"""What the API takes and gives about models."""

import marshmallow as ma
from marshmallow import fields, validate

from webapp.models_admin.models import LONGEST_REASON, Decision, DeploymentKind, GateStatus
from webapp.models_admin.operations import LEAST_SHARE

_NOT_BLANK = validate.Regexp(r"(?s).*\S", error="Please give a reason.")


class ReasonSchema(ma.Schema):
    """Why."""

    reason = fields.String(
        required=True, validate=validate.And(validate.Length(1, LONGEST_REASON), _NOT_BLANK)
    )


class NewProposalSchema(ReasonSchema):
    """Why, and for how many studies."""

    share = fields.Integer(
        strict=True,
        allow_none=True,
        load_default=None,
        validate=validate.Range(LEAST_SHARE, 100),
        metadata={"description": "Per cent of new studies, on trial; null for all studies."},
    )


class GateSchema(ma.Schema):
    """One check of a candidate against the model that serves."""

    name = fields.String()
    verdict = fields.String(
        validate=validate.OneOf(["pass", "fail", "not_measured"]),
    )
    figure = fields.Float(allow_none=True)
    interval = fields.List(fields.Float(), allow_none=True)
    threshold = fields.Float(allow_none=True)
    reason = fields.String()


class JudgedBySchema(ma.Schema):
    """A version of the plan of change."""

    version = fields.Integer()
    sha256 = fields.String()


class GateRunSchema(ma.Schema):
    """A run of all gates."""

    number = fields.Integer()
    status = fields.Enum(GateStatus, by_value=True)
    created_at = fields.AwareDateTime()
    finished_at = fields.AwareDateTime(allow_none=True)
    reason = fields.String(
        allow_none=True, metadata={"description": "Why it ended without a verdict."}
    )
    plan = fields.Nested(
        JudgedBySchema, allow_none=True, metadata={"description": "The plan of change judged by."}
    )
    gates = fields.List(fields.Nested(GateSchema))


class ProposalSchema(ma.Schema):
    """One person's wish that a candidate serves."""

    reason = fields.String()
    share = fields.Integer(allow_none=True)
    decision = fields.Enum(Decision, by_value=True, allow_none=True)
    created_at = fields.AwareDateTime()
    decided_at = fields.AwareDateTime(allow_none=True)


class CandidateSchema(ma.Schema):
    """A model that may come to serve."""

    id = fields.UUID()
    name = fields.String()
    sha256 = fields.String(metadata={"description": "Of the weights."})
    created_at = fields.AwareDateTime()
    is_serving = fields.Boolean()
    gates = fields.Nested(GateRunSchema, allow_none=True)
    proposal = fields.Nested(
        ProposalSchema, allow_none=True, metadata={"description": "The newest one."}
    )


class DeploymentSchema(ma.Schema):
    """From when on which model served."""

    number = fields.Integer()
    kind = fields.Enum(DeploymentKind, by_value=True)
    model = fields.String(
        allow_none=True, metadata={"description": "null for no model and for the first one."}
    )
    sha256 = fields.String(allow_none=True)
    created_at = fields.AwareDateTime()
    reason = fields.String()
    share = fields.Integer(
        allow_none=True, metadata={"description": "Per cent of new studies, where on trial."}
    )


class ModelsSchema(ma.Schema):
    """Which model serves, which did before, and for stewards the candidates."""

    serving = fields.String(metadata={"description": "The name of the model."})
    since = fields.AwareDateTime(
        allow_none=True, metadata={"description": "null for the installation's first model."}
    )
    is_off = fields.Boolean(metadata={"description": "No model answers."})
    on_trial = fields.String(
        allow_none=True, metadata={"description": "The model that answers a share of new studies."}
    )
    candidates = fields.List(fields.Nested(CandidateSchema))
    deployments = fields.List(fields.Nested(DeploymentSchema))
    notice = fields.String()
