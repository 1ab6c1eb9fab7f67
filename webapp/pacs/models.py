"""The picture archives with which an organisation exchanges studies, and deliveries to them."""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.database import Base, Identifier, Timestamped, enum_column
from webapp.tenancy import OrganisationOwned


class Sending(StrEnum):
    """How results are sent to a node."""

    NEVER = "never"
    DIMSE = "dimse"  # C-STORE
    STOW = "stow"  # STOW-RS


class PacsNode(Timestamped, OrganisationOwned, Base):
    """A DICOM application that the organisation trusts: a PACS, a scanner or a router.

    Attributes:
        ae_title: its application entity title, as caller and as called.
        address: the host name or IP address from which it calls and at which it is called.
        may_send: whether the receiver accepts studies from it.
        sending: how results are sent to it.
        port: on which it accepts C-STORE.
        stow_url: base URL of its DICOMweb service.
        stow_authorization: value of the Authorization header for it; never shown again.
        sends_by_itself: whether each finished study's result is sent automatically.
        registered_by_id: the responsible administrator, recorded as uploader of its studies.
    """

    __tablename__ = "pacs_node"
    __table_args__ = (UniqueConstraint("organisation_id", "name"),)

    id: Mapped[Identifier]
    name: Mapped[str] = mapped_column(String(64))
    ae_title: Mapped[str] = mapped_column(String(16), index=True)
    address: Mapped[str] = mapped_column(String(255))
    may_send: Mapped[bool] = mapped_column(default=True)
    sending: Mapped[Sending] = mapped_column(enum_column(Sending, "sending"), default=Sending.NEVER)
    port: Mapped[int | None]
    stow_url: Mapped[str | None] = mapped_column(String(500))
    stow_authorization: Mapped[str | None] = mapped_column(String(500))
    sends_by_itself: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=True)
    registered_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))


class DeliveryStatus(StrEnum):
    """State of a delivery."""

    QUEUED = "queued"
    DONE = "done"
    FAILED = "failed"


class Delivery(Timestamped, OrganisationOwned, Base):
    """The results of one study, being sent to one node.

    ``attempts`` counts attempts; ``next_try_at`` is the earliest time of the next one. ``reason``
    is a code, never the other side's text, which could contain anything.
    """

    __tablename__ = "delivery"

    id: Mapped[Identifier]
    study_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("study.id", ondelete="CASCADE"), index=True
    )
    node_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("pacs_node.id", ondelete="CASCADE"))
    requested_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))
    status: Mapped[DeliveryStatus] = mapped_column(
        enum_column(DeliveryStatus, "delivery_status"), default=DeliveryStatus.QUEUED, index=True
    )
    attempts: Mapped[int] = mapped_column(default=0)
    next_try_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(String(32))

    node: Mapped[PacsNode] = relationship()
