"""QIDO-RS (PS3.18 10.6): search for studies, series and instances."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from sqlalchemy import Row, Select, distinct, func, or_, select
from sqlalchemy.orm import aliased

from webapp.database import db
from webapp.dicomweb.addresses import instance_url, series_url, study_url
from webapp.dicomweb.criteria import Query
from webapp.dicomweb.headers import header_of, json_of
from webapp.studies.models import Instance

Json = dict[str, Any]

# A result may require reading a file.
_MOST_READ = 200
# So many studies are named one by one; of more the latest are met soon.
_FEW = 1000
_SERIES_FIELDS = (
    "SeriesNumber",
    "SeriesDescription",
    "SeriesDate",
    "SeriesTime",
    "BodyPartExamined",
)


@dataclass(frozen=True)
class Found:
    """One page of results, and whether there are more."""

    results: list[Json]
    more: bool


def find_studies(query: Query) -> Found:
    """Studies, latest received first."""
    rows, more = _page(_latest_first(query), query, reads=_wants_files(query))
    rows = _described([row[0] for row in rows])
    modalities = _modalities([row[0] for row in rows])
    results = []
    for study_uid, code, day, series_count, count, sample in rows:
        dataset = _study_level(study_uid, code, day)
        dataset.ModalitiesInStudy = modalities.get(study_uid, [])
        dataset.NumberOfStudyRelatedSeries = series_count
        dataset.NumberOfStudyRelatedInstances = count
        dataset.RetrieveURL = study_url(study_uid)
        results.append(_result(dataset, query, sample))
    return Found(results, more)


def _latest_first(query: Query) -> Select[str]:
    """UIDs of matching studies. Where there may be many, nothing but the page is read."""
    if not query.conditions:
        return _back_in_time()
    if query.is_keyed:
        return _of_these(select(Instance.study_uid).where(*query.conditions))
    few = _few_matching(query)
    return _back_in_time(query) if few is None else _of_these(few)


def _of_these(study_uids: Any) -> Select[str]:
    return (
        select(Instance.study_uid)
        .where(Instance.study_uid.in_(study_uids))
        .group_by(Instance.study_uid)
        .order_by(func.max(Instance.created_at).desc(), Instance.study_uid)
    )


def _few_matching(query: Query) -> Sequence[str] | None:
    """The UIDs of matching studies, in the order of an index; None where there are many."""
    keys = [Instance.acquired_on] if query.is_dated else []
    found = db.session.execute(
        select(*keys, Instance.study_uid)
        .where(*query.conditions)
        .distinct()
        .order_by(*keys, Instance.study_uid)
        .limit(_FEW + 1)
    ).all()
    return None if len(found) > _FEW else [str(row[-1]) for row in found]


def _back_in_time(query: Query | None = None) -> Select[str]:
    """UIDs of studies as one meets the latest instance of each."""
    latest, later = aliased(Instance), aliased(Instance)
    follows = select(later.id).where(
        later.study_uid == latest.study_uid,
        later.created_at >= latest.created_at,
        or_(later.created_at > latest.created_at, later.id > latest.id),
    )
    found = select(latest.study_uid).where(~follows.correlate(latest).exists())
    if query is not None:
        matching = select(Instance.id).where(
            Instance.study_uid == latest.study_uid, *query.conditions
        )
        found = found.where(matching.correlate(latest).exists())
    return found.order_by(latest.created_at.desc(), latest.study_uid)


def _described(study_uids: Sequence[str]) -> list[Row[*tuple[Any, ...]]]:
    """What is told of each study, in the order asked for."""
    found = db.session.execute(
        select(
            Instance.study_uid,
            func.max(Instance.patient_code),
            func.max(Instance.acquired_on),
            func.count(distinct(Instance.series_uid)),
            func.count(Instance.uid),
            func.min(Instance.uid),
        )
        .where(Instance.study_uid.in_(study_uids))
        .group_by(Instance.study_uid)
    )
    rows = {row[0]: row for row in found}
    return [rows[uid] for uid in study_uids if uid in rows]


def find_series(query: Query) -> Found:
    """Series, in the order of their studies."""
    # Each study has a series at least: no more studies than this can be on the page.
    studies = (
        select(Instance.study_uid)
        .where(*query.conditions)
        .distinct()
        .order_by(Instance.study_uid)
        .limit(query.offset + query.limit + 1)
    )
    matching = select(Instance.series_uid).where(Instance.study_uid.in_(studies), *query.conditions)
    statement = (
        select(
            Instance.study_uid,
            Instance.series_uid,
            func.max(Instance.patient_code),
            func.max(Instance.acquired_on),
            func.max(Instance.modality),
            func.count(Instance.uid),
            func.min(Instance.uid),
        )
        .where(Instance.series_uid.in_(matching), Instance.study_uid.in_(studies))
        .group_by(Instance.study_uid, Instance.series_uid)
        .order_by(Instance.study_uid, func.min(Instance.created_at), Instance.series_uid)
    )
    rows, more = _page(statement, query, reads=True)
    results = []
    for study_uid, series_uid, code, day, modality, count, sample in rows:
        dataset = _study_level(study_uid, code, day)
        dataset.SeriesInstanceUID = series_uid
        dataset.Modality = modality
        dataset.NumberOfSeriesRelatedInstances = count
        dataset.RetrieveURL = series_url(study_uid, series_uid)
        results.append(_result(dataset, query, sample, always=_SERIES_FIELDS))
    return Found(results, more)


def find_instances(query: Query) -> Found:
    """Instances, in the order of their series."""
    statement = (
        select(Instance)
        .where(*query.conditions)
        .order_by(Instance.study_uid, Instance.series_uid, Instance.number, Instance.uid)
    )
    rows, more = _page(statement, query, reads=_wants_files(query))
    results = []
    for (instance,) in rows:
        dataset = _study_level(instance.study_uid, instance.patient_code, instance.acquired_on)
        dataset.SeriesInstanceUID = instance.series_uid
        dataset.Modality = instance.modality
        dataset.SOPClassUID = instance.sop_class_uid
        dataset.SOPInstanceUID = instance.uid
        dataset.AvailableTransferSyntaxUID = instance.transfer_syntax_uid
        if instance.number is not None:
            dataset.InstanceNumber = instance.number
        dataset.Rows, dataset.Columns = instance.rows, instance.columns
        dataset.NumberOfFrames = instance.frames
        dataset.RetrieveURL = instance_url(instance.study_uid, instance.series_uid, instance.uid)
        results.append(_result(dataset, query, instance.uid))
    return Found(results, more)


def _page(statement: Any, query: Query, *, reads: bool) -> tuple[Sequence[Any], bool]:
    size = min(query.limit, _MOST_READ) if reads else query.limit
    rows = db.session.execute(statement.offset(query.offset).limit(size + 1)).all()
    return rows[:size], len(rows) > size


def _wants_files(query: Query) -> bool:
    return query.everything or bool(query.fields)


def _study_level(study_uid: str, code: str, day: date | None) -> Dataset:
    dataset = Dataset()
    dataset.StudyInstanceUID = study_uid
    dataset.StudyDate = day.strftime("%Y%m%d") if day else ""
    dataset.PatientID, dataset.PatientName = code, code
    dataset.PatientBirthDate = dataset.AccessionNumber = dataset.StudyID = ""
    dataset.ReferringPhysicianName = ""
    dataset.InstanceAvailability = "ONLINE"
    return dataset


def _modalities(study_uids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    statement = (
        select(Instance.study_uid, Instance.modality)
        .where(Instance.study_uid.in_(study_uids), Instance.modality != "")
        .distinct()
        .order_by(Instance.modality)
    )
    for study_uid, modality in db.session.execute(statement):
        found.setdefault(study_uid, []).append(modality)
    return found


def _result(dataset: Dataset, query: Query, sample: str, *, always: Sequence[str] = ()) -> Json:
    """The attributes, and those that are only in the file of an instance."""
    known = json_of(dataset)
    tags = {f"{tag_for_keyword(name):08X}" for name in (*always, *query.fields)}
    wanted = tags - known.keys()
    if not wanted and not query.everything:
        return known
    in_file = _from_file(sample)
    if not query.everything:
        in_file = {tag: element for tag, element in in_file.items() if tag in wanted}
    return dict(sorted((in_file | known).items()))


def _from_file(uid: str) -> Json:
    instance = db.session.scalars(select(Instance).where(Instance.uid == uid)).one()
    return header_of(instance.blob_key)
