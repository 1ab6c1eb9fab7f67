"""Cut volumes into labelled slices, to add heads of other scanners to a data set."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ml.dataset.manifest import Entry, content_hash, write_manifest
from ml.dataset.outlines import Outline
from ml.dataset.stacks import read_volumes
from ml.dataset.tilting import tilted
from ml.errors import InvalidManifest
from ml.imaging import NO_LIMITS, Slice, inspect, read_bytes, square_pixels
from ml.imaging.nifti import PLANES
from ml.imaging.pictures import Pixels, encode_png
from ml.labels import Label

_COARSEST = 2.5  # mm; larger pixels cause staircase artefacts that scanners do not produce
_SHORTEST = 100.0  # mm; a plane with a shorter side does not show a head
_HEAD_SHARE = 0.4  # share of the plane's largest head area, for slices that are used
_BRIGHTEST = 99.8  # percentile of the head that is mapped to white
_FEWEST_MM2 = 30.0  # smallest tumour area that a reader is expected to find in one slice
_FREE_MM = 5.0  # distance from the tumour from which a slice counts as free of it
_ONE_PIECE = 0.95  # share of the mask that an outline must contain
_SMOOTHING = 0.5  # px; tolerance of an outline's simplification

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cutting:
    """How volumes are cut, and the labels of the slices.

    Attributes:
        label: of slices without a mask or with tumour in the mask.
        group: the patient.
        every: minimum distance between selected slices in millimetres.
        source: the set that the volumes come from.
        tilts: degrees of head tilt (:func:`ml.dataset.tilting.tilted`); the volume is cut once
            for each.
        planes: the planes to cut.
        lowest: selected share in 0..1, from below, of the range of axial slices that show enough
            of a head, over all tilts.
    """

    label: Label
    group: str
    every: float
    source: str | None = None
    tilts: tuple[float, ...] = (0.0,)
    planes: tuple[str, ...] = PLANES
    lowest: float = 1.0


@dataclass(frozen=True)
class CutSet:
    """The written slices, their tumours' outlines, and planes without heads."""

    entries: list[Entry]
    outlines: dict[str, Outline]
    planes_left_out: list[str]


def cut_volumes(paths: list[Path], masks: list[Path], cutting: Cutting, folder: Path) -> CutSet:
    """Write PNG files, ``manifest.csv`` and, with masks, ``outlines.json`` into ``folder``.

    Each volume is cut in its axial, coronal and sagittal planes, except planes with pixels larger
    than 2.5 mm or a shorter side below 100 mm. Slices with less than 0.4 of the plane's largest
    head area are left out. Brightness is scaled to 8 bit with one range for the whole volume, as
    viewers export it.

    With a mask (a NIfTI file on the volume's grid, above 0 inside the tumour) slices with at
    least 30 mm² of tumour get the label, a box and an outline; those 5 mm or farther from any
    tumour become ``no_tumor``; those between are left out.

    Raises:
        InvalidManifest: the folder already has a manifest, a mask does not match its volume, or
            no slice is left.
        UnreadableImage: a file cannot be read.
    """
    _check(paths, masks, cutting, folder)
    folder.mkdir(parents=True, exist_ok=True)
    result = CutSet([], {}, [])
    named = _volumes(paths, masks)
    for number, (volume, mask) in enumerate(tqdm(named, "cutting", unit="volume", disable=None)):
        cut: list[tuple[str, str, _Made]] = []
        for tilt in cutting.tilts:
            turned, turned_mask = _tilted(volume, mask, tilt)
            for plane in cutting.planes:
                # Tilting only rotates sagittal slices in their plane.
                if tilt and plane == "sagittal":
                    continue
                name = f"{cutting.group}-{number:02d}-{plane}{f'-tilt{tilt:+g}' if tilt else ''}"
                if not _shows_heads(turned, plane):
                    result.planes_left_out.append(name)
                    continue
                made = _plane(turned, turned_mask, plane, cutting)
                cut += [(f"{name}-{one.index:03d}.png", plane, one) for one in made]
        for name, plane, one in _lowest(cut, cutting.lowest):
            _write(one, folder / name, cutting, plane, result)
    if not result.entries:
        raise InvalidManifest("The volumes hold no slice that shows enough of a head.")
    write_manifest(folder / "manifest.csv", result.entries)
    if masks:
        text = json.dumps(result.outlines) + "\n"
        (folder / "outlines.json").write_text(text, encoding="utf-8")
    return result


