"""CSV that is safe to open in a spreadsheet: typed text is never run as a formula."""

import csv
import io
import re
from collections.abc import Iterable, Iterator

BOM = "\ufeff"  # tells spreadsheets that the file is UTF-8
# Start of a formula, also in full width and after spaces; see OWASP, "CSV Injection".
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_NUMBER = re.compile(r"-\d+(\.\d+)?")

Cell = str | int | float | None


def safe_cell(value: Cell) -> Cell:
    """The value, with a leading quote if a spreadsheet would treat it as a formula."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}" if _FORMULA.match(value) else value


def write_lines(rows: Iterable[Iterable[Cell]]) -> str:
    """The rows as CSV, with safe cells."""
    text = io.StringIO()
    csv.writer(text).writerows([safe_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def stream(header: Iterable[str], chunks: Iterable[Iterable[Iterable[Cell]]]) -> Iterator[str]:
    """A whole CSV file in pieces."""
    yield BOM + write_lines([header])
    for rows in chunks:
        yield write_lines(rows)
