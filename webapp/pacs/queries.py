"""What views, commands and the receiver read about nodes. Nothing here changes anything."""

import socket
import uuid
from collections.abc import Sequence

from flask_babel import gettext as _
from sqlalchemy import func, select

from webapp.database import db
from webapp.errors import NotFound
from webapp.pacs.checks import plain_ip
from webapp.pacs.models import PacsNode
from webapp.tenancy import unscoped


def list_nodes() -> Sequence[PacsNode]:
    """The nodes by name: those of the organisation acted for, or all where unscoped."""
    return db.session.scalars(
        select(PacsNode).order_by(PacsNode.is_active.desc(), func.lower(PacsNode.name))
    ).all()


def find_node(node_id: uuid.UUID) -> PacsNode:
    """The node of the organisation acted for; raises :class:`NotFound`."""
    node = db.session.scalar(select(PacsNode).where(PacsNode.id == node_id))
    if node is None:
        raise NotFound(_("There is no such archive."))
    return node


def node_calling(*, ae_title: str, address: str) -> PacsNode | None:
    """The node that may send studies under this title from this IP address.

    Host names are looked up now. Where nodes of several organisations fit, none does: it could
    not be told whose studies these are.
    """
    with unscoped():
        candidates = db.session.scalars(
            select(PacsNode).where(
                PacsNode.ae_title == ae_title,
                PacsNode.is_active.is_(True),
                PacsNode.may_send.is_(True),
            )
        ).all()
    caller = plain_ip(address)
    found = [node for node in candidates if caller in _addresses_of(node.address)]
    owners = {node.organisation_id for node in found}
    return found[0] if len(owners) == 1 else None


def _addresses_of(host: str) -> set[str | None]:
    if plain := plain_ip(host):
        return {plain}
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {plain_ip(str(answer[4][0])) for answer in answers}
