"""Assemble stored files into a study: series, sorted slices, and the analysis for the worker."""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, PICTURE_FORMATS, FileFacts, inspect
from ml.imaging.series import Placed, SeriesPlan, assemble
from webapp import audit
from webapp.database import db, now, one_at_a_time
from webapp.errors import Conflict
from webapp.extensions import current_blobs, current_settings
from webapp.inference.analyses import request_analysis
from webapp.storage import MissingBlob
from webapp.studies.models import Image, Instance, Patient, Series, Study
from webapp.tenancy import acting_for, unscoped

# Positions are unique in a study; during sorting the old ones are moved below zero.
_ASIDE = 1_000_000
# Limit for the integer column: a slice at an absurd position implies a huge number of gaps.
_MOST_MISSING = 9_999

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A stored file and the facts from its header."""

    facts: FileFacts
    blob_key: str
    instance: Instance | None = None

    @property
    def is_picture(self) -> bool:
        """Whether the file is stored as a PNG of its pixels."""
        return self.facts.format in PICTURE_FORMATS


def arrange(study: Study, sources: Sequence[Source]) -> None:
    """Sort slices into series: those of ``sources`` and those that the study already has.

    Args:
        study: in the session and flushed.
        sources: all DICOM files of the study, and any other new files. Existing slices keep
            their rows and so their predictions.
    """
    dicom = [source for source in sources if source.instance is not None]
    loose = [source for source in sources if source.instance is None]
    _set_aside(study)
    known = {(image.source_key, image.frame): image for image in study.images if image.instance_id}
    earlier_loose = [series for series in study.series if series.uid is None and series.images]
    reusable = [series for series in study.series if series not in earlier_loose]
    ordered: list[tuple[Series, list[Image]]] = []
    for plan in assemble([source.facts for source in dicom]):
        series = reusable.pop(0) if reusable else Series(organisation_id=study.organisation_id)
        ordered.append((_described(series, plan, dicom), _slices(plan, dicom, known)))
    ordered += [(series, list(series.images)) for series in earlier_loose]
    for plan in assemble([source.facts for source in loose]):
        series = Series(organisation_id=study.organisation_id)
        ordered.append((_described(series, plan, loose), _slices(plan, loose, {})))
    _number(study, ordered)


def sources_of(study_uid: str) -> list[Source]:
    """All DICOM files stored for a study of the current organisation.

    An unreadable file is left out, and :attr:`Instance.problem` says why.
    """
    found = []
    instances = db.session.scalars(
        select(Instance).where(Instance.study_uid == study_uid).order_by(Instance.created_at)
    )
    blobs = current_blobs()
    for instance in instances:
        try:
            facts = inspect(blobs.get(instance.blob_key), NO_LIMITS)
        except MissingBlob:
            instance.problem = "unreadable"
        except UnreadableImage as error:
            instance.problem = error.code
        else:
            instance.problem = None
            found.append(Source(facts, instance.blob_key, instance))
    return found


def attach(study: Study, sources: Sequence[Source]) -> None:
    """Assign the instances to the study.

    Unreadable ones are assigned too: they are counted, and not read again.
    """
    for source in sources:
        if source.instance is not None:
            source.instance.study = study
    if study.uid is None:
        return
    db.session.flush()
    unreadable = db.session.scalars(
        select(Instance).where(
            Instance.study_uid == study.uid,
            Instance.problem.is_not(None),
            Instance.study_id.is_(None),
        )
    ).all()
    for instance in unreadable:
        instance.study = study
        code = instance.problem or "unreadable"
        study.left_out = {**study.left_out, code: study.left_out.get(code, 0) + 1}


def assemble_quiet_studies() -> list[uuid.UUID]:
    """Make studies of instances from archives once nothing has arrived for ``quiet_seconds``.

    Returns:
        The ids of the new analyses; the caller sends their messages.
    """
    settings = current_settings()
    with unscoped():
        waiting = db.session.execute(
            select(Instance.organisation_id, Instance.study_uid, func.max(Instance.created_at))
            .where(Instance.study_id.is_(None))
            .group_by(Instance.organisation_id, Instance.study_uid)
        ).all()
        db.session.rollback()
    analysis_ids = []
    for organisation_id, study_uid, newest in waiting:
        if (now() - newest).total_seconds() < settings.quiet_seconds:
            continue
        with acting_for(organisation_id):
            try:
                analysis_ids.append(_assemble(organisation_id, study_uid))
            except (IntegrityError, Conflict):
                # Another process was faster; the next sweep finds what remains.
                db.session.rollback()
            except Exception:
                # One study that cannot be assembled must not block the others.
                db.session.rollback()
                _log.exception("a study could not be put together")
    return analysis_ids


def patient_with(code: str) -> Patient:
    """The current organisation's patient with that code; a new one if there is none."""
    known = db.session.scalar(select(Patient).where(Patient.code == code))
    return known or Patient(code=code)


