"""Recognise content that is already stored, by its hash and never by an identifier alone."""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TypeVar

from sqlalchemy import select

from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, FileFacts, inspect, open_bytes
from webapp.database import db
from webapp.extensions import blob_to_read
from webapp.intake.arrival import Arrival
from webapp.storage import Keeper, MissingBlob
from webapp.studies.models import Image, Instance, Study

Item = TypeVar("Item")
_AT_ONCE = 500  # parameters of one statement


class Known(StrEnum):
    """What to do with content that the organisation already has."""

    NEW = "new"  # analyse it as a new study
    REUSE = "reuse"  # return the earlier study if it contains everything
    ADD = "add"  # add to the earlier study what it lacks
    ASK = "ask"  # refuse until the user has chosen


@dataclass(frozen=True)
class KnownStudy:
    """An earlier study that contains some of the content.

    Attributes:
        members: indices of the arrivals that it contains.
    """

    study: Study
    members: frozenset[int]


def known_content(arrivals: Sequence[Arrival]) -> list[KnownStudy]:
    """The studies that contain any of this content, best match first, then newest."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, arrival in enumerate(arrivals):
        numbers[arrival.blob_key].append(number)
        if arrival.dicom is not None:
            numbers[arrival.dicom.pixels_key].append(number)
    held: dict[uuid.UUID, set[int]] = defaultdict(set)
    for study_id, key in _holders(numbers):
        held[study_id].update(numbers[key])
    studies = {
        study.id: study
        for some in _chunks(held)
        for study in db.session.scalars(select(Study).where(Study.id.in_(some)))
    }
    found = [KnownStudy(studies[study_id], frozenset(held[study_id])) for study_id in studies]
    return sorted(found, key=lambda one: (-len(one.members), -one.study.created_at.timestamp()))


def shows_the_same(instance: Instance, arrival: Arrival, blobs: Keeper) -> bool:
    """Whether a stored DICOM instance and a new file with its UID show the same picture.

    The same pixels can have other bytes after lossless compression by an archive: then both are
    decoded. Equal pixels at another position are another picture, since the empty slices at
    both ends of a head are equal.
    """
    if instance.blob_key == arrival.blob_key:
        return True
    pixels_key = arrival.dicom.pixels_key if arrival.dicom else None
    if instance.pixels_key != pixels_key and not same_picture(
        instance.blob_key, arrival.blob_key, blobs
    ):
        return False
    try:
        with blob_to_read(instance.blob_key, blobs) as content:
            return same_places(inspect(content, NO_LIMITS), arrival.facts)
    except (UnreadableImage, MissingBlob):
        return False


def same_places(one: FileFacts, other: FileFacts) -> bool:
    """Whether two files show the same positions, if they have any.

    Nothing else is compared: files stored earlier may lack header attributes that are now kept.
    """
    return [frame.geometry for frame in one.frames] == [frame.geometry for frame in other.frames]


def same_picture(one: str, other: str, blobs: Keeper) -> bool:
    """Whether two stored files decode to the same pixels."""
    try:
        return _slices_of(one, blobs) == _slices_of(other, blobs)
    except (UnreadableImage, MissingBlob):
        return False


def _slices_of(key: str, blobs: Keeper) -> list[tuple[tuple[int, ...], bytes]]:
    """Size and SHA-256 of each slice of a stored file, decoded one at a time."""
    with blob_to_read(key, blobs) as content:
        return [
            (one.pixels.shape, hashlib.sha256(one.pixels.astype("<u2").tobytes()).digest())
            for one in open_bytes(content, NO_LIMITS)
        ]


def _holders(keys: Iterable[str]) -> Iterator[tuple[uuid.UUID, str]]:
    """(study id, content key) for each study that contains one of the keys."""
    for some in _chunks(keys):
        for held, key in (
            (Image.study_id, Image.blob_key),
            (Image.study_id, Image.source_key),
            (Instance.study_id, Instance.pixels_key),
        ):
            rows = db.session.execute(select(held, key).where(key.in_(some), held.is_not(None)))
            for study_id, value in rows:
                if study_id is not None and value is not None:
                    yield study_id, value


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while some := list(islice(iterator, _AT_ONCE)):
        yield some
