"""Administrators' pages for the archives with which the organisation exchanges studies."""

import uuid

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.database import db
from webapp.errors import Conflict, InvalidInput
from webapp.extensions import current_settings, limiter
from webapp.pacs import operations, queries
from webapp.pacs.echo import Echo, verify
from webapp.pacs.forms import SENDINGS, NodeForm
from webapp.pacs.models import PacsNode

blueprint = Blueprint("pacs", __name__)

_ECHOES: dict[Echo, tuple[str, LazyString]] = {
    Echo.ANSWERED: ("success", _l("%(node)s responds and recognises the portal.")),
    Echo.NO_PORT: ("error", _l("Enter the DICOM port of %(node)s first.")),
    Echo.UNREACHABLE: ("error", _l("%(node)s does not respond at its address and port.")),
    Echo.REJECTED: (
        "error",
        _l("%(node)s refuses the connection. It must know the portal's AE title and address."),
    ),
    Echo.NO_ECHO: ("error", _l("%(node)s responds, but not to C-ECHO.")),
}


@blueprint.get("/admin/archives")
@requires(Role.ADMIN)
def nodes() -> ResponseReturnValue:
    """The organisation's archives, and a form to add one."""
    return _nodes_page(NodeForm(formdata=None))


@blueprint.post("/admin/archives")
@requires(Role.ADMIN)
def add_node() -> ResponseReturnValue:
    """Add an archive."""
    form = NodeForm()
    if form.validate_on_submit():
        try:
            node = operations.register_node(
                actor=actor(), details=form.details(), authorization=form.authorization() or ""
            )
        except (InvalidInput, Conflict) as error:
            db.session.rollback()
            form.show(error)
        else:
            flash(_("%(node)s has been registered.", node=node.name), "success")
            return redirect(url_for("pacs.nodes"))
    return _nodes_page(form)


@blueprint.get("/admin/archives/<uuid:node_id>")
@requires(Role.ADMIN)
def show_node(node_id: uuid.UUID) -> ResponseReturnValue:
    """Show one archive with a form to change it."""
    node = queries.find_node(node_id)
    return _node_page(node, NodeForm.of(node))


@blueprint.post("/admin/archives/<uuid:node_id>")
@requires(Role.ADMIN)
def change_node(node_id: uuid.UUID) -> ResponseReturnValue:
    """Change an archive."""
    form = NodeForm()
    if form.validate_on_submit():
        try:
            node = operations.change_node(
                actor=actor(),
                node_id=node_id,
                details=form.details(),
                authorization=form.authorization(),
            )
        except (InvalidInput, Conflict) as error:
            db.session.rollback()
            form.show(error)
        else:
            flash(_("The changes to %(name)s have been saved.", name=node.name), "success")
            return redirect(url_for("pacs.nodes"))
    return _node_page(queries.find_node(node_id), form)


@blueprint.post("/admin/archives/<uuid:node_id>/retire")
@requires(Role.ADMIN)
def retire_node(node_id: uuid.UUID) -> ResponseReturnValue:
    """Switch an archive off."""
    node = operations.retire_node(actor=actor(), node_id=node_id)
    flash(_("%(node)s has been switched off.", node=node.name), "success")
    return redirect(url_for("pacs.nodes"))


@blueprint.post("/admin/archives/<uuid:node_id>/reinstate")
@requires(Role.ADMIN)
def reinstate_node(node_id: uuid.UUID) -> ResponseReturnValue:
    """Switch an archive on again."""
    try:
        node = operations.reinstate_node(actor=actor(), node_id=node_id)
    except Conflict as error:
        flash(error.message, "error")
    else:
        flash(_("%(node)s has been switched on again.", node=node.name), "success")
    return redirect(url_for("pacs.nodes"))


@blueprint.post("/admin/archives/<uuid:node_id>/verify")
@requires(Role.ADMIN)
@limiter.limit("20/minute")
def verify_node(node_id: uuid.UUID) -> ResponseReturnValue:
    """Send a C-ECHO to an archive and show the outcome."""
    node = queries.find_node(node_id)
    # Keep no transaction open while the other side responds.
    db.session.expunge(node)
    db.session.rollback()
    category, sentence = _ECHOES[verify(node)]
    flash(str(sentence) % {"node": node.name}, category)
    return redirect(url_for("pacs.nodes"))


def _nodes_page(form: NodeForm) -> ResponseReturnValue:
    page = render_template(
        "pacs/nodes.html",
        nodes=queries.list_nodes(),
        form=form,
        sendings=SENDINGS,
        settings=current_settings(),
    )
    return page, 422 if form.errors else 200


def _node_page(node: PacsNode, form: NodeForm) -> ResponseReturnValue:
    page = render_template("pacs/node.html", node=node, form=form)
    return page, 422 if form.errors else 200
