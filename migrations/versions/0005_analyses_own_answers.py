"""Analyses own what is said about a study

Jobs become analyses: each owns its predictions and the answer about the study, and a study names
its current one. Of each study the newest job that ended with an answer gets the study's answer
and the newest predictions; predictions of other models go to earlier jobs, or to analyses made
for them, so that nothing is lost.

Revision ID: 0005
Revises: 0004
"""

import json
import uuid
from collections import defaultdict

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STATES = ("queued", "running", "done", "failed", "rejected")
_ANSWER = (
    "label",
    "probabilities",
    "prediction_set",
    "in_distribution",
    "in_distribution_share",
    "key_image_ids",
)


def _enum(name, *values):
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _column(name, kind, nullable=True, default=None):
    return sa.Column(name, kind, nullable=nullable, server_default=default)


def _moment():
    return sa.DateTime(timezone=True)


study = sa.table(
    "study",
    sa.column("id", sa.Uuid()),
    sa.column("organisation_id", sa.Uuid()),
    sa.column("created_at", _moment()),
    sa.column("status", sa.String()),
    sa.column("reason", sa.String()),
    sa.column("finished_at", _moment()),
    sa.column("label", sa.String()),
    sa.column("probabilities", sa.JSON()),
    sa.column("prediction_set", sa.JSON()),
    sa.column("in_distribution", sa.Boolean()),
    sa.column("in_distribution_share", sa.Double()),
    sa.column("key_image_ids", sa.JSON()),
    sa.column("dissenting_image_ids", sa.JSON()),
    sa.column("current_analysis_id", sa.Uuid()),
)
job = sa.table(
    "inference_job",
    sa.column("id", sa.Uuid()),
    sa.column("study_id", sa.Uuid()),
    sa.column("status", sa.String()),
    sa.column("attempt", sa.Integer()),
    sa.column("images_total", sa.Integer()),
    sa.column("images_done", sa.Integer()),
    sa.column("sent_at", _moment()),
    sa.column("started_at", _moment()),
    sa.column("lease_until", _moment()),
    sa.column("finished_at", _moment()),
    sa.column("model_ms", sa.Double()),
    sa.column("reason", sa.String()),
    sa.column("created_at", _moment()),
    sa.column("organisation_id", sa.Uuid()),
)
analysis = sa.table(
    "analysis",
    *(sa.column(one.name, one.type) for one in job.columns),
    sa.column("purpose", sa.String()),
    sa.column("number", sa.Integer()),
    sa.column("image_ids", sa.JSON()),
    sa.column("model_version_id", sa.Uuid()),
    sa.column("mode", sa.String()),
    sa.column("label", sa.String()),
    sa.column("probabilities", sa.JSON()),
    sa.column("prediction_set", sa.JSON()),
    sa.column("in_distribution", sa.Boolean()),
    sa.column("in_distribution_share", sa.Double()),
    sa.column("key_image_ids", sa.JSON()),
    sa.column("contradicting_images", sa.JSON()),
)
image = sa.table(
    "image",
    sa.column("id", sa.Uuid()),
    sa.column("study_id", sa.Uuid()),
    sa.column("series_id", sa.Uuid()),
    sa.column("position", sa.Integer()),
    sa.column("origin", sa.JSON()),
)
prediction = sa.table(
    "prediction",
    sa.column("id", sa.Uuid()),
    sa.column("image_id", sa.Uuid()),
    sa.column("analysis_id", sa.Uuid()),
    sa.column("model_version_id", sa.Uuid()),
    sa.column("label", sa.String()),
    sa.column("probabilities", sa.JSON()),
    sa.column("created_at", _moment()),
)
feedback = sa.table("feedback", sa.column("id", sa.Uuid()), sa.column("prediction_id", sa.Uuid()))
series = sa.table(
    "series",
    sa.column("id", sa.Uuid()),
    sa.column("is_volume", sa.Boolean()),
    sa.column("is_stack", sa.Boolean()),
    sa.column("row_direction", sa.JSON()),
)


