"""The planes of the figshare set's slices, which the set itself does not contain.

The set numbers the patients of each class plane by plane, so a few ranges of identifiers give the
plane of every slice. They were determined by eye from all slices of the project. The plane of an
identifier between two ranges is unknown.
"""

import csv
from bisect import bisect_right
from functools import cache
from pathlib import Path

_RUNS = Path(__file__).with_name("figshare_planes.csv")


def figshare_plane(identifier: str) -> str | None:
    """``axial``, ``coronal`` or ``sagittal``; None for an unknown identifier."""
    runs = _runs()
    if not identifier.isdecimal():
        return None
    number = int(identifier)
    place = bisect_right(runs, number, key=lambda run: run[0]) - 1
    if place < 0 or number > runs[place][1]:
        return None
    return runs[place][2]


@cache
def _runs() -> tuple[tuple[int, int, str], ...]:
    """First and last identifier of each range, and its plane, in order."""
    with _RUNS.open(newline="", encoding="utf-8") as file:
        return tuple(
            (int(row["first"]), int(row["last"]), row["plane"]) for row in csv.DictReader(file)
        )
