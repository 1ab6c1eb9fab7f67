"""The command line: ``flask --app wsgi models shadow|stop-shadow|evidence|verify``."""

from pathlib import Path

import click

from webapp.accounts.queries import find_user_by_address
from webapp.commandline import told_in_one_line
from webapp.models_admin.commands import candidate_named, models
from webapp.rollout.evidence import as_bytes, export_evidence, is_genuine
from webapp.rollout.shadowing import start_shadow, stop_shadow
from webapp.tenancy import acting_for

_by = click.option("--by", "email", required=True, help="E-mail of the steward who answers for it.")


@models.command("shadow")
@click.argument("model")
@_by
@click.option("--share", type=int, default=100, show_default=True, help="Per cent of new studies.")
@click.option("--most", type=int, default=200, show_default=True, help="Studies at most.")
def shadow(model: str, email: str, share: int, most: int) -> None:
    """Let the candidate MODEL (its id or name) answer new studies as well, unseen."""
    with told_in_one_line():
        actor = find_user_by_address(email)
        with acting_for(actor.organisation_id):
            candidate_id = candidate_named(model).id
            start_shadow(actor=actor, candidate_id=candidate_id, share=share, most=most)
        click.echo("The shadow has started.")


@models.command("stop-shadow")
@click.argument("model")
@_by
def stop(model: str, email: str) -> None:
    """Give the candidate MODEL no further studies."""
    with told_in_one_line():
        actor = find_user_by_address(email)
        with acting_for(actor.organisation_id):
            stop_shadow(actor=actor, candidate_id=candidate_named(model).id)
        click.echo("The shadow has been stopped.")


@models.command("evidence")
@click.argument("model")
@_by
def evidence(model: str, email: str) -> None:
    """Print everything about the candidate MODEL as signed JSON."""
    with told_in_one_line():
        actor = find_user_by_address(email)
        with acting_for(actor.organisation_id):
            candidate_id = candidate_named(model).id
            found = export_evidence(actor=actor, candidate_id=candidate_id, kind="command line")
        click.echo(as_bytes(found).decode())


@models.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def verify(file: Path) -> None:
    """Check that evidence in FILE was signed here and is unchanged."""
    if not is_genuine(file.read_bytes()):
        raise click.ClickException("This installation has not signed the file as it is.")
    click.echo("The signature is valid.")
