"""In which plane the figshare set's slices were cut; the set itself does not say.

Its numbering goes through the patients of one class plane by plane, so a few runs of identifiers
tell the plane of every slice. They were read off all slices that the project has, by eye; of an
identifier between two runs nothing is known.
"""

import csv
from bisect import bisect_right
from functools import cache
from pathlib import Path

_RUNS = Path(__file__).with_name("figshare_planes.csv")


def figshare_plane(identifier: str) -> str | None:
    """``axial``, ``coronal`` or ``sagittal``; None for an identifier that is not known."""
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
    """First and last identifier of each run, and its plane, in order."""
    with _RUNS.open(newline="", encoding="utf-8") as file:
        return tuple(
            (int(row["first"]), int(row["last"]), row["plane"]) for row in csv.DictReader(file)
        )
