"""What data stewards can do: freeze what readers agreed about, give it away, leave patients out."""

import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from ml.dataset import snapshot as folders
from ml.dataset.out_of_scope import LIST
from ml.dataset.reference import read_reference
from ml.dataset.snapshot import fold_of, write_snapshot
from ml.errors import InvalidManifest
from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.models import Role, User
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotFound
from webapp.extensions import current_blobs, current_settings
from webapp.learning.learnable import LearnableSlices, contents, learnable_slices
from webapp.learning.models import (
    LONGEST_NAME,
    OUT_OF_SCOPE,
    Snapshot,
    SnapshotSlice,
    Withdrawal,
)
from webapp.learning.pseudonyms import patient_group
from webapp.learning.queries import find_snapshot
from webapp.learning.terms import Terms, terms_that_hold
from webapp.review.mass_corrections import flag_mass_corrections
from webapp.review.models import OTHER
from webapp.studies.models import Patient, Study


def create_snapshot(*, actor: User | None, name: str, terms: Terms | None = None) -> Snapshot:
    """Freeze every slice whose label readers agreed on, under a name of its own.

    So are slices of which they agreed that they show none of the classes, on a list of their own.
    What is left out is counted by reason. Copies of slices that are held out, here or in the
    reference set, are left out with their whole patient. Reading and comparing takes some 20 ms a
    slice, and once in a process 5 s for the reference set.

    Args:
        actor: None for the command line.

    Raises:
        NotAllowed: the actor is no data steward.
        InvalidInput: the name is empty or too long.
        Conflict: the name is taken, or there is no slice that readers agreed on.
    """
    if actor is not None:
        demand_role(actor, Role.STEWARD)
    order = SnapshotOrder(checked_name(name), actor.id if actor else None)
    return take_snapshot(order, terms or terms_that_hold())


@dataclass(frozen=True)
class SnapshotOrder:
    """A snapshot to be taken.

    Attributes:
        actor_id: None for the command line.
        snapshot_id: by default a new one.
        told: told of each slice that was read, and of how many there are.
        finish: called in the transaction that keeps the snapshot; what it raises undoes that.
    """

    name: str
    actor_id: uuid.UUID | None
    snapshot_id: uuid.UUID | None = None
    told: Callable[[int, int], None] | None = None
    finish: Callable[[], None] | None = None


def take_snapshot(order: SnapshotOrder, terms: Terms) -> Snapshot:
    """As :func:`create_snapshot`, whoever asks.

    Raises:
        Conflict: the name is taken, or there is no slice that readers agreed on.
    """
    reference = read_reference()
    flag_mass_corrections()
    # Whatever is read here stays until rows name it.
    with current_blobs().in_use():
        found = learnable_slices(quorum=terms.quorum)
        if not found.slices:
            raise Conflict(_("Readers have not agreed on any slice yet."))
        # Nothing is locked while files are read and compared.
        db.session.rollback()
        with tempfile.TemporaryDirectory(dir=current_settings().home) as place:
            folder = Path(place) / "snapshot"
            try:
                written = write_snapshot(
                    folder,
                    contents(found.slices, _teller(order, found)),
                    plan=terms.stamp,
                    out_of_scope=contents(
                        found.out_of_scope, _teller(order, found, after=len(found.slices))
                    ),
                    left_out=found.left_out,
                    locked=terms.locked_groups,
                    held_out=reference.held_out,
                    snapshot_id=order.snapshot_id,
                )
            except InvalidManifest as error:
                # The one thing that can be wrong with a new folder: everything was a copy.
                message = _("All slices that readers agreed on are copies of held-out slices.")
                raise Conflict(message) from error
            return _keep(order, written, folder)


def _teller(
    order: SnapshotOrder, found: LearnableSlices, *, after: int = 0
) -> Callable[[int], None] | None:
    """Counts on after so many slices, of all that are taken in."""
    told, total = order.told, len(found.slices) + len(found.out_of_scope)
    return None if told is None else lambda number: told(after + number, total)


def record_download(*, actor: User | None, snapshot_id: uuid.UUID) -> Snapshot:
    """Note in the audit trail that a snapshot is given away; None is the command line.

    Raises:
        NotAllowed: the actor is no data steward.
        NotFound: there is no such snapshot.
    """
    if actor is not None:
        demand_role(actor, Role.STEWARD)
    row = find_snapshot(snapshot_id)
    audit.record("export_snapshot", subject=row, actor_id=actor.id if actor else None)
    db.session.commit()
    return row


