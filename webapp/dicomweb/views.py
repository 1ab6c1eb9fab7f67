"""The endpoints of the DICOMweb service."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from itertools import chain
from typing import Any, BinaryIO, TypeVar

from flask import Blueprint, Response, current_app, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.exceptions import UnsupportedMediaType

from ml.errors import UnreadableImage
from webapp.accelerated import handed_to_proxy
from webapp.accounts.access import actor
from webapp.dicomweb import media, retrieving, searching
from webapp.dicomweb.criteria import Query, parse_query
from webapp.dicomweb.headers import header_in
from webapp.dicomweb.multipart import new_boundary, read_parts, written_parts
from webapp.dicomweb.searching import Found
from webapp.dicomweb.storing import store
from webapp.errors import NotFound
from webapp.extensions import blob_to_read, current_blobs, current_room, current_settings
from webapp.storage import BlobStore, MissingBlob
from webapp.studies.models import Instance
from webapp.uploads import Spool, takes_files

Item = TypeVar("Item")
blueprint = Blueprint("dicomweb", __name__, url_prefix="/dicomweb")

_STUDY = "/studies/<uid:study_uid>"
_SERIES = _STUDY + "/series/<uid:series_uid>"
_INSTANCE = _SERIES + "/instances/<uid:uid>"
_PICTURES = ("image/jpeg", "image/png")


@blueprint.after_request
def say_how_to_sign_in(response: Response) -> Response:
    """Offer bearer tokens, and basic authentication for archives that support nothing else."""
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="Sulcus", Bearer'
    return response


@blueprint.errorhandler(MissingBlob)
@blueprint.errorhandler(UnreadableImage)
def unreadable(_error: MissingBlob | UnreadableImage) -> ResponseReturnValue:
    """Answer 404 for a stored file that is missing or damaged."""
    raise NotFound(_("The stored image can no longer be read."))


# STOW-RS


@blueprint.post("/studies")
@blueprint.post(_STUDY)
@takes_files
def store_instances(study_uid: str | None = None) -> ResponseReturnValue:
    """Store instances; each is accepted or refused separately."""
    media.check_json()
    media_type, options = media.parse_media_type(request.headers.get("Content-Type", ""))
    part_type = options.get("type", media.DICOM).lower()
    if media_type.lower() != "multipart/related" or part_type != media.DICOM:
        raise UnsupportedMediaType(_("Send multipart/related with parts of application/dicom."))
    with closing(Spool(current_app.extensions["uploads"])) as spool:
        parts = read_parts(
            request.stream,
            options.get("boundary", ""),
            max_part_bytes=current_settings().max_upload_bytes,
            spool=spool,
        )
        outcome = store(parts, actor=actor(), study_uid=study_uid)
    return _json(outcome.as_json(), status=outcome.status)


# QIDO-RS


@blueprint.get("/studies")
def find_studies() -> ResponseReturnValue:
    """Search for studies."""
    return _search(searching.find_studies)


@blueprint.get("/series")
@blueprint.get(_STUDY + "/series")
def find_series(study_uid: str | None = None) -> ResponseReturnValue:
    """Search for series, of one study or of all."""
    return _search(searching.find_series, study_uid)


@blueprint.get("/instances")
@blueprint.get(_STUDY + "/instances")
@blueprint.get(_SERIES + "/instances")
def find_instances(
    study_uid: str | None = None, series_uid: str | None = None
) -> ResponseReturnValue:
    """Search for instances, of one series, of one study or of all."""
    return _search(searching.find_instances, study_uid, series_uid)


# WADO-RS


@blueprint.get(_STUDY)
@blueprint.get(_SERIES)
@blueprint.get(_INSTANCE)
def retrieve(
    study_uid: str, series_uid: str | None = None, uid: str | None = None
) -> ResponseReturnValue:
    """Send the files of a study, a series or an instance."""
    delivery = media.delivery(media.DICOM, alone=uid is not None)
    instances = retrieving.find_instances(study_uid, series_uid, uid)
    wanted = retrieving.deliverable(instances, delivery.syntaxes)
    one = wanted[0] if uid is not None and not delivery.multipart else None
    if one is not None and one.is_as_stored(delivery.syntaxes):
        response = Response(content_type=media.DICOM)
        with suppress(MissingBlob):  # told below
            if handed_to_proxy(response, one.blob_key):
                return response
    files = _begun(retrieving.files(wanted, delivery.syntaxes, _source()))
    if one is None:
        return _multipart(media.DICOM, _typed(files))
    return Response(retrieving.pieces(next(files)[1]), content_type=media.DICOM)


@blueprint.get(_STUDY + "/metadata")
@blueprint.get(_SERIES + "/metadata")
@blueprint.get(_INSTANCE + "/metadata")
def retrieve_metadata(
    study_uid: str, series_uid: str | None = None, uid: str | None = None
) -> ResponseReturnValue:
    """Send the headers of a study, a series or an instance, without bulk data."""
    media.check_json()
    instances = retrieving.find_instances(study_uid, series_uid, uid)
    keys, blobs = [each.blob_key for each in instances], current_blobs()
    return Response(_json_array(keys, blobs), content_type=media.DICOM_JSON)


@blueprint.get(_INSTANCE + "/frames/<frame_list>")
def retrieve_frames(
    study_uid: str, series_uid: str, uid: str, frame_list: str
) -> ResponseReturnValue:
    """Send the uncompressed pixels of frames."""
    numbers = retrieving.frame_numbers(frame_list)
    delivery = media.delivery(media.OCTETS, alone=len(numbers) == 1)
    one = retrieving.kept(retrieving.find_instances(study_uid, series_uid, uid)[0])
    found = _begun(retrieving.frames(one, numbers, _source()))
    if delivery.multipart:
        return _multipart(media.OCTETS, ((media.OCTETS, [pixels]) for pixels in found))
    return Response(found, content_type=media.OCTETS)


@blueprint.get(_INSTANCE + "/rendered")
@blueprint.get(_INSTANCE + "/frames/<int:frame>/rendered")
def retrieve_rendered(
    study_uid: str, series_uid: str, uid: str, frame: int = 1
) -> ResponseReturnValue:
    """Send a frame as a picture."""
    media_type = media.image_type(_PICTURES)
    key = retrieving.find_instances(study_uid, series_uid, uid)[0].blob_key
    with blob_to_read(key) as content:
        picture = retrieving.rendered(
            content,
            frame,
            media_type=media_type,
            window=request.args.get("window"),
            quality=request.args.get("quality"),
        )
    return Response(picture, content_type=media_type)


def _search(
    find: Callable[[Query], Found], study_uid: str | None = None, series_uid: str | None = None
) -> Response:
    media.check_json()
    query = parse_query(request.args)
    if study_uid is not None:
        query.conditions.append(Instance.study_uid == study_uid)
    if series_uid is not None:
        query.conditions.append(Instance.series_uid == series_uid)
    found = find(query)
    response = _json(found.results) if found.results else Response(status=204)
    if query.ignored:
        _warn(response, f"These are not matched: {', '.join(sorted(set(query.ignored)))}")
    if found.more:
        _warn(response, "There are additional results that can be requested")
    return response


def _warn(response: Response, text: str) -> None:
    """Add a warning as in PS3.18 8.3.4; the agent is a pseudonym (RFC 7234 5.5)."""
    response.headers.add("Warning", f'299 sulcus "{text}"')


def _json(value: Any, *, status: int = 200) -> Response:
    return Response(json.dumps(value), status=status, content_type=media.DICOM_JSON)


def _json_array(keys: list[str], blobs: BlobStore) -> Iterator[str]:
    """One header at a time: all headers of a study could exhaust the memory."""
    separator = "["
    for key in keys:
        try:
            with blobs.open(key) as file:
                header = header_in(file)
        except MissingBlob:
            continue
        yield separator + json.dumps(header)
        separator = ","
    yield "[]" if separator == "[" else "]"


def _begun(items: Iterator[Item]) -> Iterator[Item]:
    """Produce the first item now, while the response can still become an error."""
    try:
        first = next(items)
    except StopIteration:
        raise NotFound(_("The stored image can no longer be read.")) from None
    return chain([first], items)


def _multipart(part_type: str, parts: Iterator[tuple[str, Iterable[bytes]]]) -> Response:
    boundary = new_boundary()
    content_type = f'multipart/related; type="{part_type}"; boundary={boundary}'
    return Response(written_parts(parts, boundary), content_type=content_type)


def _typed(files: Iterator[tuple[str, BinaryIO]]) -> Iterator[tuple[str, Iterable[bytes]]]:
    return (
        (f"{media.DICOM}; transfer-syntax={syntax}", retrieving.pieces(file))
        for syntax, file in files
    )


def _source() -> retrieving.Source:
    return retrieving.Source(current_blobs(), current_room(), current_app.extensions["uploads"])
