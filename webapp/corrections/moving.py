"""Move slices that are in the wrong study to another one, with their files.

An image gets a position in the target study and is analysed there. Predictions of earlier analyses
and the assessments of them stay with those analyses. Both studies get a new analysis in the same
transaction, so that no result includes images that are no longer in the study.
"""

import math
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import func, select

from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, FileFacts, inspect
from ml.imaging.facts import FrameFacts, Geometry
from ml.imaging.series import assemble
from webapp import audit
from webapp.accounts.models import User
from webapp.corrections.operations import demanded_code, locked, twice
from webapp.corrections.reassigning import reassign
from webapp.corrections.removal import remove_unnamed
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, TooLarge
from webapp.extensions import current_blobs
from webapp.inference.analyses import request_analysis
from webapp.intake.arrival import upload_limits
from webapp.intake.assembly import arrange, attach, patient_with, sources_of
from webapp.intake.submission import checked_description
from webapp.queueing import send_classification
from webapp.storage import BlobStore, Keeper, MissingBlob
from webapp.studies.models import Image, Instance, Priority, Series, Study
from webapp.studies.queries import find_study
from webapp.tenancy import update_by_key

MOVED_AWAY = "moved_away"
"""Why the analysis of a study without images has no answer."""
_SAME_PLACE = 1.0  # mm; a smaller distance of the corners means the same slice
_ASIDE = 3_000_000  # moves positions below zero, and below those used while slices are sorted
_OTHERS_AT_MOST = 20


@dataclass(frozen=True)
class NewStudy:
    """The study to create from the slices.

    Attributes:
        code_confirmed: the patient code identifies nobody, although it looks like a name.
    """

    patient_code: str
    description: str = ""
    priority: Priority = Priority.ROUTINE
    code_confirmed: bool = False


@dataclass(frozen=True)
class Moved:
    """The outcome of a move.

    Attributes:
        is_empty: the source study has no images left.
    """

    source_id: uuid.UUID
    target_id: uuid.UUID
    images: int
    is_empty: bool


@dataclass(frozen=True)
class Destinations:
    """Studies to which slices can be moved, newest first."""

    same_patient: Sequence[Study]
    recent: Sequence[Study]


@dataclass(frozen=True)
class _Destination:
    """The resolved target, before anything is written.

    Attributes:
        new: None for an existing study.
        uid: Study Instance UID for DICOM files in it; for a study that never had any, the one in
            its reports.
    """

    id: uuid.UUID
    uid: str
    patient_code: str
    new: NewStudy | None


@dataclass(frozen=True)
class _Rewritten:
    """An instance and its rewritten file."""

    id: uuid.UUID
    before: str
    blob_key: str
    series_uid: str
    patient_code: str
    acquired_on: date | None


def move_images(
    *,
    actor: User,
    study_id: uuid.UUID,
    image_ids: Collection[uuid.UUID],
    target: uuid.UUID | NewStudy,
) -> Moved:
    """Move images to another study of the organisation, or to a new one.

    DICOM instances move with their images and get the target's Study Instance UID; copies left out
    because they show the same slice move as well.

    Args:
        target: id of a study, or the study to create.

    Raises:
        NotFound: there is no such study.
        InvalidInput: no images, a part of a multi-frame file, the same study, an invalid value;
            QuestionableCode: the new patient code looks like a name.
        TooLarge: the target would have too many slices.
        Conflict: some of these images are no longer in the study.
        UnreadableImage, MissingBlob: a stored file is damaged or gone.
    """
    wanted = set(image_ids)
    source = find_study(study_id)
    chosen = _chosen(source, wanted)
    destination = _destination(source, target)
    _check_size(destination.id, len(chosen))
    instances = _instances(source, chosen)
    with current_blobs().batch() as batch:
        rewritten = _rewrite(instances, source, destination, current_blobs(), batch)

    def record() -> tuple[Moved, list[uuid.UUID]]:
        locked(study_id, destination.id)
        source = find_study(study_id)
        _check_still_there(source, wanted)
        goal = _open(destination, source)
        if rewritten and goal.uid is None:
            goal.uid = destination.uid
        keys = _give_instances(goal, rewritten)
        _give_images(source, goal, wanted, keys)
        analysis_ids = [_settled(goal), _settled(source)]
        is_empty = not source.images
        _record(actor, source, goal, len(wanted))
        db.session.commit()
        moved = Moved(source.id, goal.id, len(wanted), is_empty)
        return moved, analysis_ids[:1] if is_empty else analysis_ids

    moved, analysis_ids = twice(record)
    for analysis_id in analysis_ids:
        send_classification(analysis_id)
    remove_unnamed({one.before for one in rewritten})
    return moved