def withdraw_patient(*, actor: User, code: str) -> Withdrawal:
    """Leave a patient out of every later snapshot; a second time changes nothing.

    Snapshots that are there already stay as they are: :func:`webapp.learning.queries.holding`
    names them.

    Raises:
        NotAllowed: the actor is no administrator.
        NotFound: there is no patient of that code.
    """
    demand_role(actor, Role.ADMIN)
    patient = db.session.scalar(select(Patient).where(Patient.code == " ".join(code.split())))
    if patient is None:
        raise NotFound(_("There is no patient with this code."))
    group = patient_group(patient.code)
    known = db.session.scalar(select(Withdrawal).where(Withdrawal.patient_group == group))
    if known is not None:
        return known
    studies = db.session.scalars(select(Study.id).where(Study.patient_id == patient.id)).all()
    row = Withdrawal(
        patient_group=group,
        study_ids=[str(one) for one in studies],
        patient_id=patient.id,
        withdrawn_by_id=actor.id,
    )
    db.session.add(row)
    audit.record("withdraw_patient", subject=row, actor_id=actor.id, studies=len(studies))
    db.session.commit()
    return row


def _keep(order: SnapshotOrder, written: folders.Snapshot, folder: Path) -> Snapshot:
    facts, blobs = written.facts, current_blobs()
    row = Snapshot(
        id=uuid.UUID(written.id),
        name=order.name,
        created_by_id=order.actor_id,
        plan_version=written.plan_version,
        plan_sha256=facts["plan"]["sha256"],
        counts=facts["counts"],
        left_out=facts["left_out"],
        manifest_sha256=facts["manifest_sha256"],
        images_sha256=facts["images_sha256"],
        manifest_key=blobs.put((folder / folders.MANIFEST).read_bytes()),
        card_key=blobs.put((folder / folders.CARD).read_bytes()),
        out_of_scope_key=blobs.put((folder / LIST).read_bytes()) if written.out_of_scope else None,
    )
    db.session.add(row)
    audit.record(
        "create_snapshot",
        subject=row,
        actor_id=order.actor_id,
        slices=row.counts["slices"],
        groups=row.counts["groups"],
        out_of_scope=row.counts["out_of_scope"],
        left_out=sum(row.left_out.values()),
    )
    db.session.add_all(_slices(row.id, written))
    try:
        if order.finish is not None:
            order.finish()
        db.session.commit()
    except IntegrityError as error:
        db.session.rollback()
        message = _("There is already a snapshot with this name.")
        raise Conflict(message, fields={"name": message}) from error
    return row


def _slices(snapshot_id: uuid.UUID, written: folders.Snapshot) -> Sequence[SnapshotSlice]:
    labelled = [
        SnapshotSlice(
            snapshot_id=snapshot_id,
            image_id=uuid.UUID(written.provenance[str(entry.sha256)].image_id),
            blob_key=entry.sha256,
            label=entry.label.value,
            patient_group=entry.group,
            part=part,
            fold=fold_of(entry.group),
            rule=written.provenance[str(entry.sha256)].rule,
        )
        for part, entries in (("training", written.training), ("holdout", written.holdout))
        for entry in entries
    ]
    others = [
        SnapshotSlice(
            snapshot_id=snapshot_id,
            image_id=uuid.UUID(one.provenance.image_id),
            blob_key=one.sha256,
            label=OTHER,
            patient_group=one.group,
            part=OUT_OF_SCOPE,
            fold=fold_of(one.group),
            rule=one.provenance.rule,
        )
        for one in written.out_of_scope
    ]
    return [*labelled, *others]


def checked_name(name: str) -> str:
    """The name of a new snapshot; raises :class:`InvalidInput` and :class:`Conflict`."""
    text = " ".join(name.replace("\0", "").split())
    if not text:
        message = _("Please give the snapshot a name.")
    elif len(text) > LONGEST_NAME:
        message = _("The name may have at most %(n)d characters.", n=LONGEST_NAME)
    elif db.session.scalar(select(Snapshot.id).where(Snapshot.name == text)):
        message = _("There is already a snapshot with this name.")
        raise Conflict(message, fields={"name": message})
    else:
        return text
    raise InvalidInput(message, fields={"name": message})
