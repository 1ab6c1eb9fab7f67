"""The command line: ``flask --app wsgi backup FOLDER`` and ``… restore FOLDER``."""

import sys
from collections.abc import Iterable
from pathlib import Path

import click
from flask.cli import with_appcontext
from tqdm import tqdm

from webapp.backup.operations import restore_backup, write_backup
from webapp.commandline import told_in_one_line

_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.command("backup")
@_folder
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the installation's keys to this file; keep it apart from the backup.",
)
@with_appcontext
def backup(folder: Path, keys_file: Path | None) -> None:
    """Write rows and files of this installation into a new FOLDER, while it runs."""
    with told_in_one_line():
        made = write_backup(folder, keys_file=keys_file, shown=_bar)
    rows = sum(made.rows.values())
    click.echo(f"{rows} rows and {made.blobs} files ({made.bytes / 1e6:.0f} MB) are in {folder}.")
    if made.missing:
        listed = ", ".join(made.missing[:10])
        raise click.ClickException(
            f"{len(made.missing)} files that rows name are missing or damaged: {listed}"
        )


@click.command("restore")
@_folder
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The file with the keys that `backup --keys` wrote.",
)
@with_appcontext
def restore(folder: Path, keys_file: Path | None) -> None:
    """Restore a backup from FOLDER into this installation, which has to be empty."""
    with told_in_one_line():
        made = restore_backup(folder, keys_file=keys_file, shown=_bar)
    click.echo(f"The backup of {made.made_at} is restored: {sum(made.rows.values())} rows.")
    click.echo("Start all processes anew: they read the keys when they start.")


def _bar(keys: Iterable[str], total: int) -> Iterable[str]:
    return tqdm(keys, total=total, unit="file", disable=None, file=sys.stderr)
