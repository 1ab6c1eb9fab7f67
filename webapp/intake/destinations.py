"""Choose the study for a parcel of files, and raise the questions to ask first."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flask_babel import gettext as _
from flask_babel import ngettext
from sqlalchemy import select

from webapp.database import db
from webapp.errors import CodeConflict, KnownContent, OtherPatient
from webapp.intake.arrival import Arrival
from webapp.intake.assembly import study_holding, study_with_uid
from webapp.intake.known import Known, KnownStudy, known_content
from webapp.intake.parcels import Parcel
from webapp.studies.models import Instance, Study


@dataclass(frozen=True)
class Destination:
    """Where the files of a parcel go.

    Attributes:
        study: the existing study to which they belong; None for a new one.
        fresh: the files to add to it.
        known: earlier studies that contain some of the content.
    """

    study: Study | None
    fresh: Sequence[Arrival]
    known: Sequence[KnownStudy]


def destination_of(
    parcel: Parcel, given: str, known: Known, siblings: Collection[uuid.UUID] = ()
) -> Destination:
    """Find the study for the files of a parcel.

    Args:
        given: the requested patient code; empty if there was none.
        siblings: studies created by this upload; their content does not count as earlier.

    Raises:
        OtherPatient, CodeConflict, KnownContent: as described in :func:`submit_files`.
    """
    if parcel.uid and parcel.patient:
        demand_same_patient(parcel.uid, parcel.patient)
    found = [one for one in known_content(parcel.arrivals) if one.study.id not in siblings]
    study = study_with_uid(parcel.uid) if parcel.uid else None
    if study is None and parcel.uid:
        uids = [one.facts.sop_uid for one in parcel.arrivals if one.facts.sop_uid]
        if len(uids) == len(parcel.arrivals):
            study = study_holding(uids)  # moved out of a study that was deleted
    if study is not None:
        held = next((one.members for one in found if one.study.id == study.id), frozenset())
        fresh = [
            arrival
            for number, arrival in enumerate(parcel.arrivals)
            if arrival.dicom is not None or number not in held
        ]
        destination = Destination(study, fresh, found)
    elif not found:
        return Destination(None, parcel.arrivals, [])
    else:
        destination = _among_known(parcel, found, known)
    if destination.study is not None:
        _demand_same_code(destination.study, given)
    return destination


def demand_same_patient(uid: str, patient: str) -> None:
    """Check that a study's UID has no instances of another patient, including unassigned ones.

    Raises:
        OtherPatient: there are some.
    """
    other = select(Instance.id).where(Instance.study_uid == uid, Instance.patient_code != patient)
    if db.session.scalar(other.limit(1)) is not None:
        message = _(
            "This study is already stored for a different patient from the one in these files. "
            "Nothing was stored; check the files at their source."
        )
        raise OtherPatient(message, fields={"files": message})


def _among_known(parcel: Parcel, found: Sequence[KnownStudy], known: Known) -> Destination:
    """Choose the study for content that other studies contain wholly or partly."""
    best = found[0]
    whole = len(best.members) == len(parcel.arrivals)
    may_add = parcel.uid is None and not whole
    if known is Known.ASK:
        raise _known_error(parcel, found, may_add=may_add)
    if whole and known in {Known.REUSE, Known.ADD}:
        return Destination(best.study, [], found)
    if known is Known.ADD and may_add:
        fresh = [one for n, one in enumerate(parcel.arrivals) if n not in best.members]
        return Destination(best.study, fresh, found)
    return Destination(None, parcel.arrivals, found)


def _known_error(parcel: Parcel, found: Sequence[KnownStudy], *, may_add: bool) -> KnownContent:
    total, here = len(parcel.arrivals), len(frozenset().union(*(one.members for one in found)))
    if here == total:
        message = ngettext(
            "This image is already stored.", "All %(num)d images are already stored.", total
        )
    else:
        message = _("%(n)d of %(total)d images are already stored.", n=here, total=total)
    extra = {
        "known": [
            {
                "study_id": str(one.study.id),
                "patient_code": one.study.patient.code,
                "created_at": one.study.created_at.isoformat(),
                "matching": len(one.members),
            }
            for one in found
        ],
        "files": total,
        "fresh": total - len(found[0].members),
        "may_add": may_add,
    }
    return KnownContent(message, extra=extra)


def _demand_same_code(study: Study, given: str) -> None:
    earlier = study.patient.code
    if given and given != earlier:
        message = _(
            "This study is already stored under the patient code %(earlier)s, not %(given)s. Send "
            "it with that code or without one; nothing was changed.",
            earlier=earlier,
            given=given,
        )
        raise CodeConflict(
            message,
            fields={"patient_code": message},
            extra={"earlier_code": earlier, "given_code": given, "study_id": str(study.id)},
        )
