"""The command line: ``flask --app wsgi models …``."""

from pathlib import Path

import click
from flask.cli import AppGroup

from ml.errors import InvalidModel
from ml.model_files import find_model_files
from webapp.accounts.queries import find_user_by_address
from webapp.commandline import told_in_one_line
from webapp.errors import NotFound
from webapp.models_admin import operations, queries
from webapp.models_admin.models import Candidate
from webapp.models_admin.serving import overview
from webapp.tenancy import acting_for

models = AppGroup("models", help="Which model serves an organisation, and candidates.")
_by = click.option("--by", "email", required=True, help="E-mail of the steward who answers for it.")
_reason = click.option("--reason", required=True, help="Why.")


@models.command("list")
@_by
def list_models(email: str) -> None:
    """List the candidates of the steward's organisation, and which model serves."""
    with told_in_one_line(), acting_for(find_user_by_address(email).organisation_id):
        found = overview()
        state = "switched off" if found.is_off else "serves"
        click.echo(f"{found.name}\t{state}")
        for one in queries.candidates():
            run = one.last_run
            click.echo(
                "\t".join(
                    [
                        str(one.id),
                        one.model_version.name,
                        run.status.value if run else "untested",
                        "proposed" if one.open_proposal else "",
                    ]
                ).rstrip()
            )


@models.command("register")
@click.argument("card", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_by
def register(card: Path, email: str) -> None:
    """Register the model with this CARD as a candidate; its gates are run by the worker."""
    with told_in_one_line():
        try:
            actor = find_user_by_address(email)
            candidate = operations.register_candidate(actor=actor, files=find_model_files(card))
        except InvalidModel as error:
            raise click.ClickException(str(error)) from error
        click.echo(str(candidate.id))


@models.command("propose")
@click.argument("model")
@_by
@_reason
@click.option("--share", type=int, help="Per cent of new studies, on trial; all without it.")
def propose(model: str, email: str, reason: str, share: int | None) -> None:
    """Propose that the candidate MODEL (its id or name) serves."""
    with told_in_one_line():
        actor = find_user_by_address(email)
        with acting_for(actor.organisation_id):
            operations.propose_model(
                actor=actor, candidate_id=candidate_named(model).id, reason=reason, share=share
            )
        click.echo("Proposed. Another data steward has to confirm it.")


@models.command("confirm")
@click.argument("model")
@_by
def confirm(model: str, email: str) -> None:
    """Confirm the proposal about MODEL: it serves from the next analysis on."""
    with told_in_one_line():
        actor = find_user_by_address(email)
        with acting_for(actor.organisation_id):
            row = operations.confirm_model(actor=actor, candidate_id=candidate_named(model).id)
            on_trial = row.share is not None
        click.echo("It is on trial from now on." if on_trial else "It serves from now on.")


@models.command("rollback")
@_by
@_reason
def rollback(email: str, reason: str) -> None:
    """Let the model that served before serve again."""
    with told_in_one_line():
        actor = find_user_by_address(email)
        with acting_for(actor.organisation_id):
            operations.roll_back(actor=actor, reason=reason)
            click.echo(f"{overview().name} serves again.")


def candidate_named(model: str) -> Candidate:
    """The candidate of the organisation acted for with this id or name; raises NotFound."""
    found = [one for one in queries.candidates() if model in {str(one.id), one.model_version.name}]
    if not found:
        raise NotFound(f"There is no candidate {model}.")
    return found[0]
