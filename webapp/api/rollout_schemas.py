"""What the API takes and gives about models beside the serving one."""

import marshmallow as ma
from marshmallow import fields, validate

from webapp.models_admin.models import DeploymentKind
from webapp.rollout.models import ShadowStatus
from webapp.rollout.shadowing import MOST_STUDIES


class NewShadowSchema(ma.Schema):
    """How much of the work a candidate gets."""

    share = fields.Integer(
        required=True,
        strict=True,
        validate=validate.Range(1, 100),
        metadata={"description": "Per cent of new studies."},
    )
    most = fields.Integer(
        required=True,
        strict=True,
        validate=validate.Range(1, MOST_STUDIES),
        metadata={"description": "Studies after which it ends."},
    )


class ShadowRunSchema(ma.Schema):
    """A candidate that answers a share of new studies, unseen."""

    id = fields.UUID()
    status = fields.Enum(ShadowStatus, by_value=True)
    share = fields.Integer()
    most = fields.Integer()
    taken = fields.Integer()
    created_at = fields.AwareDateTime()
    ended_at = fields.AwareDateTime(allow_none=True)


class PairSchema(ma.Schema):
    """How often the serving model says one thing and the candidate another, or the same."""

    before = fields.String()
    after = fields.String()
    count = fields.Integer()


class AgreementSchema(ma.Schema):
    """How often both say the same."""

    number = fields.Integer()
    agreeing = fields.Integer()
    share = fields.Float(allow_none=True)
    interval = fields.List(
        fields.Float(), allow_none=True, metadata={"description": "Wilson, 95 %; of studies."}
    )
    table = fields.List(fields.Nested(PairSchema))


class DoubtSchema(ma.Schema):
    """How sure a model was, over all slices that both answered."""

    mean_set_size = fields.Float()
    several = fields.Float(metadata={"description": "Share with more than one class left."})
    unfamiliar = fields.Float(metadata={"description": "Share unlike the training data."})
    ms_per_slice = fields.Float(allow_none=True)


class ComparisonSchema(ma.Schema):
    """A candidate beside the model that served."""

    incumbents = fields.List(fields.String())
    waiting = fields.Integer()
    failed = fields.Integer()
    studies = fields.Nested(AgreementSchema)
    slices = fields.Nested(AgreementSchema)
    before = fields.Nested(DoubtSchema, allow_none=True)
    after = fields.Nested(DoubtSchema, allow_none=True)


class ShadowSchema(ma.Schema):
    """The shadow runs of a candidate, newest first, and what all of them found."""

    runs = fields.List(fields.Nested(ShadowRunSchema))
    comparison = fields.Nested(ComparisonSchema)
    notice = fields.String()


class SideSchema(ma.Schema):
    """What came of the studies that one of two models answered, counted in studies."""

    answered = fields.Integer()
    failed = fields.Integer()
    assessed = fields.Integer(metadata={"description": "With which a reader agreed or disagreed."})
    overridden = fields.Integer(
        metadata={"description": "Of them, those where a reader disagreed."}
    )


class TrialSchema(ma.Schema):
    """A time in which a candidate answered a share of new studies, shown to readers."""

    id = fields.UUID(metadata={"description": "Of the deployment that began it."})
    share = fields.Integer(metadata={"description": "Per cent of new studies."})
    created_at = fields.AwareDateTime()
    ended_at = fields.AwareDateTime(
        allow_none=True, metadata={"description": "null while it goes on."}
    )
    ended_with = fields.Enum(
        DeploymentKind,
        by_value=True,
        allow_none=True,
        metadata={"description": "The kind of the deployment that ended it."},
    )
    ended_by_rule = fields.Boolean(
        allow_none=True, metadata={"description": "Whether the portal ended it, nobody else."}
    )
    reason = fields.String(allow_none=True, metadata={"description": "Why it ended."})
    trial = fields.Nested(SideSchema, metadata={"description": "Of the candidate."})
    incumbent = fields.Nested(
        SideSchema, metadata={"description": "Of the serving model, in the same time."}
    )
    missed = fields.Integer(
        metadata={
            "description": "Studies in which readers found a tumour and the candidate found none."
        }
    )


class TrialListSchema(ma.Schema):
    """The trials of a candidate, newest first; none where it has not been on trial."""

    items = fields.List(fields.Nested(TrialSchema))
    notice = fields.String()


class EvidenceSchema(ma.Schema):
    """Everything about a candidate; the signature covers the rest as canonical JSON."""

    class Meta:
        """There is more than what is named here."""

        unknown = ma.INCLUDE

    format = fields.String(metadata={"description": "The version of the content."})
    notice = fields.String()
    created_at = fields.AwareDateTime()
    candidate = fields.Dict()
    plan = fields.Dict(allow_none=True)
    gate_runs = fields.List(fields.Dict())
    deployments = fields.List(fields.Dict())
    signature = fields.String(metadata={"description": "HMAC-SHA256, hexadecimal."})
