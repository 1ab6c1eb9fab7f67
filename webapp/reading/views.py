"""Pages of the reading room: the queue, the way through it, and what became of assessments."""

import uuid
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webapp.accounts.access import actor
from webapp.errors import InvalidInput
from webapp.reading.outcomes import outcomes_page
from webapp.reading.progress import progress_of
from webapp.reading.queue import queue_of
from webapp.reading.room import listed, next_after
from webapp.studies.models import Image
from webapp.studies.paging import Cursor
from webapp.studies.queries import find_image

blueprint = Blueprint("reading", __name__, url_prefix="/reading")

SHOWN = 50
"""Entries of the queue on its page."""


@blueprint.get("")
def index() -> ResponseReturnValue:
    """The reader's queue, and how much has been read."""
    reader = actor()
    queue = queue_of(reader)
    return render_template(
        "reading/queue.html",
        entries=listed(reader, queue.entries[:SHOWN]),
        total=len(queue.entries),
        is_cut=queue.is_cut,
        progress=progress_of(reader),
    )


@blueprint.get("/<uuid:image_id>")
def entry(image_id: uuid.UUID) -> ResponseReturnValue:
    """A slice of the queue, on the page of its study."""
    return _to(find_image(image_id), came_from=request.args.get("from", type=uuid.UUID))


@blueprint.get("/next")
def go_on() -> ResponseReturnValue:
    """From one slice of the queue to the next one."""
    after = request.args.get("after", type=uuid.UUID)
    found = next_after(actor(), after)
    if found is None:
        flash(_("There is nothing left to read in your queue."), "info")
        return redirect(url_for("reading.index"))
    return _to(found, came_from=after)


@blueprint.get("/mine")
def mine() -> ResponseReturnValue:
    """What became of each of the reader's assessments, newest first."""
    page = outcomes_page(actor(), after=_cursor())
    return render_template("reading/mine.html", page=page)


def _to(image: Image, *, came_from: uuid.UUID | None) -> ResponseReturnValue:
    place: dict[str, Any] = {"image": image.position, "reading": image.id, "from": came_from}
    return redirect(url_for("worklist.show", study_id=image.study_id, **place))


def _cursor() -> Cursor | None:
    """An invalid cursor means the first page."""
    text = request.args.get("before")
    try:
        return Cursor.parse(text) if text else None
    except InvalidInput:
        return None
