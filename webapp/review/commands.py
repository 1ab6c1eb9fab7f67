"""The command line: ``flask --app wsgi feedback …``."""

from pathlib import Path

import click
from flask.cli import AppGroup
from sqlalchemy import select
from tqdm import tqdm

from webapp.accounts.models import Organisation
from webapp.commandline import told_in_one_line
from webapp.database import db
from webapp.review.export import Exported, export_feedback
from webapp.review.queries import count_current_assessments
from webapp.tenancy import acting_for

feedback = AppGroup("feedback", help="Assessments of readers.")


@feedback.command("export")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The ZIP to write.",
)
@click.option("--organisation", help="By name; not needed where there is one alone.")
def export(out: Path, organisation: str | None) -> None:
    """Write the current assessments of an organisation, with their images, to a ZIP."""
    try:
        with told_in_one_line(), acting_for(organisation_called(organisation).id):
            exported = _write(out)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror}") from error
    click.echo(
        f"{exported.assessments} assessments with {exported.images} images are in {out}: "
        f"{exported.studies} of studies as a whole, {exported.others} of other diseases."
    )
    if exported.skipped:
        click.echo(
            f"{exported.skipped} assessments were left out: their images are gone.", err=True
        )


def _write(out: Path) -> Exported:
    """Write to a temporary name first, so that an interrupted run leaves no partial file."""
    partial = out.with_name(f"{out.name}.partial")
    try:
        with (
            partial.open("wb") as file,
            tqdm(
                total=count_current_assessments(), desc="exporting", unit="assessment", disable=None
            ) as bar,
        ):
            exported = export_feedback(file, actor_id=None, on_answer=bar.update)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return exported


def organisation_called(name: str | None) -> Organisation:
    """The organisation of that name, or the only one there is.

    Raises:
        UsageError, ClickException: there are several, or none of that name.
    """
    found = db.session.scalars(select(Organisation).order_by(Organisation.name)).all()
    if name is None:
        if len(found) != 1:
            names = ", ".join(organisation.name for organisation in found) or "none yet"
            raise click.UsageError(f"Choose one with --organisation: {names}.")
        return found[0]
    for organisation in found:
        if organisation.name == name:
            return organisation
    raise click.ClickException(f"There is no organisation called {name}.")
