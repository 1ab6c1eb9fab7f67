"""Sort an upload into parcels, each of which becomes one study."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from flask_babel import gettext as _

from webapp.errors import InvalidInput, SeveralStudies
from webapp.intake.arrival import Arrival
from webapp.intake.grouping import ENDINGS, patients_by_name

_EXAMPLES = 3


class Split(StrEnum):
    """What to do with the files of several patients or studies.

    DICOM files name patient and study, so different ones are never merged: without ``YES`` they
    are refused. The names of pictures allow only a guess.
    """

    NO = "no"  # pictures become one study
    ASK = "ask"  # refuse pictures too, until the user has said whether they are one study
    YES = "yes"  # one study each


@dataclass(frozen=True)
class Parcel:
    """Files that become one study.

    Attributes:
        label: the common part of their names; empty if there is only one group.
        uid: the pseudonymous Study Instance UID; None for files that are not DICOM.
        patient: the patient's pseudonym in the files; None for files that are not DICOM.
    """

    arrivals: tuple[Arrival, ...]
    label: str = ""
    uid: str | None = None
    patient: str | None = None

    @property
    def whose(self) -> str:
        """A key that is equal for parcels of one patient."""
        return self.patient or self.label


def parcels_of(arrivals: Sequence[Arrival], split: Split) -> list[Parcel]:
    """Sort the files of an upload: DICOM by patient and study, others by file name.

    Raises:
        SeveralStudies: there are several, and ``split`` does not permit them.
        InvalidInput: two patients share one study UID.
    """
    dicom = _dicom_parcels(arrivals)
    loose = [arrival for arrival in arrivals if arrival.dicom is None]
    named = [
        Parcel(tuple(loose[number] for number in group.members), group.label)
        for group in (patients_by_name([one.name for one in loose]) if loose else [])
    ]
    if len(dicom) > 1 and split is not Split.YES:
        raise _several(dicom, may_keep=False)
    if len(named) > 1 and split is Split.ASK:
        raise _several([*dicom, *named], may_keep=True)
    if split is Split.YES and (len(dicom) > 1 or len(named) > 1):
        return [*dicom, *named]
    first = next(iter(dicom), Parcel(()))
    return [Parcel(tuple(arrivals), uid=first.uid, patient=first.patient)]


def guessed_patients(names: Sequence[str]) -> list[dict[str, object]]:
    """Predict the groups of :func:`parcels_of` from file names; empty for one patient.

    DICOM files, which mostly have no extension, are not considered.
    """
    pictures = [name for name in names if name.lower().endswith(ENDINGS)]
    groups = patients_by_name(pictures)
    if len(groups) < 2:
        return []
    return [
        {
            "label": group.label,
            "files": len(group.members),
            "examples": [pictures[number] for number in group.members[:_EXAMPLES]],
        }
        for group in groups
    ]


def patients_in(parcels: Sequence[Parcel]) -> int:
    """Number of different patients."""
    return len({parcel.whose for parcel in parcels})


def _dicom_parcels(arrivals: Sequence[Arrival]) -> list[Parcel]:
    found: dict[tuple[str, str], list[Arrival]] = {}
    for arrival in arrivals:
        if arrival.dicom is not None:
            key = (arrival.dicom.patient_code, arrival.facts.study_uid or "")
            found.setdefault(key, []).append(arrival)
    parcels = [
        Parcel(tuple(members), uid=uid, patient=patient)
        for (patient, uid), members in found.items()
    ]
    if len({parcel.uid for parcel in parcels}) < len(parcels):
        message = _(
            "These files belong to %(n)d patients, yet some of them carry the same study "
            "identifier. Either patient or study is wrong in the files; nothing was stored.",
            n=patients_in(parcels),
        )
        raise InvalidInput(
            message, fields={"files": message}, extra={"groups": _described(parcels)}
        )
    return parcels


def _several(parcels: Sequence[Parcel], *, may_keep: bool) -> SeveralStudies:
    patients = patients_in(parcels)
    if may_keep:
        message = _("These files appear to be from %(n)d patients.", n=patients)
    elif patients > 1:
        message = _("These files belong to %(n)d patients and cannot be one study.", n=patients)
    else:
        message = _("These files belong to %(n)d studies of one patient.", n=len(parcels))
    extra = {"groups": _described(parcels), "may_keep": may_keep, "patients": patients}
    return SeveralStudies(message, fields={"files": message}, extra=extra)


def _described(parcels: Sequence[Parcel]) -> list[dict[str, object]]:
    """The groups for a response, with file names as examples."""
    return [
        {
            "label": parcel.label or parcel.patient or "",
            "files": len(parcel.arrivals),
            "examples": [arrival.name for arrival in parcel.arrivals[:_EXAMPLES]],
        }
        for parcel in parcels
    ]