def _check(paths: list[Path], masks: list[Path], cutting: Cutting, folder: Path) -> None:
    if (folder / "manifest.csv").exists():
        raise InvalidManifest(f"{folder} already holds a manifest; choose another folder.")
    if masks and len(masks) != len(paths):
        raise InvalidManifest("There must be as many masks as volumes, in the same order.")
    if masks and cutting.label is Label.NO_TUMOR:
        raise InvalidManifest("A mask marks a tumour, so the label must name one.")


@dataclass(frozen=True)
class _Made:
    """A slice to be written; ``tumor`` is its mask, empty without a tumour."""

    index: int
    picture: npt.NDArray[np.uint8]
    label: Label
    tumor: Mask


def _volumes(paths: list[Path], masks: list[Path]) -> Iterator[tuple[bytes, bytes | None]]:
    for number, path in enumerate(paths):
        volumes = list(read_volumes(path))
        if not masks:
            yield from ((volume, None) for volume in volumes)
            continue
        mask = list(read_volumes(masks[number]))
        if len(volumes) != 1 or len(mask) != 1:
            raise InvalidManifest(f"{path} and {masks[number]} must hold one volume each.")
        yield volumes[0], mask[0]


def _tilted(volume: bytes, mask: bytes | None, degrees: float) -> tuple[bytes, bytes | None]:
    if not degrees:
        return volume, mask
    return tilted(volume, degrees), None if mask is None else tilted(mask, degrees, is_mask=True)


def _shows_heads(volume: bytes, plane: str) -> bool:
    frame = inspect(volume, NO_LIMITS, plane=plane).frames[0]
    row, column = frame.spacing or (1.0, 1.0)
    shorter = min(frame.rows * row, frame.columns * column)
    return max(row, column) <= _COARSEST and shorter >= _SHORTEST


def _plane(volume: bytes, mask: bytes | None, plane: str, cutting: Cutting) -> Iterator[_Made]:
    slices = read_bytes(volume, plane=plane)
    step = _step(volume, plane)
    values = [square_pixels(one) for one in slices]
    low, threshold, high = _levels(values)
    areas = np.array([int((one > threshold).sum()) for one in values])
    tumors = _tumors(slices, mask, plane)
    labels: list[Label | None] = [cutting.label] * len(slices)
    if mask is not None:
        labels = _labels(tumors, slices[0], step, cutting.label)
    chosen = range(0, len(slices), max(1, round(cutting.every / step)))
    for index in chosen:
        label = labels[index]
        if label is None or areas[index] < _HEAD_SHARE * areas.max():
            continue
        scaled = np.clip((values[index].astype(np.float32) - low) / (high - low), 0, 1)
        picture = np.round(scaled * 255).astype(np.uint8)
        yield _Made(index, picture, label, _resized(tumors[index], picture.shape))


def _lowest(cut: list[tuple[str, str, _Made]], share: float) -> list[tuple[str, str, _Made]]:
    """The lowest share of the axial slices, which are numbered from below."""
    heights = [made.index for _, plane, made in cut if plane == "axial"] or [0]
    limit = min(heights) + share * (max(heights) - min(heights))
    return [one for one in cut if one[1] != "axial" or one[2].index <= limit]


def _step(volume: bytes, plane: str) -> float:
    """Millimetres between neighbouring slices."""
    frames = inspect(volume, NO_LIMITS, plane=plane).frames
    places = [frame.geometry for frame in frames[:2] if frame.geometry is not None]
    if len(places) < 2:
        return 1.0
    return float(np.linalg.norm(np.subtract(places[0].position, places[1].position)))


