"""The audit trail: who did what to which row. Written in the same transaction as the change."""

import uuid
from typing import Any

from flask import has_request_context, request
from sqlalchemy import ForeignKey, Index, String, select
from sqlalchemy.orm import Mapped, mapped_column

from webapp.database import Base, Identifier, Timestamped, db
from webapp.tenancy import OrganisationOwned, current_organisation_id, owner_without_index


class AuditEvent(Timestamped, OrganisationOwned, Base):
    """One change. Rows are never changed or deleted.

    ``details`` never holds patient data, a password or a token.
    """

    __tablename__ = "audit_event"
    __table_args__ = (
        Index("ix_audit_event_trail", "organisation_id", "created_at"),
        Index("ix_audit_event_of_action", "organisation_id", "action", "created_at"),
    )

    id: Mapped[Identifier]
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
    actor_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"), index=True)
    action: Mapped[str] = mapped_column(String(64), index=True)
    subject_type: Mapped[str] = mapped_column(String(32))
    subject_id: Mapped[uuid.UUID | None] = mapped_column(index=True)
    address: Mapped[str | None] = mapped_column(String(64))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)


def record(
    action: str,
    *,
    subject: Base | None = None,
    actor_id: uuid.UUID | None = None,
    organisation_id: uuid.UUID | None = None,
    **details: Any,
) -> None:
    """Add an event to the current transaction.

    Args:
        action: verb of the operation, such as ``submit_study``.
        subject: the row that was changed; the session is flushed first, so that it has an id.
        actor_id: the user; None if the system acted.
        organisation_id: by default the current one.
    """
    if subject is not None:
        db.session.flush()
    db.session.add(
        AuditEvent(
            organisation_id=organisation_id or current_organisation_id(),
            actor_id=actor_id,
            action=action,
            subject_type=subject.__tablename__ if subject is not None else "",
            subject_id=getattr(subject, "id", None),
            address=request.remote_addr if has_request_context() else None,
            details=details,
        )
    )


def note_fault(action: str, *, subject: Base, fault: str) -> None:
    """Record that a row is not followed, once for each fault of it, and commit."""
    known = select(AuditEvent.details).where(
        AuditEvent.action == action,
        AuditEvent.subject_id == subject.id,  # type: ignore[attr-defined]
    )
    if any(details.get("fault") == fault for details in db.session.scalars(known)):
        return
    record(action, subject=subject, fault=fault)
    db.session.commit()
