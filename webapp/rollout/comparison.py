"""What a candidate said of the same studies as the serving model: the one object that counts.

Page, API and evidence read it. It looks at shadow analyses that are done, each beside the
analysis for serving that it was asked to accompany.
"""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Select, case, func, select
from sqlalchemy.orm import aliased

from webapp.database import db
from webapp.models_admin.models import Candidate, ModelVersion
from webapp.rollout.statistics import wilson
from webapp.studies.models import Analysis, Image, Patient, Prediction, Purpose, Status, Study

SHOWN_STUDIES = 50
SHOWN_SLICES = 6  # of a study
_Said, _Asked = aliased(Analysis), aliased(Analysis)
_Before, _After = aliased(Prediction), aliased(Prediction)


@dataclass(frozen=True)
class Doubt:
    """How sure one of the two models was, over all slices that both answered.

    Attributes:
        mean_set_size: classes that are not ruled out, on average.
        several: share of slices with more than one such class.
        unfamiliar: share of slices unlike the training data.
        ms_per_slice: time in the model, milliseconds; None if it was not measured.
    """

    mean_set_size: float
    several: float
    unfamiliar: float
    ms_per_slice: float | None


@dataclass(frozen=True)
class Agreement:
    """How often both say the same.

    Attributes:
        table: (what the serving model says, what the candidate says) -> how often.
    """

    table: Mapping[tuple[str, str], int]

    @property
    def number(self) -> int:
        """How many were compared."""
        return sum(self.table.values())

    @property
    def agreeing(self) -> int:
        """How many of them are called the same."""
        return sum(count for (one, other), count in self.table.items() if one == other)

    @property
    def share(self) -> float | None:
        """The share that is called the same; None if nothing was compared."""
        return self.agreeing / self.number if self.number else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the share, which counts each as independent."""
        return wilson(self.agreeing, self.number) if self.number else None


@dataclass(frozen=True)
class ChangedSlice:
    """A slice that both models call differently, by its position in the study from 0."""

    image_id: uuid.UUID
    position: int
    before: str
    after: str


@dataclass(frozen=True)
class ChangedStudy:
    """A study that both models call differently, or in which they do a slice."""

    study_id: uuid.UUID
    patient_code: str
    before: str
    after: str
    slices: Sequence[ChangedSlice]
    further: int


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the model that served.

    Attributes:
        incumbents: names of the models that served meanwhile.
        waiting, failed: analyses that are not part of the figures.
        before, after: doubt of the serving model and of the candidate; None without slices.
    """

    incumbents: Sequence[str]
    waiting: int
    failed: int
    studies: Agreement
    slices: Agreement
    before: Doubt | None
    after: Doubt | None


def compare(candidate: Candidate) -> Comparison:
    """All that shadows of the candidate have found; a fixed number of statements."""
    counted = (
        select(Analysis.status, func.count())
        .where(Analysis.purpose == Purpose.SHADOW, Analysis.candidate_id == candidate.id)
        .group_by(Analysis.status)
    )
    states = dict(db.session.execute(counted).all())
    slices = Agreement(_counted(_pairs(candidate, _Before.label, _After.label, slices=True)))
    before = after = None
    if slices.number:
        before, after = _doubt(candidate, _Before, _Said), _doubt(candidate, _After, _Asked)
    return Comparison(
        incumbents=db.session.scalars(
            _pairs(candidate, ModelVersion.name)
            .join(ModelVersion, ModelVersion.id == _Said.model_version_id)
            .distinct()
            .order_by(ModelVersion.name)
        ).all(),
        waiting=states.get(Status.QUEUED, 0) + states.get(Status.RUNNING, 0),
        failed=states.get(Status.FAILED, 0) + states.get(Status.REJECTED, 0),
        studies=Agreement(_counted(_pairs(candidate, _Said.label, _Asked.label))),
        slices=slices,
        before=before,
        after=after,
    )