def destinations(study: Study) -> Destinations:
    """The offered studies: the patient's others, and the newest of the organisation."""
    others = select(Study).where(Study.id != study.id).order_by(Study.created_at.desc(), Study.id)
    own = Study.patient_id == study.patient_id
    return Destinations(
        same_patient=db.session.scalars(others.where(own).limit(_OTHERS_AT_MOST)).all(),
        recent=db.session.scalars(others.where(~own).limit(_OTHERS_AT_MOST)).all(),
    )


def _chosen(source: Study, wanted: Collection[uuid.UUID]) -> list[Image]:
    if not wanted:
        raise InvalidInput(_("Choose at least one slice."))
    chosen = [image for image in source.images if image.id in wanted]
    if len(chosen) != len(wanted):
        raise _changed()
    left = {image.instance_id for image in source.images if image.id not in wanted}
    if any(image.instance_id in left for image in chosen if image.instance_id is not None):
        raise InvalidInput(
            _("Some of these slices are in one file with others. Choose all slices of such a file.")
        )
    return chosen


def _changed() -> Conflict:
    return Conflict(
        _(
            "This study was changed in the meantime: not all of these slices are in it any more. "
            "Please choose again."
        )
    )


def _destination(source: Study, target: uuid.UUID | NewStudy) -> _Destination:
    if isinstance(target, NewStudy):
        code = demanded_code(target.patient_code, confirmed=target.code_confirmed)
        checked_description(target.description)
        new_id = uuid.uuid4()
        return _Destination(new_id, f"2.25.{new_id.int}", code, target)
    study = find_study(target)
    if study.id == source.id:
        raise InvalidInput(_("The slices are in this study already. Choose another one."))
    return _Destination(study.id, study.uid or f"2.25.{study.id.int}", study.patient.code, None)


def _check_size(target_id: uuid.UUID, more: int) -> None:
    limit = upload_limits().max_slices
    there = db.session.scalar(select(func.count(Image.id)).where(Image.study_id == target_id)) or 0
    if there + more > limit:
        raise TooLarge(_("A study may have at most %(limit)d slices.", limit=limit))


def _instances(source: Study, chosen: Sequence[Image]) -> list[Instance]:
    """The DICOM instances that move with these images."""
    every = db.session.scalars(select(Instance).where(Instance.study_id == source.id)).all()
    if len(chosen) == len(source.images):
        return list(every)
    taken = {image.instance_id for image in chosen}
    shown = {image.instance_id for image in source.images}
    moving = [one for one in every if one.id in taken]
    whole = {one.series_uid for one in moving}
    touched = set(whole)
    whole -= {one.series_uid for one in every if one.id in shown and one.id not in taken}
    places = [image.origin for image in chosen if image.instance_id and image.origin]
    silent = [one for one in every if one.id not in shown and one.series_uid in touched]
    return moving + [one for one in silent if one.series_uid in whole or _shows(one, places)]


def _shows(instance: Instance, places: Sequence[Sequence[float]]) -> bool:
    """Whether a file that was left out repeats a slice at one of ``places``."""
    try:
        facts = inspect(current_blobs().get(instance.blob_key), NO_LIMITS)
    except (MissingBlob, UnreadableImage):
        return False
    corners = [frame.geometry.position for frame in facts.frames if frame.geometry]
    return any(math.dist(corner, place) <= _SAME_PLACE for corner in corners for place in places)


def _rewrite(
    instances: Sequence[Instance],
    source: Study,
    destination: _Destination,
    blobs: BlobStore,
    batch: Keeper,
) -> list[_Rewritten]:
    """Store each file with the target's identifiers, before anything is recorded."""
    if not instances:
        return []
    there = db.session.scalars(
        select(Instance)
        .where(Instance.study_id == destination.id, Instance.problem.is_(None))
        .order_by(Instance.created_at)
    ).first()
    sample = blobs.get(there.blob_key) if there else None
    same_patient = destination.patient_code == source.patient.code
    code = there.patient_code if there else None if same_patient else destination.patient_code
    found = []
    for one in instances:
        file = reassign(
            blobs.get(one.blob_key), study_uid=destination.uid, patient_code=code, sample=sample
        )
        found.append(
            _Rewritten(
                id=one.id,
                before=one.blob_key,
                blob_key=batch.put(file.content),
                series_uid=file.series_uid,
                patient_code=code or one.patient_code,
                acquired_on=there.acquired_on if there else one.acquired_on,
            )
        )
    return found