def _levels(values: list[Pixels]) -> tuple[float, float, float]:
    """The volume's darkest value, the threshold of head and air (Otsu 1979), and white."""
    everything = np.concatenate([one[::2, ::2].ravel() for one in values])
    low, ceiling = float(everything.min()), float(np.percentile(everything, 99))
    if ceiling <= low:
        raise InvalidManifest("A volume is blank.")
    # The square root raises dark tissue above the background, as in ml.preprocess.head_mask.
    levels = np.sqrt(np.clip((everything - low) / (ceiling - low), 0, 1))
    limit, _ = cv2.threshold(
        (levels * 255).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU
    )
    threshold = low + (limit / 255) ** 2 * (ceiling - low)
    head = everything[everything > threshold]
    return low, threshold, max(float(np.percentile(head, _BRIGHTEST)), low + 1)


def _tumors(slices: list[Slice], mask: bytes | None, plane: str) -> list[Mask]:
    """The tumour's mask in the pixels of each slice, before resampling to square pixels."""
    if mask is None:
        return [np.zeros(one.pixels.shape[:2], bool) for one in slices]
    marked = read_bytes(mask, plane=plane)
    tumors = [one.pixels * one.scale + one.offset > 0 for one in marked]
    if [one.shape for one in tumors] != [one.pixels.shape[:2] for one in slices]:
        raise InvalidManifest("A mask does not lie on its volume's grid.")
    return tumors


def _labels(tumors: list[Mask], first: Slice, step: float, label: Label) -> list[Label | None]:
    """The label of each slice; None if it is ambiguous."""
    areas = np.array([int(tumor.sum()) for tumor in tumors]) * np.prod(first.spacing or (1.0, 1.0))
    marked = np.flatnonzero(areas)
    labels: list[Label | None] = []
    for index, area in enumerate(areas):
        if area >= _FEWEST_MM2:
            labels.append(label)
        elif len(marked) == 0 or np.abs(marked - index).min() * step >= _FREE_MM:
            labels.append(Label.NO_TUMOR)
        else:
            labels.append(None)
    return labels


def _resized(tumor: Mask, shape: tuple[int, ...]) -> Mask:
    size = shape[1], shape[0]
    return cv2.resize(tumor.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def _write(made: _Made, path: Path, cutting: Cutting, plane: str, result: CutSet) -> None:
    path.write_bytes(encode_png(made.picture))
    entry = Entry(
        path=path,
        label=made.label,
        group=cutting.group,
        original=path.stem,
        source=cutting.source or cutting.group,
        plane=plane,
        sha256=content_hash(path),
    )
    if made.tumor.any():
        entry = replace(entry, box=_box(made.tumor))
        if (outline := _outline(made.tumor)) is not None:
            result.outlines[path.stem] = outline
    result.entries.append(entry)


def _box(tumor: Mask) -> tuple[float, float, float, float]:
    left, top, width, height = cv2.boundingRect(tumor.astype(np.uint8))
    rows, columns = tumor.shape
    return left / columns, top / rows, width / columns, height / rows


def _outline(tumor: Mask) -> Outline | None:
    """The polygon around the tumour; None if it has several pieces or is too small."""
    contours, _ = cv2.findContours(tumor.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)
    filled = np.zeros(tumor.shape, np.uint8)
    cv2.drawContours(filled, [largest], -1, 1, cv2.FILLED)
    if (tumor & (filled > 0)).sum() < _ONE_PIECE * tumor.sum():
        return None
    points = cv2.approxPolyDP(largest, _SMOOTHING, closed=True)[:, 0]
    if len(points) < 3:
        return None
    height, width = tumor.shape
    # Pixel centres lie at half-integers after scaling the fractions.
    return tuple((float((x + 0.5) / width), float((y + 0.5) / height)) for x, y in points)
