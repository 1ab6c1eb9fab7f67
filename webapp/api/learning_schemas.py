"""What the API takes and gives about snapshots."""

import marshmallow as ma
from marshmallow import fields, validate

from webapp.learning.models import LONGEST_NAME, RetrainingMode, RetrainingStatus, SnapshotStatus

_NAMED = validate.And(
    validate.Length(1, LONGEST_NAME), validate.Regexp(r"[\s\S]*[^\s\x00]", error="Not empty.")
)


class NewSnapshotSchema(ma.Schema):
    """A snapshot to be taken."""

    name = fields.String(required=True, validate=_NAMED)


class SnapshotCountsSchema(ma.Schema):
    """How much a snapshot holds."""

    slices = fields.Integer()
    groups = fields.Integer(metadata={"description": "Patients."})
    labels = fields.Dict(keys=fields.String(), values=fields.Integer())
    holdout_slices = fields.Integer(metadata={"description": "To test models on."})
    holdout_groups = fields.Integer()
    out_of_scope = fields.Integer(
        metadata={"description": "Slices of none of the classes; not among the other numbers."}
    )


class SnapshotPlanSchema(ma.Schema):
    """The plan of change that a snapshot was taken under."""

    version = fields.Integer()
    sha256 = fields.String()


class SnapshotLinksSchema(ma.Schema):
    """Where to go from here; paths on this server."""

    self = fields.String()
    page = fields.String(metadata={"description": "For people, with a browser."})


class SnapshotSchema(ma.Schema):
    """Slices with the labels that readers agreed on, frozen."""

    id = fields.UUID()
    name = fields.String()
    status = fields.Enum(
        SnapshotStatus,
        by_value=True,
        metadata={"description": "Until it is done, what it holds is null."},
    )
    reason = fields.String(allow_none=True, metadata={"description": "Why it failed."})
    created_at = fields.AwareDateTime()
    counts = fields.Nested(SnapshotCountsSchema, allow_none=True)
    left_out = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        allow_none=True,
        metadata={"description": "Assessed slices that are not in it, counted by reason."},
    )
    plan = fields.Nested(SnapshotPlanSchema, allow_none=True)
    manifest_sha256 = fields.String(allow_none=True)
    images_sha256 = fields.String(allow_none=True)
    withdrawn_groups = fields.Integer(
        allow_none=True, metadata={"description": "Patients in it who have been withdrawn since."}
    )
    links = fields.Nested(SnapshotLinksSchema)
    notice = fields.String()


class SnapshotListSchema(ma.Schema):
    """All snapshots, newest first."""

    items = fields.List(fields.Nested(SnapshotSchema))
    notice = fields.String()


class NewRetrainingSchema(ma.Schema):
    """A retraining to be started."""

    snapshot_id = fields.UUID(required=True)
    mode = fields.Enum(RetrainingMode, by_value=True, load_default=RetrainingMode.HEAD)


class RetrainingLinksSchema(ma.Schema):
    """Where to go from here; paths on this server."""

    self = fields.String()
    page = fields.String(metadata={"description": "For people, with a browser."})
    candidate = fields.String(allow_none=True)


class RetrainingSchema(ma.Schema):
    """The serving model, made anew with a snapshot."""

    id = fields.UUID()
    snapshot_id = fields.UUID()
    mode = fields.Enum(RetrainingMode, by_value=True)
    status = fields.Enum(RetrainingStatus, by_value=True)
    created_at = fields.AwareDateTime()
    finished_at = fields.AwareDateTime(allow_none=True)
    started_from = fields.String(allow_none=True)
    step = fields.String()
    done = fields.Integer()
    total = fields.Integer()
    figures = fields.Dict(keys=fields.String())
    reason = fields.String(allow_none=True)
    candidate_id = fields.UUID(allow_none=True)
    links = fields.Nested(RetrainingLinksSchema)


class RetrainingListSchema(ma.Schema):
    """Retrainings, newest first."""

    items = fields.List(fields.Nested(RetrainingSchema))
    notice = fields.String()


class NamedSnapshotSchema(ma.Schema):
    """A snapshot by its name."""

    id = fields.UUID()
    name = fields.String()


class ServedSchema(ma.Schema):
    """A time in which a model served."""

    since = fields.AwareDateTime()
    until = fields.AwareDateTime(allow_none=True, metadata={"description": "null: it serves."})


class LearntModelSchema(ma.Schema):
    """A model that learnt from a patient, itself or through a model that it goes on from."""

    id = fields.UUID()
    name = fields.String()
    served = fields.List(fields.Nested(ServedSchema))


class WithdrawalSchema(ma.Schema):
    """A patient whom no later snapshot holds."""

    id = fields.UUID()
    patient_code = fields.String(
        allow_none=True, metadata={"description": "null where the patient has been deleted."}
    )
    created_at = fields.AwareDateTime()
    snapshots = fields.List(fields.Nested(NamedSnapshotSchema))
    retrainings = fields.List(fields.UUID())
    models = fields.List(fields.Nested(LearntModelSchema))


class WithdrawalListSchema(ma.Schema):
    """Withdrawn patients, the last one first."""

    items = fields.List(fields.Nested(WithdrawalSchema))
    notice = fields.String()
