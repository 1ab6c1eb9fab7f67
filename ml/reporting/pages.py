"""Write both pages about a model, and the picture of its mistakes."""

import os
from pathlib import Path

from ml.dataset import Entry
from ml.evaluation.evaluation import observe
from ml.reporting.model_card import failure_gallery, write_tables
from ml.reporting.model_page import write_page
from ml.serving.predictor import Predictor


def write_pages(
    predictor: Predictor,
    measured: list[Entry],
    *,
    page: Path,
    tables: Path,
    gallery: Path,
    command: str,
) -> None:
    """Write the page for clinicians, the page with all tables and a picture of mistakes, if any.

    Args:
        measured: the part that the model was measured on.
        command: the command line that made them.
    """
    picture = failure_gallery(observe(predictor, measured))
    shown = None
    if picture is not None:
        gallery.write_bytes(picture)
        shown = _seen_from(tables, gallery)
    write_tables(predictor.card, tables, gallery=shown, command=command)
    write_page(predictor.card, page, tables=_seen_from(page, tables), command=command)


def _seen_from(page: Path, other: Path) -> str:
    """The path of the other file, relative to the page."""
    return Path(os.path.relpath(other, page.parent)).as_posix()
