"""Admit all files of an upload or none; collect what is refused, questioned or left out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from flask_babel import gettext as _
from sqlalchemy import select

from ml.imaging.archives import pictures_of_viewers
from webapp.accounts.models import User
from webapp.database import db
from webapp.deidentification import pseudonymiser_for
from webapp.errors import QuestionableUpload, RefusedUpload
from webapp.intake.arrival import Arrival, Delivered, Handling, take_in_file, upload_limits
from webapp.intake.filenames import NamedFile
from webapp.intake.known import same_picture, same_places, shows_the_same
from webapp.intake.refusals import refusal
from webapp.storage import Keeper
from webapp.studies.models import Instance


def take_in_all(
    actor: User, files: Sequence[NamedFile], handling: Handling, blobs: Keeper
) -> Delivered:
    """Check every file before anything is recorded: one bad file must not leave half a study."""
    delivered = Delivered()
    pseudonymiser = pseudonymiser_for(actor.organisation_id)
    paths = [PurePosixPath(file.file.name.replace("\\", "/")) for file in files]
    of_viewers = pictures_of_viewers(paths)
    for file, path in zip(files, paths, strict=True):
        if path in of_viewers:
            delivered.left_out.append((file.name, "junk"))
            continue
        take_in_file(
            file,
            delivered,
            blobs=blobs,
            pseudonymiser=pseudonymiser,
            burned_in=handling.burned_in,
            plane=handling.plane,
            forgiving=handling.forgiving,
        )
    _sort_out_repeated(delivered, blobs, forgiving=handling.forgiving)
    limits = upload_limits()
    refused = {name: refusal(code, limits) for name, code in delivered.refused.items()}
    if not refused and not delivered.questions and not delivered.arrivals:
        counts = Counter(code for _name, code in delivered.left_out)
        code = next((code for code, _n in counts.most_common(1)), "empty")
        refused = {files[0].name: refusal(code, limits)}
    if refused:
        name, sentence = next(iter(refused.items()))
        raise RefusedUpload(f"{name}: {sentence}", fields=refused)
    if delivered.questions:
        raise QuestionableUpload(
            _(
                "At least one image contains text that may identify the patient. "
                "Say whether to black it out or whether it identifies nobody."
            ),
            regions=dict(delivered.questions),
        )
    return delivered


def _sort_out_repeated(delivered: Delivered, blobs: Keeper, *, forgiving: bool) -> None:
    """Leave out repeated DICOM instances; refuse other pixels under the same UID."""
    uids = [arrival.facts.sop_uid for arrival in delivered.arrivals if arrival.dicom]
    kept = {instance.uid: instance for instance in instances_with(uids)}
    first: dict[str, Arrival] = {}
    stay = []
    for arrival in delivered.arrivals:
        uid = arrival.facts.sop_uid or ""
        if arrival.dicom is None:
            stay.append(arrival)
        elif uid in kept and not shows_the_same(kept[uid], arrival, blobs):
            _refuse_other_content(arrival, delivered, forgiving=forgiving)
        elif uid not in first:
            first[uid] = arrival
            stay.append(arrival)
        elif _repeats(first[uid], arrival, blobs):
            delivered.left_out.append((arrival.name, "duplicate"))
        else:
            _refuse_other_content(arrival, delivered, forgiving=forgiving)
    delivered.arrivals[:] = stay


def _repeats(one: Arrival, other: Arrival, blobs: Keeper) -> bool:
    if not same_places(one.facts, other.facts):
        return False  # equal pixels at another position: another slice with a wrong UID
    if one.dicom and other.dicom and one.dicom.pixels_key == other.dicom.pixels_key:
        return True
    return same_picture(one.blob_key, other.blob_key, blobs)


def _refuse_other_content(arrival: Arrival, delivered: Delivered, *, forgiving: bool) -> None:
    if forgiving:
        delivered.left_out.append((arrival.name, "other_content"))
    else:
        delivered.refused[arrival.name] = "other_content"


def instances_with(uids: Sequence[str | None]) -> list[Instance]:
    """The stored instances with one of these SOP Instance UIDs."""
    return list(db.session.scalars(select(Instance).where(Instance.uid.in_(uids))))
