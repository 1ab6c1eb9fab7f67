"""What settles a dispute: somebody who has not read the slice decides, without any names."""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from ml.labels import INDEX
from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.models import Role, User
from webapp.database import db, now, one_at_a_time, retried
from webapp.errors import Conflict, InvalidInput, NotAllowed, NotFound
from webapp.review.consensus import (
    Consensus,
    State,
    consensus_of_slices,
    disputed_slices,
    flagged_readers,
)
from webapp.review.models import OTHER, Adjudication, Assessment
from webapp.review.operations import checked_comment, checked_finding
from webapp.studies.models import Image
from webapp.studies.queries import find_image


@dataclass(frozen=True)
class Ruling:
    """What an adjudicator decides.

    Attributes:
        label: one of the model's classes, or :data:`webapp.review.models.OTHER` with a finding.
        version: :attr:`Dispute.version` of what was weighed; None for what is there now.
    """

    label: str
    finding: str = ""
    comment: str = ""
    version: str | None = None


@dataclass(frozen=True)
class AnonymousOpinion:
    """What one reader says, without saying who."""

    label: str | None
    finding: str
    confidence: str | None
    comment: str
    region: list[list[float]] | None


@dataclass(frozen=True)
class Dispute:
    """A slice that readers disagree about.

    Attributes:
        opinions: ordered by what they say, so that the order tells nothing about who says it.
        version: the same as long as nobody says anything else.
    """

    image: Image
    opinions: tuple[AnonymousOpinion, ...]
    version: str


def open_disputes(actor: User) -> list[uuid.UUID]:
    """Slices that ``actor`` may settle, the longest waiting first: those not read by themselves."""
    found = disputed_slices()
    read = _read_by(actor, found)
    return [one for one in found if one not in read]


def disputes_of(actor: User, image_ids: Sequence[uuid.UUID]) -> list[Dispute]:
    """Those of these slices that ``actor`` may settle, in that order, with four statements."""
    found, read = consensus_of_slices(image_ids), _read_by(actor, list(image_ids))
    wanted = select(Image).where(Image.id.in_(image_ids)).options(joinedload(Image.study))
    images = {one.id: one for one in db.session.scalars(wanted)}
    disputed = {
        image_id: consensus
        for image_id, consensus in found.items()
        if consensus.state is State.DISPUTED and image_id not in read
    }
    opinions = _opinions(disputed.values())
    return [
        Dispute(images[one], opinions[one], _version(disputed[one]))
        for one in image_ids
        if one in disputed and one in images
    ]


def dispute_of(actor: User, image_id: uuid.UUID) -> Dispute:
    """The dispute about a slice.

    Raises:
        NotFound: there is no such slice, or readers do not disagree about it.
        NotAllowed: the actor is one of its readers.
    """
    image = find_image(image_id)
    consensus = _consensus(image.id)
    if consensus is None or consensus.state is not State.DISPUTED:
        raise NotFound(_("Readers do not disagree about this slice."))
    _refuse_readers(actor, image.id)
    return Dispute(image, _opinions([consensus])[image.id], _version(consensus))


def adjudicate(*, actor: User, image_id: uuid.UUID, ruling: Ruling) -> Adjudication:
    """Settle a dispute; who settled it may decide anew until a reader says something else.

    Raises:
        NotFound: there is no such slice.
        NotAllowed: the actor is no reviewer, has a flag, or is one of the slice's readers.
        InvalidInput: there is no such diagnosis, or no word for another one.
        Conflict: readers do not disagree, or one has said something else since ``version``.
    """
    demand_role(actor, Role.REVIEWER)
    if actor.id in flagged_readers():
        raise NotAllowed(_("A data steward has to look at your own assessments first."))
    if ruling.label not in INDEX and ruling.label != OTHER:
        raise InvalidInput.of_field("label", _("There is no such diagnosis."))
    image = find_image(image_id)
    _refuse_readers(actor, image.id)
    values = {
        "image_id": image.id,
        "adjudicator_id": actor.id,
        "label": ruling.label,
        "finding": checked_finding(ruling.finding) if ruling.label == OTHER else "",
        "comment": checked_comment(ruling.comment),
    }
    return retried(lambda: _keep(values, ruling.version))


def _keep(values: dict[str, Any], version: str | None) -> Adjudication:
    image_id: uuid.UUID = values["image_id"]
    one_at_a_time([f"adjudication {image_id}"])
    consensus = _consensus(image_id)
    former = db.session.scalar(
        select(Adjudication).where(
            Adjudication.image_id == image_id, Adjudication.superseded_at.is_(None)
        )
    )
    own = former is not None and former.adjudicator_id == values["adjudicator_id"]
    stands = consensus is not None and consensus.decision is not None
    if consensus is None or not (consensus.state is State.DISPUTED or (stands and own)):
        raise Conflict(_("Readers do not disagree about this slice."))
    if version is not None and version != _version(consensus):
        raise Conflict(_("A reader has said something else in the meantime. Please look again."))
    if former is not None:
        former.superseded_at = now()
        db.session.flush()  # before the new one is there: one of a slice is current
    about = [str(one.assessment_id) for one in consensus.votes]
    row = Adjudication(**values, about=about)
    db.session.add(row)
    audit.record(
        "adjudicate",
        subject=row,
        actor_id=row.adjudicator_id,
        image_id=str(image_id),
        label=row.label,
        opinions=len(about),
    )
    db.session.commit()
    return row


def _consensus(image_id: uuid.UUID) -> Consensus | None:
    return consensus_of_slices([image_id]).get(image_id)


def _opinions(
    consensuses: Iterable[Consensus],
) -> dict[uuid.UUID | None, tuple[AnonymousOpinion, ...]]:
    """What is said of each slice."""
    ids = [vote.assessment_id for consensus in consensuses for vote in consensus.votes]
    rows = db.session.scalars(select(Assessment).where(Assessment.id.in_(ids)))
    said: dict[uuid.UUID | None, list[AnonymousOpinion]] = defaultdict(list)
    for one in sorted(rows, key=lambda one: (one.label or "~", one.id)):
        said[one.image_id].append(
            AnonymousOpinion(
                label=one.label,
                finding=one.finding,
                confidence=one.confidence.value if one.confidence else None,
                comment=one.comment,
                region=one.region["points"] if one.region else None,
            )
        )
    return {image_id: tuple(opinions) for image_id, opinions in said.items()}


def _version(consensus: Consensus) -> str:
    ids = sorted(str(one.assessment_id) for one in consensus.votes)
    return hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]


def _refuse_readers(actor: User, image_id: uuid.UUID) -> None:
    if _read_by(actor, [image_id]):
        raise NotAllowed(_("You have assessed this slice yourself; somebody else has to decide."))


def _read_by(actor: User, image_ids: list[uuid.UUID]) -> set[uuid.UUID | None]:
    """Those that the actor has ever assessed."""
    found = select(Assessment.image_id).where(
        Assessment.reader_id == actor.id, Assessment.image_id.in_(image_ids)
    )
    return set(db.session.scalars(found))
