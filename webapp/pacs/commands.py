"""The command line: ``flask --app wsgi pacs nodes …``."""

import sys

import click
from flask.cli import AppGroup

from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.commandline import told_in_one_line
from webapp.errors import NotAllowed
from webapp.pacs import operations, queries
from webapp.pacs.models import Sending
from webapp.pacs.operations import NodeDetails
from webapp.tenancy import unscoped

pacs = AppGroup("pacs", help="Picture archives.")
nodes = AppGroup("nodes", help="The archives that studies come from and results go to.")
pacs.add_command(nodes)


@nodes.command("add")
@click.argument("name")
@click.option(
    "--by", "email", required=True, help="E-mail of the administrator who answers for it."
)
@click.option("--ae-title", required=True, help="Its application entity title.")
@click.option("--address", required=True, help="Its host name or IP address.")
@click.option("--may-send/--may-not-send", default=True, show_default=True)
@click.option(
    "--sending",
    type=click.Choice([each.value for each in Sending]),
    default=Sending.NEVER.value,
    show_default=True,
    help="How results go to it.",
)
@click.option("--port", type=int, help="Where it listens for DICOM.")
@click.option("--stow-url", default="", help="Base address of its DICOMweb service.")
@click.option(
    "--authorization-stdin",
    is_flag=True,
    help="Read the Authorization header for DICOMweb from standard input, one line.",
)
@click.option("--sends-by-itself", is_flag=True, help="Send it each finished study.")
def add_node(
    name: str,
    email: str,
    ae_title: str,
    address: str,
    sending: str,
    port: int | None,
    stow_url: str,
    *,
    may_send: bool,
    authorization_stdin: bool,
    sends_by_itself: bool,
) -> None:
    """Register a node called NAME for the organisation of the administrator."""
    details = NodeDetails(
        name=name,
        ae_title=ae_title,
        address=address,
        may_send=may_send,
        sending=Sending(sending),
        port=port,
        stow_url=stow_url,
        sends_by_itself=sends_by_itself,
    )
    with told_in_one_line():
        actor = find_user_by_address(email)
        if not actor.may(Role.ADMIN):
            raise NotAllowed("Only an administrator can answer for a node.")
        authorization = sys.stdin.readline().rstrip("\r\n") if authorization_stdin else ""
        node = operations.register_node(actor=actor, details=details, authorization=authorization)
        click.echo(f"{node.name} ({node.ae_title} at {node.address}) is registered.")


@nodes.command("list")
def list_nodes() -> None:
    """List all nodes: name, title, address, port, may send or not, how results go, state."""
    with told_in_one_line(), unscoped():
        for node in queries.list_nodes():
            click.echo(
                "\t".join(
                    [
                        node.name,
                        node.ae_title,
                        node.address,
                        str(node.port or ""),
                        "sends" if node.may_send else "does not send",
                        node.sending.value,
                        "active" if node.is_active else "switched off",
                    ]
                )
            )
