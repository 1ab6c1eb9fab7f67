"""Upload a hundred slices of one study in separate requests at the same time.

Starts the whole product with several web processes, by default on SQLite. Prints the count of each
HTTP status and whether every slice is present exactly once. The exit code is 1 if one is not, or
if an answer was a server error. A PostgreSQL database has to be empty.

    .venv/bin/python -m benchmarks.uploads_at_once [--uploads 100] [--processes 3] \\
        [--database-url postgresql+psycopg://USER@HOST/DATABASE]
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from benchmarks.product import product, signed_in, submit, wait_until_done
from tests.at_once import slices_at_once
from tests.dicoms import axial_series


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=100)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--database-url", help="SULCUS_DATABASE_URL; by default SQLite")
    options = parser.parse_args()
    os.environ["SULCUS_WEB_WORKERS"] = str(options.processes)
    if options.database_url:
        os.environ["SULCUS_DATABASE_URL"] = options.database_url
    with (
        tempfile.TemporaryDirectory(prefix="sulcus-bench-") as folder,
        product(Path(folder)) as address,
    ):
        good = measure(signed_in(Path(folder)), address, options.uploads)
    sys.exit(not good)


def measure(session: requests.Session, address: str, uploads: int) -> bool:
    """Upload, print the figures and return whether all checks pass."""
    first = submit(session, address, axial_series(1))  # waits until the model is loaded
    wait_until_done(session, address, first, pause=0.05)
    token = str(session.headers["Authorization"]).removeprefix("Bearer ")
    started = time.perf_counter()
    statuses = slices_at_once(address, token, uploads)
    print(f"{'all are answered after':36s} {time.perf_counter() - started:7.2f} s")
    found = session.get(f"{address}/api/v1/studies", timeout=60).json()["items"]
    made = [study["id"] for study in found if study["id"] != first]
    for study in made:
        wait_until_done(session, address, study, pause=0.25)
    print(f"{'the study is done after':36s} {time.perf_counter() - started:7.2f} s")
    studies = [session.get(f"{address}/api/v1/studies/{one}", timeout=60).json() for one in made]
    whole = len(studies) == 1 and is_whole(studies[0], uploads)
    print(f"{'uploads by status':36s} {dict(statuses)}")
    print(f"{'studies':36s} {len(studies):7d}")
    print(f"{'slices':36s} {sum(len(study['images']) for study in studies):7d}")
    print(f"{'every slice is there once':36s} {'yes' if whole else 'no':>7s}")
    return whole and set(statuses) == {202}


def is_whole(study: dict[str, Any], slices: int) -> bool:
    """Whether the study is one gapless volume of ``slices`` slices, each with a prediction."""
    (series,) = study["series"]
    positions = [image["position"] for image in study["images"] if image["prediction"]]
    no_gap: bool = series["is_volume"] and not series["missing"] and not series["duplicates"]
    return no_gap and positions == list(range(slices))


if __name__ == "__main__":
    main()
