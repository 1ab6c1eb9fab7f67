"""The command line: ``flask --app wsgi plans …``."""

from typing import IO

import click
from flask.cli import AppGroup

from webapp.accounts.queries import find_user_by_address
from webapp.commandline import told_in_one_line
from webapp.errors import NotFound
from webapp.plans import operations
from webapp.plans.holding import plan_that_holds
from webapp.plans.models import PlanVersion
from webapp.tenancy import acting_for

plans = AppGroup("plans", help="The plan of change: what may change, and what has to be passed.")
_by = click.option("--by", "email", required=True, help="E-mail of the steward who answers for it.")


@plans.command("show")
@_by
def show(email: str) -> None:
    """Print the plan that holds in the steward's organisation; its hash goes to standard error."""
    with told_in_one_line(), acting_for(find_user_by_address(email).organisation_id):
        held = plan_that_holds()
        click.echo(held.text, nl=False)
        click.echo(f"version {held.plan.version}, SHA-256 {held.sha256}", err=True)


@plans.command("propose")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@_by
@click.option("--reason", required=True, help="Why.")
def propose(file: IO[str], email: str, reason: str) -> None:
    """Propose the plan in FILE (- reads standard input)."""
    with told_in_one_line():
        actor = find_user_by_address(email)
        with acting_for(actor.organisation_id):
            row = operations.propose_plan(actor=actor, text=_text_of(file), reason=reason)
            click.echo(f"Version {row.number} is proposed. Another data steward has to confirm it.")


@plans.command("confirm")
@_by
def confirm(email: str) -> None:
    """Confirm the proposed plan: it holds from now on."""
    with told_in_one_line():
        actor = find_user_by_address(email)
        with acting_for(actor.organisation_id):
            row = operations.confirm_plan(actor=actor, plan_id=_open().id)
            click.echo(f"Version {row.plan.number} holds from now on.")


@plans.command("decline")
@_by
def decline(email: str) -> None:
    """End the proposal without letting the plan hold."""
    with told_in_one_line():
        actor = find_user_by_address(email)
        with acting_for(actor.organisation_id):
            row = operations.decline_plan(actor=actor, plan_id=_open().id)
            click.echo(f"Version {row.plan.number} is declined.")


def _open() -> PlanVersion:
    row = operations.open_proposal()
    if row is None:
        raise NotFound("No plan is waiting for a decision.")
    return row


def _text_of(file: IO[str]) -> str:
    try:
        return str(file.read())
    except UnicodeDecodeError as error:
        raise click.ClickException("The file is no text in UTF-8.") from error