def upgrade():
    op.create_table(
        "analysis",
        _column("id", sa.Uuid(), nullable=False),
        _column("study_id", sa.Uuid(), nullable=False),
        _column("purpose", _enum("purpose", "serving", "shadow", "recall"), nullable=False),
        _column("number", sa.Integer(), nullable=False),
        _column("image_ids", sa.JSON(), nullable=False),
        _column("status", _enum("status", *_STATES, "superseded"), nullable=False),
        _column("attempt", sa.Integer(), nullable=False),
        _column("images_total", sa.Integer(), nullable=False),
        _column("images_done", sa.Integer(), nullable=False),
        _column("sent_at", _moment(), nullable=False),
        _column("started_at", _moment()),
        _column("lease_until", _moment()),
        _column("finished_at", _moment()),
        _column("model_ms", sa.Double()),
        _column("reason", sa.String(length=64)),
        _column("model_version_id", sa.Uuid()),
        _column("mode", _enum("mode", "volume", "slices", "mixed")),
        _column("label", sa.String(length=16)),
        _column("probabilities", sa.JSON()),
        _column("prediction_set", sa.JSON()),
        _column("in_distribution", sa.Boolean()),
        _column("in_distribution_share", sa.Double()),
        _column("key_image_ids", sa.JSON()),
        _column("contradicting_images", sa.JSON()),
        _column("created_at", _moment(), nullable=False),
        _column("organisation_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_analysis_study_id_study"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.id"],
            name=op.f("fk_analysis_model_version_id_model_version"),
        ),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name=op.f("fk_analysis_organisation_id_organisation"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analysis")),
        sa.UniqueConstraint(
            "study_id", "purpose", "number", name=op.f("uq_analysis_study_id_purpose_number")
        ),
    )
    with op.batch_alter_table("analysis") as batch:
        for name in ("label", "organisation_id", "status"):
            batch.create_index(batch.f(f"ix_analysis_{name}"), [name], unique=False)
    with op.batch_alter_table("prediction") as batch:
        batch.add_column(_column("analysis_id", sa.Uuid()))
        batch.create_index(batch.f("ix_prediction_image_id"), ["image_id"], unique=False)
    with op.batch_alter_table("study") as batch:
        batch.add_column(_column("current_analysis_id", sa.Uuid()))
    with op.batch_alter_table("series") as batch:
        batch.add_column(_column("is_stack", sa.Boolean(), nullable=False, default=sa.sql.false()))
    with op.batch_alter_table("instance") as batch:
        batch.add_column(_column("problem", sa.String(length=32)))
    _move_answers(op.get_bind())
    with op.batch_alter_table("prediction") as batch:
        batch.alter_column("analysis_id", existing_type=sa.Uuid(), nullable=False)
        batch.drop_constraint(batch.f("uq_prediction_image_id_model_version_id"), type_="unique")
        batch.drop_constraint(
            batch.f("fk_prediction_model_version_id_model_version"), type_="foreignkey"
        )
        batch.drop_column("model_version_id")
        batch.create_foreign_key(
            batch.f("fk_prediction_analysis_id_analysis"),
            "analysis",
            ["analysis_id"],
            ["id"],
            ondelete="CASCADE",
        )
        batch.create_unique_constraint(
            batch.f("uq_prediction_analysis_id_image_id"), ["analysis_id", "image_id"]
        )
    with op.batch_alter_table("study") as batch:
        batch.drop_index(batch.f("ix_study_status"))
        batch.drop_index(batch.f("ix_study_label"))
        batch.drop_constraint(batch.f("ck_study_status"), type_="check")
        for name in ("status", "reason", "finished_at", *_ANSWER, "dissenting_image_ids"):
            batch.drop_column(name)
        batch.create_index(
            batch.f("ix_study_current_analysis_id"), ["current_analysis_id"], unique=False
        )
        batch.create_foreign_key(
            batch.f("fk_study_current_analysis_id_analysis"),
            "analysis",
            ["current_analysis_id"],
            ["id"],
        )
    op.drop_table("inference_job")


def _move_answers(connection):
    connection.execute(
        sa.update(series).where(series.c.is_volume.is_(sa.true())).values(is_stack=sa.true())
    )
    jobs = defaultdict(list)
    for row in connection.execute(sa.select(job).order_by(job.c.created_at, job.c.id)):
        jobs[row.study_id].append(dict(row._mapping))
    for found in connection.execute(sa.select(study)).all():
        _move_study(connection, found, jobs[found.id])


def _move_study(connection, found, jobs):
    images = connection.execute(
        sa.select(image.c.id).where(image.c.study_id == found.id).order_by(image.c.position)
    ).scalars()
    image_ids = [str(one) for one in images]
    said = connection.execute(
        sa.select(prediction)
        .where(prediction.c.image_id.in_([uuid.UUID(one) for one in image_ids]))
        .order_by(prediction.c.created_at)
    ).all()
    models = list(dict.fromkeys(one.model_version_id for one in reversed(said)))  # newest first
    answered = [one for one in reversed(jobs) if one["status"] == "done"]
    # The pairing of models with the jobs that used them was not kept: newest with newest. A job
    # of the same model as a newer one left no predictions of its own.
    while len(answered) < len(models):
        answered.append(_made_up(found, said, models[len(answered)]))
    ordered = sorted([*jobs, *answered[len([j for j in jobs if j["status"] == "done"]) :]],
                     key=lambda one: one["created_at"])  # fmt: skip
    if not ordered:
        ordered = [_made_up(found, [], None) | {"status": found.status, "reason": found.reason}]
    current = _current(found, ordered, answered)
    model_of = {id(one): model for one, model in zip(answered, models, strict=False)}
    for number, one in enumerate(ordered, start=1):
        under_way = one["status"] in ("queued", "running")
        values = one | {
            "purpose": "serving",
            "number": number,
            "status": "superseded" if under_way and one is not current else one["status"],
            "model_version_id": model_of.get(id(one)),
            "image_ids": image_ids,
        }
        if answered and one is answered[0] and found.label is not None:
            values |= _answer(found, said, image_ids)
        connection.execute(sa.insert(analysis).values(**values))
    for one, model in zip(answered, models, strict=False):
        connection.execute(
            sa.update(prediction)
            .where(
                prediction.c.id.in_([each.id for each in said if each.model_version_id == model])
            )
            .values(analysis_id=one["id"])
        )
    connection.execute(
        sa.update(study).where(study.c.id == found.id).values(current_analysis_id=current["id"])
    )


def _current(found, ordered, answered):
    """The one that the study's state came from."""
    if found.status == "done" and answered:
        # Numbers have to say that nothing newer has taken over.
        ordered.remove(answered[0])
        ordered.append(answered[0])
        return answered[0]
    alike = [one for one in ordered if one["status"] == found.status]
    chosen = alike[-1] if alike else ordered[-1]
    ordered.remove(chosen)
    ordered.append(chosen)
    return chosen


def _answer(found, said, image_ids):
    labels = {str(one.image_id): one.label for one in said}
    values = {name: getattr(found, name) for name in _ANSWER}
    if not values["key_image_ids"] and said:
        # From before key images were kept: the likeliest tumour stands for the study.
        newest = {str(one.image_id): _json(one.probabilities)["no_tumor"] for one in said}
        known = [one for one in image_ids if one in newest]
        values["key_image_ids"] = [min(known, key=lambda one: newest[one])]
    against = _json(found.dissenting_image_ids) or []
    values["contradicting_images"] = {one: labels[one] for one in against if one in labels}
    return values


def _json(value):
    return json.loads(value) if isinstance(value, str) else value


def _made_up(found, said, model):
    """An analysis for predictions whose job is not known, or for a study that never had one."""
    moments = [one.created_at for one in said if one.model_version_id == model]
    moment = max(moments, default=found.created_at)
    return {
        "id": uuid.uuid4(),
        "study_id": found.id,
        "status": "done",
        "attempt": 1,
        "images_total": len(moments),
        "images_done": len(moments),
        "sent_at": moment,
        "started_at": None,
        "lease_until": None,
        "finished_at": moment,
        "model_ms": None,
        "reason": None,
        "created_at": moment,
        "organisation_id": found.organisation_id,
    }


def downgrade():
    op.create_table(
        "inference_job",
        _column("id", sa.Uuid(), nullable=False),
        _column("study_id", sa.Uuid(), nullable=False),
        _column("status", _enum("status", *_STATES), nullable=False),
        _column("attempt", sa.Integer(), nullable=False),
        _column("images_total", sa.Integer(), nullable=False),
        _column("images_done", sa.Integer(), nullable=False),
        _column("sent_at", _moment(), nullable=False),
        _column("started_at", _moment()),
        _column("lease_until", _moment()),
        _column("finished_at", _moment()),
        _column("model_ms", sa.Double()),
        _column("reason", sa.String(length=64)),
        _column("created_at", _moment(), nullable=False),
        _column("organisation_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name=op.f("fk_inference_job_organisation_id_organisation"),
        ),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["study.id"],
            name=op.f("fk_inference_job_study_id_study"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inference_job")),
    )
    with op.batch_alter_table("inference_job") as batch:
        for name in ("organisation_id", "status", "study_id"):
            batch.create_index(batch.f(f"ix_inference_job_{name}"), [name], unique=False)
    with op.batch_alter_table("study") as batch:
        batch.drop_constraint(batch.f("fk_study_current_analysis_id_analysis"), type_="foreignkey")
        batch.drop_index(batch.f("ix_study_current_analysis_id"))
        batch.add_column(
            _column("status", _enum("status", *_STATES), nullable=False, default="queued")
        )
        batch.add_column(_column("reason", sa.String(length=64)))
        batch.add_column(_column("finished_at", _moment()))
        batch.add_column(_column("label", sa.String(length=16)))
        batch.add_column(_column("probabilities", sa.JSON()))
        batch.add_column(_column("prediction_set", sa.JSON()))
        batch.add_column(_column("in_distribution", sa.Boolean()))
        batch.add_column(_column("in_distribution_share", sa.Double()))
        batch.add_column(_column("key_image_ids", sa.JSON()))
        batch.add_column(_column("dissenting_image_ids", sa.JSON()))
        batch.create_index(batch.f("ix_study_label"), ["label"], unique=False)
        batch.create_index(batch.f("ix_study_status"), ["status"], unique=False)
    with op.batch_alter_table("prediction") as batch:
        batch.add_column(_column("model_version_id", sa.Uuid()))
    _move_answers_back(op.get_bind())
    with op.batch_alter_table("prediction") as batch:
        batch.alter_column("model_version_id", existing_type=sa.Uuid(), nullable=False)
        batch.drop_constraint(batch.f("uq_prediction_analysis_id_image_id"), type_="unique")
        batch.drop_constraint(batch.f("fk_prediction_analysis_id_analysis"), type_="foreignkey")
        batch.drop_index(batch.f("ix_prediction_image_id"))
        batch.drop_column("analysis_id")
        batch.create_foreign_key(
            batch.f("fk_prediction_model_version_id_model_version"),
            "model_version",
            ["model_version_id"],
            ["id"],
        )
        batch.create_unique_constraint(
            batch.f("uq_prediction_image_id_model_version_id"), ["image_id", "model_version_id"]
        )
    with op.batch_alter_table("study") as batch:
        batch.drop_column("current_analysis_id")
    with op.batch_alter_table("series") as batch:
        batch.drop_column("is_stack")
    with op.batch_alter_table("instance") as batch:
        batch.drop_column("problem")
    op.drop_table("analysis")


def _move_answers_back(connection):
    names = [one.name for one in job.columns]
    superseded = sa.case((analysis.c.status == "superseded", "failed"), else_=analysis.c.status)
    columns = [superseded if name == "status" else analysis.c[name] for name in names]
    connection.execute(
        sa.insert(job).from_select(
            names, sa.select(*columns).where(analysis.c.purpose == "serving")
        )
    )
    current = sa.select(study.c.id.label("of_study"), *analysis.columns).join_from(
        study, analysis, analysis.c.id == study.c.current_analysis_id
    )
    for row in connection.execute(current).all():
        values = {
            name: getattr(row, name) for name in ("status", "reason", "finished_at", *_ANSWER)
        }
        values["dissenting_image_ids"] = list(row.contradicting_images or {})
        connection.execute(sa.update(study).where(study.c.id == row.of_study).values(**values))
    model = (
        sa.select(analysis.c.model_version_id)
        .where(analysis.c.id == prediction.c.analysis_id)
        .scalar_subquery()
    )
    connection.execute(sa.update(prediction).values(model_version_id=model))
    _keep_the_newest(connection)


def _keep_the_newest(connection):
    """An image and a model had one row; what readers said about others belongs to the newest."""
    newest, others = {}, defaultdict(list)
    found = sa.select(
        prediction.c.id, prediction.c.image_id, prediction.c.model_version_id
    ).order_by(prediction.c.created_at.desc())
    for row in connection.execute(found):
        kept = newest.setdefault((row.image_id, row.model_version_id), row.id)
        if kept != row.id:
            others[kept].append(row.id)
    for kept, rows in others.items():
        connection.execute(
            sa.update(feedback).where(feedback.c.prediction_id.in_(rows)).values(prediction_id=kept)
        )
        connection.execute(sa.delete(prediction).where(prediction.c.id.in_(rows)))
