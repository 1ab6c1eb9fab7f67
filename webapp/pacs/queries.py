"""Read-only queries on nodes, for views, commands and the receiver."""

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
    """The nodes by name: of the current organisation, or all if unscoped."""
    return db.session.scalars(
        select(PacsNode).order_by(PacsNode.is_active.desc(), func.lower(PacsNode.name))
    ).all()


def find_node(node_id: uuid.UUID) -> PacsNode:
    """The node of the current organisation; raises :class:`NotFound`."""
    node = db.session.scalar(select(PacsNode).where(PacsNode.id == node_id))
    if node is None:
        raise NotFound(_("There is no such archive."))
    return node


def node_calling(*, ae_title: str, address: str) -> PacsNode | None:
    """The node that may send studies with this title from this IP address, or None.

    Host names are resolved now. If nodes of several organisations match, the result is None,
    because the owner of the studies would be unclear.
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