def study_with_uid(uid: str) -> Study | None:
    """The current organisation's study with that pseudonymous UID."""
    return db.session.scalar(select(Study).where(Study.uid == uid))


def study_holding(instance_uids: Sequence[str]) -> Study | None:
    """The study to which DICOM instances were moved; None unless all of them are in one."""
    found = db.session.scalars(select(Instance).where(Instance.uid.in_(instance_uids))).all()
    if len(found) < len(set(instance_uids)) or any(one.study_id is None for one in found):
        return None
    return found[0].study if found else None


def study_lock(organisation_id: uuid.UUID, study_uid: str) -> str:
    """Name of the lock for assembling a DICOM study (:func:`webapp.database.one_at_a_time`)."""
    return f"study {organisation_id} {study_uid}"


def _assemble(organisation_id: uuid.UUID, study_uid: str) -> uuid.UUID:
    one_at_a_time([study_lock(organisation_id, study_uid)])
    sources = sources_of(study_uid)
    study = study_with_uid(study_uid)
    if study is None:
        first = db.session.scalars(
            select(Instance).where(Instance.study_uid == study_uid).order_by(Instance.created_at)
        ).first()
        if first is None:
            raise LookupError("no instance of this study")
        study = Study(
            patient=patient_with(first.patient_code),
            uploaded_by_id=first.received_by_id,
            node_id=first.node_id,
            uid=study_uid,
            acquired_on=first.acquired_on,
        )
        db.session.add(study)
        db.session.flush()
    attach(study, sources)
    arrange(study, sources)
    analysis = request_analysis(study)
    audit.record("assemble_study", subject=study, images=len(study.images))
    db.session.commit()
    return analysis.id


def _set_aside(study: Study) -> None:
    for image in study.images:
        image.position -= _ASIDE
    db.session.flush()


def _described(series: Series, plan: SeriesPlan, sources: Sequence[Source]) -> Series:
    first = plan.slices[0]
    frame = sources[first.file].facts.frames[first.frame]
    geometry = frame.geometry
    series.uid = plan.series_uid
    series.modality = plan.modality
    series.plane = plan.plane
    series.is_stack = plan.is_stack
    series.is_volume = plan.is_volume and frame.measured
    series.slice_spacing = plan.slice_spacing
    series.row_direction = list(geometry.row_direction) if geometry else None
    series.column_direction = list(geometry.column_direction) if geometry else None
    series.missing = min(plan.missing, _MOST_MISSING)
    series.duplicates = len(plan.duplicates)
    series.slice_order = plan.order
    return series


def _slices(
    plan: SeriesPlan,
    sources: Sequence[Source],
    known: dict[tuple[str | None, int], Image],
) -> list[Image]:
    return [
        known.get((sources[placed.file].blob_key, placed.frame))
        or _new_image(sources[placed.file], placed)
        for placed in plan.slices
    ]


def _new_image(source: Source, placed: Placed) -> Image:
    frame = source.facts.frames[placed.frame]
    return Image(
        instance=source.instance,
        blob_key=source.blob_key if source.is_picture else None,
        source_key=None if source.is_picture else source.blob_key,
        source_format=source.facts.format,
        frame=frame.index,
        width=frame.columns,
        height=frame.rows,
        # A mere ratio is not a length: the viewer would show millimetres that are unknown.
        row_spacing=frame.spacing[0] if frame.spacing and frame.measured else None,
        column_spacing=frame.spacing[1] if frame.spacing and frame.measured else None,
        pixel_aspect=frame.spacing[0] / frame.spacing[1]
        if frame.spacing and not frame.measured
        else None,
        origin=list(frame.geometry.position) if frame.geometry else None,
    )


def _number(study: Study, ordered: list[tuple[Series, list[Image]]]) -> None:
    position = 0
    kept = [series for series, _images in ordered]
    for number, (series, images) in enumerate(ordered):
        series.position = number
        if series not in study.series:
            study.series.append(series)
        for image in images:
            image.series = series
            image.position = position
            if image not in study.images:
                study.images.append(image)
            position += 1
    db.session.flush()
    for series in [one for one in study.series if one not in kept]:
        study.series.remove(series)
    db.session.flush()
