"""CSV that a spreadsheet opens without harm: nothing that people typed is run as a formula."""

import csv
import io
import re
from collections.abc import Iterable, Iterator

BOM = "\ufeff"  # tells spreadsheets that the file is UTF-8
# What starts a formula, also in full width and behind blanks; see OWASP, "CSV Injection".
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_NUMBER = re.compile(r"-\d+(\.\d+)?")

Cell = str | int | float | None


def safe_cell(value: Cell) -> Cell:
    """The value itself, with a quote in front where a spreadsheet would calculate it."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}" if _FORMULA.match(value) else value


def write_lines(rows: Iterable[Iterable[Cell]]) -> str:
    """The rows as lines of CSV, every cell made safe."""
    text = io.StringIO()
    csv.writer(text).writerows([safe_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def stream(header: Iterable[str], chunks: Iterable[Iterable[Iterable[Cell]]]) -> Iterator[str]:
    """A whole file, piece by piece."""
    yield BOM + write_lines([header])
    for rows in chunks:
        yield write_lines(rows)
