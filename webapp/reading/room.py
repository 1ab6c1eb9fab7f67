"""A reader at one slice of the queue: where it stands, what comes next, and whether it is blind."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from webapp.accounts.models import User
from webapp.database import db
from webapp.errors import NotFound
from webapp.inference.telling import Reason
from webapp.reading.queue import Entry, Place, Queue, places_of, queue_of
from webapp.review.blind_readings import unseen_studies
from webapp.studies.models import Image, Study
from webapp.studies.queries import find_image
from webapp.studies.sight import begin_blind, blind_slice


@dataclass(frozen=True)
class Room:
    """What the study's page shows of the reading room.

    Attributes:
        image: the slice that is to be read.
        number: its place in the queue, from 1; None if it is not in the queue (any more).
        total: number of entries.
        is_cut: there are more than ``total``.
        reasons: why it is asked for; the page does not show them while it is read blind.
        previous_id, next_id: the slices before and after it; None at the ends.
        is_blind: nothing of the model is shown yet.
    """

    image: Image
    number: int | None
    total: int
    is_cut: bool
    reasons: Sequence[Reason]
    previous_id: uuid.UUID | None
    next_id: uuid.UUID | None
    is_blind: bool


@dataclass(frozen=True)
class ListedEntry:
    """A line of the queue; reasons of those that are read blind are kept for later."""

    entry: Entry
    place: Place
    is_blind: bool


def enter(reader: User, study: Study, image_id: uuid.UUID, *, came_from: uuid.UUID | None) -> Room:
    """Take a reader to a slice of a study, and begin to read it blind where that is due.

    Args:
        came_from: the slice that was read before: the way back.

    Raises:
        NotFound: the study has no such slice.
    """
    image = db.session.scalar(select(Image).where(Image.id == image_id, Image.study_id == study.id))
    if image is None:
        raise NotFound("no such slice in this study")
    queue = queue_of(reader, including=image.id)
    place = queue.place_of(image.id)
    is_blind = blind_slice(reader.id, study.id) == image.id
    if not is_blind and place is not None and blind_entries(reader, [queue.entries[place]]):
        begin_blind(reader_id=reader.id, study_id=study.id, image_id=image.id)
        is_blind = True
    before, after = _neighbours(queue, place)
    return Room(
        image=image,
        number=None if place is None else place + 1,
        total=len(queue.entries),
        is_cut=queue.is_cut,
        reasons=[] if place is None else queue.entries[place].reasons,
        previous_id=came_from or before,
        next_id=after,
        is_blind=is_blind,
    )


def next_after(reader: User, image_id: uuid.UUID | None) -> Image | None:
    """The slice that comes after another one in the queue, or else the first; None if none is."""
    queue = queue_of(reader, including=image_id)
    place = None if image_id is None else queue.place_of(image_id)
    _before, after = _neighbours(queue, place)
    if after is None:
        after = next((one.image_id for one in queue.entries if one.image_id != image_id), None)
    return None if after is None else find_image(after)


def listed(reader: User, entries: Sequence[Entry]) -> list[ListedEntry]:
    """Lines of the queue, with where each slice is."""
    places, blind = places_of(entries), blind_entries(reader, entries)
    return [
        ListedEntry(one, places[one.image_id], one.image_id in blind)
        for one in entries
        if one.image_id in places
    ]


def blind_entries(reader: User, entries: Sequence[Entry]) -> set[uuid.UUID]:
    """Those that the reader reads before the model's answer is shown.

    Chance decides, by reader and slice, so that it is the same on every request; and only studies
    of which the portal has not shown the reader the model's answer.
    """
    share = reader.organisation.blind_share
    chosen = [one for one in entries if is_chosen(reader.id, one.image_id, share)]
    unseen = unseen_studies(reader.id, [one.study_id for one in chosen])
    return {one.image_id for one in chosen if one.study_id in unseen}


def is_chosen(reader_id: uuid.UUID, image_id: uuid.UUID, share: int) -> bool:
    """Whether a slice is one of ``share`` percent of a reader's slices."""
    digest = hashlib.sha256(f"blind:{reader_id}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < share / 100 * 2**32


def _neighbours(queue: Queue, place: int | None) -> tuple[uuid.UUID | None, uuid.UUID | None]:
    entries = queue.entries
    if place is None:
        return None, entries[0].image_id if entries else None
    before = entries[place - 1].image_id if place else None
    after = entries[place + 1].image_id if place + 1 < len(entries) else None
    return before, after
