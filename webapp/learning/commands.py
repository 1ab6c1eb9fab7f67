"""The command line: ``flask --app wsgi snapshots …``."""

import uuid
from pathlib import Path

import click
from flask.cli import AppGroup

from ml.errors import InvalidManifest
from webapp.commandline import told_in_one_line
from webapp.learning.export import archive, write_folder
from webapp.learning.operations import create_snapshot, record_download
from webapp.learning.queries import list_snapshots
from webapp.review.commands import organisation_called
from webapp.storage import MissingBlob
from webapp.tenancy import acting_for

snapshots = AppGroup("snapshots", help="What readers agreed about, frozen for training.")
_organisation = click.option("--organisation", help="By name; not needed where there is one alone.")


@snapshots.command("create")
@click.argument("name")
@_organisation
def create(name: str, organisation: str | None) -> None:
    """Freeze every slice whose label readers agreed on; prints the snapshot's id."""
    with told_in_one_line(), acting_for(organisation_called(organisation).id):
        row = create_snapshot(actor=None, name=name)
        counts, left_out = row.counts, row.left_out
        click.echo(row.id)
        click.echo(f"{counts['slices']} slices of {counts['groups']} patients.", err=True)
        if row.out_of_scope:
            click.echo(f"{row.out_of_scope} slices of none of the classes.", err=True)
        for reason, number in sorted(left_out.items()):
            click.echo(f"left out: {number} ({reason.replace('_', ' ')})", err=True)


@snapshots.command("list")
@_organisation
def show(organisation: str | None) -> None:
    """List snapshots: id, moment, slices, patients, name, slices of none of the classes."""
    with told_in_one_line(), acting_for(organisation_called(organisation).id):
        for row in list_snapshots():
            moment = row.created_at.isoformat(timespec="seconds")
            counts = [str(row.counts["slices"]), str(row.counts["groups"])]
            others = str(row.out_of_scope)
            click.echo("\t".join([str(row.id), moment, *counts, row.name, others]))


@snapshots.command("export")
@click.argument("snapshot_id", type=click.UUID)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder that is not there yet, or a file that ends with .zip.",
)
@_organisation
def export(snapshot_id: uuid.UUID, out: Path, organisation: str | None) -> None:
    """Write a snapshot to a folder that `python -m ml` reads, or to a ZIP of it."""
    try:
        with told_in_one_line(), acting_for(organisation_called(organisation).id):
            row = record_download(actor=None, snapshot_id=snapshot_id)
            if out.suffix == ".zip":
                with archive(row) as file:
                    out.write_bytes(file.read())
            else:
                write_folder(row, out)
    except (MissingBlob, InvalidManifest) as error:
        raise click.ClickException(f"The snapshot is damaged: {error}") from error
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror or error}") from error
    click.echo(f"The snapshot is in {out}.")
