"""Slices and heatmaps as HTTP responses."""

from collections.abc import Callable

from flask import Response, request
from flask_babel import gettext as _

from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, read_bytes
from ml.imaging.pictures import encode_png, is_16_bit_png
from webapp.accelerated import handed_to_proxy
from webapp.errors import NotFound
from webapp.extensions import blob_to_read
from webapp.storage import MissingBlob
from webapp.studies.models import Image
from webapp.viewer.windowing import Suggestion, shown_in_grey, suggestion_of


def slice_for_display(image: Image) -> Response:
    """The slice as an 8-bit PNG; 16-bit values are windowed, since screens show eight bits.

    Raises:
        NotFound: it is not decoded yet, or can no longer be read.
    """
    window = suggestion_of(image)

    return _answer(
        _decoded(image),
        f"slice-{image.position + 1}.png",
        variant="" if window is None else "{:g} {:g}".format(*window.ends),
        change=lambda content: eight_bit(content, window=window),
    )


def stored_slice(image: Image) -> Response:
    """The stored PNG of the slice at full bit depth; raises :class:`NotFound`."""
    return _answer(_decoded(image), f"slice-{image.position + 1}.png")


def heatmap(image: Image) -> Response:
    """The current analysis's heatmap, a PNG with alpha; raises :class:`NotFound`."""
    prediction = image.prediction
    if prediction is None or prediction.heatmap_key is None:
        raise NotFound(_("There is no heatmap for this image."))
    return _answer(prediction.heatmap_key, f"heatmap-{image.position + 1}.png")


def eight_bit(content: bytes, *, window: Suggestion | None = None) -> bytes:
    """Convert a PNG to 8 bits per channel; an 8-bit PNG is returned unchanged.

    16-bit grey values are windowed by :mod:`webapp.viewer.windowing`.
    """
    if not is_16_bit_png(content):
        return content
    pixels = read_bytes(content, NO_LIMITS)[0].pixels
    return encode_png(shown_in_grey(pixels, window))


def _decoded(image: Image) -> str:
    if image.blob_key is None:
        raise NotFound(_("This slice has not been processed yet."))
    return image.blob_key


def _answer(
    key: str,
    name: str,
    *,
    variant: str = "",
    change: Callable[[bytes], bytes] | None = None,
) -> Response:
    response = Response(mimetype="image/png")
    tag = f"{key} {variant}".strip()
    response.set_etag(tag)
    if request.if_none_match.contains(tag):
        response.status_code = 304  # without reading the file
    else:
        _fill(response, key, change)
    response.cache_control.private = True
    # The browser must revalidate: its cache must not show images after a sign-out, and another
    # analysis may give another heatmap.
    response.cache_control.no_cache = True
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Disposition"] = f'inline; filename="{name}"'
    return response


def _fill(response: Response, key: str, change: Callable[[bytes], bytes] | None) -> None:
    try:
        if change is None and handed_to_proxy(response, key):
            return
        with blob_to_read(key) as content:
            response.set_data(content if change is None else change(content))
    except (MissingBlob, UnreadableImage) as error:
        raise NotFound(_("The stored image can no longer be read.")) from error