def changed_studies(candidate: Candidate) -> list[ChangedStudy]:
    """Studies that hold a difference, newest first, with their first changed slices."""
    differ = (_Said.label != _Asked.label) | (_Before.label != _After.label)
    rows = db.session.execute(
        _pairs(candidate, Study.id, Patient.code, _Said.label, _Asked.label, slices=True)
        .join(Study, Study.id == _Asked.study_id)
        .join(Patient, Patient.id == Study.patient_id)
        .where(differ)
        .group_by(Study.id, Patient.code, _Said.label, _Asked.label, Study.created_at)
        .order_by(Study.created_at.desc(), Study.id)
        .limit(SHOWN_STUDIES)
    ).all()
    slices = _changed_slices(candidate, [row[0] for row in rows])
    return [
        ChangedStudy(
            study_id=study_id,
            patient_code=code,
            before=before,
            after=after,
            slices=slices[study_id][:SHOWN_SLICES],
            further=max(0, len(slices[study_id]) - SHOWN_SLICES),
        )
        for study_id, code, before, after in rows
    ]


def _changed_slices(
    candidate: Candidate, study_ids: Sequence[uuid.UUID]
) -> Mapping[uuid.UUID, list[ChangedSlice]]:
    rows = db.session.execute(
        _pairs(
            candidate,
            _Asked.study_id, Image.id, Image.position, _Before.label, _After.label,
            slices=True,
        )
        .join(Image, Image.id == _After.image_id)
        .where(
            _Asked.study_id.in_(study_ids),
            Image.study_id == _Asked.study_id,
            _Before.label != _After.label,
        )
        .order_by(Image.position)
    )  # fmt: skip
    found: dict[uuid.UUID, list[ChangedSlice]] = defaultdict(list)
    for study_id, image_id, position, before, after in rows:
        found[study_id].append(ChangedSlice(image_id, position, before, after))
    return found


def _pairs(
    candidate: Candidate,
    *columns: Any,
    slices: bool = False,
) -> Select[*tuple[Any, ...]]:
    """Each shadow analysis beside that for serving, or each slice that both answered."""
    found = (
        select(*columns)
        .select_from(_Asked)
        .join(_Said, _Said.id == _Asked.compared_with_id)
        .where(
            _Asked.candidate_id == candidate.id,
            _Asked.purpose == Purpose.SHADOW,
            _Asked.status == Status.DONE,
        )
    )
    if slices:
        found = found.join(_After, _After.analysis_id == _Asked.id).join(
            _Before, (_Before.analysis_id == _Said.id) & (_Before.image_id == _After.image_id)
        )
    return found


def _counted(pairs: Select[*tuple[Any, ...]]) -> dict[tuple[str, str], int]:
    before, after = pairs.selected_columns
    rows = db.session.execute(pairs.add_columns(func.count()).group_by(before, after))
    return {(str(one), str(other)): count for one, other, count in rows}


def _doubt(candidate: Candidate, said: type[Prediction], by: type[Analysis]) -> Doubt:
    size = func.json_array_length(said.prediction_set)
    mean, several, unfamiliar = db.session.execute(
        _pairs(
            candidate,
            func.avg(size),
            func.avg(case((size > 1, 1.0), else_=0.0)),
            func.avg(case((said.in_distribution.is_(False), 1.0), else_=0.0)),
            slices=True,
        )
    ).one()
    spent, slices = db.session.execute(
        _pairs(candidate, func.sum(by.model_ms), func.sum(by.images_total)).where(
            by.model_ms.is_not(None)
        )
    ).one()
    return Doubt(
        mean_set_size=float(mean),
        several=float(several),
        unfamiliar=float(unfamiliar),
        ms_per_slice=float(spent) / float(slices) if slices else None,
    )


def plain(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON, for API and evidence."""
    return {
        "incumbents": list(found.incumbents),
        "waiting": found.waiting,
        "failed": found.failed,
        "studies": _plain_agreement(found.studies, with_interval=True),
        "slices": _plain_agreement(found.slices, with_interval=False),
        "before": asdict(found.before) if found.before else None,
        "after": asdict(found.after) if found.after else None,
    }


def _plain_agreement(found: Agreement, *, with_interval: bool) -> dict[str, Any]:
    interval = found.interval if with_interval else None
    return {
        "number": found.number,
        "agreeing": found.agreeing,
        "share": found.share,
        "interval": list(interval) if interval else None,
        "table": [
            {"before": before, "after": after, "count": count}
            for (before, after), count in sorted(found.table.items())
        ],
    }
