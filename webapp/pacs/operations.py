"""Operations on nodes for administrators; each is one transaction."""

import uuid
from dataclasses import dataclass, replace

from flask_babel import gettext as _
from sqlalchemy import select

from webapp import audit
from webapp.accounts.checks import checked_name
from webapp.accounts.models import User
from webapp.database import db, one_at_a_time
from webapp.errors import Conflict, InvalidInput
from webapp.pacs.checks import (
    checked_address,
    checked_ae_title,
    checked_authorization,
    checked_port,
    checked_stow_url,
    same_server,
)
from webapp.pacs.models import PacsNode, Sending
from webapp.pacs.queries import find_node
from webapp.tenancy import acting_for, unscoped

# Lock for rules about several nodes: unique names, unique titles and addresses of senders.
_NODES = "pacs nodes"


@dataclass(frozen=True)
class NodeDetails:
    """An administrator's data of a node; see :class:`webapp.pacs.models.PacsNode`."""

    name: str
    ae_title: str
    address: str
    may_send: bool = True
    sending: Sending = Sending.NEVER
    port: int | None = None
    stow_url: str = ""
    sends_by_itself: bool = False


def register_node(*, actor: User, details: NodeDetails, authorization: str = "") -> PacsNode:
    """Register a node.

    Args:
        authorization: value of the Authorization header for its DICOMweb service.

    Raises:
        InvalidInput: a value is invalid.
        Conflict: the name, or a sender's title and address, is already registered.
    """
    checked = _checked(details)
    secret = checked_authorization(authorization)
    with acting_for(actor.organisation_id):
        one_at_a_time([_NODES])
        node = PacsNode(registered_by_id=actor.id, stow_authorization=secret or None)
        _refuse_taken(checked, node_id=None, organisation_id=actor.organisation_id)
        _apply(node, checked)
        db.session.add(node)
        _record("register_node", node, actor)
        db.session.commit()
    return node


def change_node(
    *,
    actor: User,
    node_id: uuid.UUID,
    details: NodeDetails,
    authorization: str | None = None,
) -> PacsNode:
    """Change a node's data.

    Args:
        authorization: None keeps the stored header, an empty string deletes it. It is also
            deleted if the new URL is on another server, which must not get it.

    Raises:
        NotFound: there is no such node.
        InvalidInput, Conflict: as for :func:`register_node`.
    """
    checked = _checked(details)
    secret = None if authorization is None else checked_authorization(authorization)
    one_at_a_time([_NODES])
    node = find_node(node_id)
    _refuse_taken(
        checked if node.is_active else replace(checked, may_send=False),
        node_id=node.id,
        organisation_id=actor.organisation_id,
    )
    if secret is not None:
        node.stow_authorization = secret or None
    elif not same_server(node.stow_url, checked.stow_url):
        node.stow_authorization = None
    _apply(node, checked)
    _record("change_node", node, actor)
    db.session.commit()
    return node


def retire_node(*, actor: User, node_id: uuid.UUID) -> PacsNode:
    """Switch a node off: nothing is accepted from it or sent to it. Its studies stay.

    Raises:
        NotFound: there is no such node.
    """
    node = find_node(node_id)
    node.is_active = False
    audit.record("retire_node", subject=node, actor_id=actor.id)
    db.session.commit()
    return node


def reinstate_node(*, actor: User, node_id: uuid.UUID) -> PacsNode:
    """Switch a node on again.

    Raises:
        NotFound: there is no such node.
        Conflict: another node was registered with its title and address meanwhile.
    """
    one_at_a_time([_NODES])
    node = find_node(node_id)
    _refuse_taken(_details(node), node_id=node.id, organisation_id=actor.organisation_id)
    node.is_active = True
    audit.record("reinstate_node", subject=node, actor_id=actor.id)
    db.session.commit()
    return node


def _checked(details: NodeDetails) -> NodeDetails:
    checked = replace(
        details,
        name=checked_name(details.name, longest=64),
        ae_title=checked_ae_title(details.ae_title),
        address=checked_address(details.address),
        port=checked_port(details.port),
        stow_url=checked_stow_url(details.stow_url),
    )
    if checked.sending is Sending.DIMSE and checked.port is None:
        message = _("Results can be sent by C-STORE only if the port is given.")
        raise InvalidInput(message, fields={"port": message})
    if checked.sending is Sending.STOW and not checked.stow_url:
        message = _("Results can be sent by DICOMweb only if its address is given.")
        raise InvalidInput(message, fields={"stow_url": message})
    return checked


def _details(node: PacsNode) -> NodeDetails:
    return NodeDetails(
        name=node.name,
        ae_title=node.ae_title,
        address=node.address,
        may_send=node.may_send,
        sending=node.sending,
        port=node.port,
        stow_url=node.stow_url or "",
        sends_by_itself=node.sends_by_itself,
    )


def _refuse_taken(
    details: NodeDetails, *, node_id: uuid.UUID | None, organisation_id: uuid.UUID
) -> None:
    others = select(PacsNode.id, PacsNode.organisation_id).where(PacsNode.id != node_id)
    senders = others.where(
        PacsNode.ae_title == details.ae_title,
        PacsNode.address == details.address,
        PacsNode.is_active.is_(True),
        PacsNode.may_send.is_(True),
    )
    with unscoped():
        twins = db.session.execute(senders).all() if details.may_send else []
    if twins:
        _refuse(
            ae_title=_("You have already registered a sender with this AE title and address.")
            if any(owner == organisation_id for _id, owner in twins)
            # Does not reveal which organisation registered it.
            else _(
                "A sender with this AE title and address is already registered, "
                "so the portal could not tell whose studies it sends."
            )
        )
    if db.session.scalar(
        others.with_only_columns(PacsNode.id).where(PacsNode.name == details.name)
    ):
        _refuse(name=_("There is already an archive with this name."))


def _refuse(**fields: str) -> None:
    db.session.rollback()
    raise Conflict(next(iter(fields.values())), fields=fields)


def _apply(node: PacsNode, details: NodeDetails) -> None:
    node.name = details.name
    node.ae_title = details.ae_title
    node.address = details.address
    node.may_send = details.may_send
    node.sending = details.sending
    node.port = details.port
    node.stow_url = details.stow_url or None
    node.sends_by_itself = details.sends_by_itself


def _record(action: str, node: PacsNode, actor: User) -> None:
    """Audit the change, without the Authorization header."""
    audit.record(
        action,
        subject=node,
        actor_id=actor.id,
        ae_title=node.ae_title,
        host=node.address,
        port=node.port,
        may_send=node.may_send,
        sending=node.sending.value,
        stow_url=node.stow_url,
        sends_by_itself=node.sends_by_itself,
    )
