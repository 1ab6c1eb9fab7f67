"""How long a backup and its restore take, and what they hold, in one run.

Makes studies as the portal does but for the network, backs them up, and restores them into an
SQLite database; with --database-url the source is PostgreSQL, whose database is emptied first.

    .venv/bin/python -m benchmarks.backup_restore [--studies 200] [--database-url URL]
"""

import argparse
import tempfile
import time
from pathlib import Path

from flask import Flask
from sqlalchemy import create_engine, select, text

from tests.conftest import make_settings, migrate
from tests.factories import SAMPLE, make_account, make_study
from webapp import create_app
from webapp.backup.operations import Manifest, restore_backup, write_backup
from webapp.database import db
from webapp.studies.models import Prediction
from webapp.tenancy import unscoped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--database-url")
    options = parser.parse_args()
    further = {}
    if options.database_url:
        if not options.database_url.endswith("test"):
            parser.error("the database is emptied: its name must end in 'test'")
        engine = create_engine(options.database_url)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
        engine.dispose()
        further["SULCUS_DATABASE_URL"] = options.database_url
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_settings(folder / "source", **further)
        target = make_settings(folder / "target")
        migrate(source)
        migrate(target)
        app = create_app(source)
        account = make_account(app)
        for _number in range(options.studies):
            make_study(app, account, further=["glioma"] * 3)
        make_heatmaps_different(app)
        keys = folder / "keys"
        begun = time.perf_counter()
        with app.app_context():
            made = write_backup(
                folder / "backup", keys_file=keys, shown=lambda keys_of, _total: keys_of
            )
        tell("backup", made, time.perf_counter() - begun)
        begun = time.perf_counter()
        with create_app(target).app_context():
            restore_backup(folder / "backup", keys_file=keys, shown=lambda keys_of, _total: keys_of)
        tell("restore", made, time.perf_counter() - begun)


def make_heatmaps_different(app: Flask) -> None:
    """Each prediction gets a file of its own: the same content would be kept once."""
    content = SAMPLE.read_bytes()
    with app.app_context(), unscoped(), app.extensions["blobs"].batch() as kept:
        for number, prediction in enumerate(db.session.scalars(select(Prediction))):
            prediction.heatmap_key = kept.put(content + number.to_bytes(8))
        db.session.commit()


def tell(what: str, made: Manifest, seconds: float) -> None:
    rows = sum(made.rows.values())
    rates = f"{rows / seconds:,.0f} rows/s together with {made.blobs / seconds:,.0f} files/s"
    print(
        f"{what}: {rows} rows and {made.blobs} files ({made.bytes / 1e6:.0f} MB) "
        f"in {seconds:.1f} s: {rates}"
    )


if __name__ == "__main__":
    main()