def _check_still_there(source: Study, wanted: Collection[uuid.UUID]) -> None:
    held = select(func.count(Image.id)).where(Image.study_id == source.id, Image.id.in_(wanted))
    if db.session.scalar(held) != len(wanted):
        raise _changed()


def _open(destination: _Destination, source: Study) -> Study:
    """The target study; a new one keeps the uploader of the source."""
    new = destination.new
    if new is None:
        return find_study(destination.id)
    study = Study(
        id=destination.id,
        patient=patient_with(destination.patient_code),
        uploaded_by_id=source.uploaded_by_id,
        description=checked_description(new.description),
        priority=new.priority,
        acquired_on=source.acquired_on,
        node_id=source.node_id,
    )
    db.session.add(study)
    db.session.flush()
    return study


def _give_instances(target: Study, rewritten: Sequence[_Rewritten]) -> dict[uuid.UUID, str]:
    """Assign the instances to the target; returns instance id -> key of its file."""
    rows = [
        {
            "id": one.id,
            "blob_key": one.blob_key,
            "study_uid": target.uid,
            "series_uid": one.series_uid,
            "patient_code": one.patient_code,
            "acquired_on": one.acquired_on,
            "study_id": target.id,
        }
        for one in rewritten
    ]
    if rows:
        db.session.flush()
        update_by_key(db.session, Instance, rows)
    return {one.id: one.blob_key for one in rewritten}


def _give_images(
    source: Study, target: Study, wanted: Collection[uuid.UUID], keys: dict[uuid.UUID, str]
) -> None:
    """Assign the images to the target; each of their series becomes a new one there."""
    rows = []
    for series in source.series:
        images = [image for image in series.images if image.id in wanted]
        if not images:
            continue
        copy = _copy(series, target)
        db.session.add(copy)
        db.session.flush()
        for image in images:
            source_key = keys.get(image.instance_id) if image.instance_id else None
            rows.append(
                {
                    "id": image.id,
                    "study_id": target.id,
                    "series_id": copy.id,
                    "position": image.position - _ASIDE,
                    "source_key": source_key or image.source_key,
                }
            )
    update_by_key(db.session, Image, rows)
    db.session.expire_all()
    for study in (source, target):
        for series in study.series:
            if series.uid is None:
                _measure(series)


def _copy(series: Series, target: Study) -> Series:
    return Series(
        study_id=target.id,
        position=len(target.series) + series.position,
        uid=series.uid,
        modality=series.modality,
        plane=series.plane,
        is_stack=series.is_stack,
        is_volume=series.is_volume,
        slice_spacing=series.slice_spacing,
        row_direction=series.row_direction,
        column_direction=series.column_direction,
        missing=series.missing,
        slice_order=series.slice_order,
    )


def _measure(series: Series) -> None:
    """Recompute the geometry of a series without DICOM headers after slices came or went."""
    if not series.images or not series.row_direction or not series.column_direction:
        return
    row, column = series.row_direction, series.column_direction
    frames = tuple(
        FrameFacts(
            index=number,
            rows=image.height,
            columns=image.width,
            spacing=(image.row_spacing, image.column_spacing)
            if image.row_spacing and image.column_spacing
            else None,
            geometry=Geometry(_vector(image.origin), _vector(row), _vector(column)),
        )
        for number, image in enumerate(series.images)
        if image.origin is not None
    )
    plans = assemble([FileFacts(format="NIFTI", frames=frames, plane=series.plane)])
    plan = plans[0] if len(plans) == 1 and len(plans[0].slices) == len(series.images) else None
    series.is_volume = plan is not None and plan.is_volume
    series.is_stack = plan is not None and bool(getattr(plan, "is_stack", plan.is_volume))
    series.slice_spacing = plan.slice_spacing if plan else None
    series.missing = plan.missing if plan else 0


def _vector(values: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = values
    return (x, y, z)


def _settled(study: Study) -> uuid.UUID:
    """Sort the study's slices and request its analysis; return the analysis's id."""
    sources = sources_of(study.uid) if study.uid else []
    attach(study, sources)
    arrange(study, sources)
    db.session.flush()
    db.session.expire(study, ["images", "series"])
    analysis = request_analysis(study)
    if not study.images:
        analysis.reason = MOVED_AWAY
    return analysis.id


def _record(actor: User, source: Study, target: Study, images: int) -> None:
    about: dict[str, Any] = {"actor_id": actor.id, "images": images}
    audit.record("move_images", subject=source, to_study=str(target.id), **about)
    audit.record("receive_images", subject=target, from_study=str(source.id), **about)
