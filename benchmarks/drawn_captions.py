"""Sensitivity, false alarm rate and time of the detector of text drawn on slices and volumes.

Draws captions on real 12-bit slices, as a scanner or a workstation does, and into NIfTI volumes of
several types along all three planes. Prints the share found by position, height and font, then
the false alarms on the unchanged volumes and with their brightest values saturated.

    .venv/bin/python -m benchmarks.drawn_captions --data-root FOLDER [--captions 600]
"""

import argparse
import io
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.captions import SEED, Random, captions, drawn, ink_of
from ml.imaging import Limits, read_bytes, read_path
from ml.imaging.drawn_text import drawn_in_stack, find_drawn_text, plateau
from ml.imaging.nifti import strip_nifti
from ml.imaging.slices import Pixels

_SIDE = 96  # voxels per side of the volumes with captions
_TYPES = (np.uint8, np.int16, np.uint16, np.float32)
_SATURATED = (99.9, 99.5, 99.0, 98.0)  # percentiles
_NOISE = 1 / 6  # of the standard deviation of the values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--captions", type=int, default=600)
    options = parser.parse_args()
    slices = list(measured(options.data_root))
    heads = [pixels for source, pixels in slices if "outline" not in source]
    report_slices(heads, options.captions)
    report_volumes(heads, options.captions // 4)
    report_false_alarms(slices)


def measured(root: Path) -> Iterator[tuple[str, Pixels]]:
    """(source, pixels) of all slices of all volumes, tumour outlines included."""
    for path in sorted((root / "nifti-glioma").glob("*/*.nii.gz")):
        source = "outlines of gliomas" if "Mask" in path.name else "glioma volumes"
        for one in read_path(path):
            if one.pixels.max() > one.pixels.min():
                yield source, one.pixels
    for path in sorted((root / "dicom-t1-healthy").glob("*.dcm")):
        yield "healthy volume", read_path(path)[0].pixels


def report_slices(slices: Sequence[Pixels], count: int) -> None:
    """Print the share of captions found on 12-bit slices."""
    random = np.random.default_rng(SEED)
    found: dict[str, list[bool]] = defaultdict(list)
    for caption in captions(count, random):
        chosen = slices[int(random.integers(len(slices)))]
        one = drawn(replace(caption, bits=16, colour="white"), chosen, random)
        hit = any(
            one.ink[box.top : box.bottom, box.left : box.right].any()
            for box in find_drawn_text(one.pixels)
        )
        beside = "beside the head" if one.caption.place in {"corner", "edge"} else "on the head"
        found[f"{beside}, {caption.height:2d} px"].append(hit)
        found[f"{beside}, {caption.font}"].append(hit)
    print("captions on slices of 12 bits: found")
    _print(found)


def report_volumes(slices: Sequence[Pixels], count: int) -> None:
    """Print the share of captions found in NIfTI files, each drawn into one plane."""
    random = np.random.default_rng(SEED)
    found: dict[str, list[bool]] = defaultdict(list)
    for caption in captions(count, random):
        dtype = _TYPES[int(random.integers(len(_TYPES)))]
        axis = int(random.integers(3))
        volume = _volume(slices[int(random.integers(len(slices)))], random)
        ink = ink_of(replace(caption, height=min(caption.height, 16), text=caption.text[:6]))
        plane = np.moveaxis(volume, axis, 0)[int(random.integers(4, _SIDE - 4))]
        corner = plane[4 : 4 + ink.shape[0], 4 : 4 + ink.shape[1]]
        np.maximum(corner, ink[: corner.shape[0], : corner.shape[1]], out=corner)
        content = _file(volume, dtype)
        stack = np.stack([one.pixels for one in read_bytes(content)])
        hit = any(True for _plane in drawn_in_stack(stack, None))
        found[f"drawn across axis {axis}"].append(hit)
        found[f"stored as {np.dtype(dtype).name}"].append(hit)
        found[f"{min(caption.height, 16):2d} px"].append(hit)
    print("\ncaptions of six letters in NIfTI volumes: found")
    _print(found)


def report_false_alarms(slices: Iterable[tuple[str, Pixels]]) -> None:
    """Print the share of slices without text in which text is detected, and the time taken."""
    random = np.random.default_rng(SEED)
    alarms: dict[str, list[bool]] = defaultdict(list)
    marked: dict[str, list[float]] = defaultdict(list)
    screened = []
    for source, pixels in slices:
        for kind, variant in _variants(pixels, random):
            started = time.perf_counter()
            is_marked = plateau(variant) is not None
            screened.append(time.perf_counter() - started)
            alarms[f"{source}, {kind}"].append(bool(find_drawn_text(variant)))
            if is_marked:
                marked[f"{source}, {kind}"].append(time.perf_counter() - started)
    print("\nslices without text: false alarms")
    _print(alarms)
    print("\nslices with a plateau")
    for name, seconds in marked.items():
        print(f"  {name:42s} {len(seconds):5d}, median {1000 * np.median(seconds):6.1f} ms")
    print(f"\nlooking for a plateau: median {1000 * np.median(screened):.2f} ms a slice")


def _variants(pixels: Pixels, random: Random) -> Iterator[tuple[str, Pixels]]:
    yield "as it is", pixels
    levels = pixels.astype(np.float32)
    for share in _SATURATED:
        top = float(np.percentile(levels, share))
        if top <= levels.min():
            continue
        yield f"saturated at {share} %", np.minimum(levels, top).astype(np.uint16)
        noisy = levels + np.abs(random.normal(0, _NOISE * levels.std(), levels.shape))
        yield f"noisy, saturated at {share} %", np.minimum(noisy, top).astype(np.uint16)


def _volume(pixels: Pixels, random: Random) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A synthetic volume in 0..0.9: one slice repeated with varying brightness and noise."""
    step = max(1, max(pixels.shape) // _SIDE)
    small = pixels[::step, ::step].astype(np.float32)[:_SIDE, :_SIDE]
    small = np.pad(small, [(0, _SIDE - length) for length in small.shape])
    profile = np.sin(np.linspace(0.2, 2.9, _SIDE)).astype(np.float32)
    volume = small[None] / float(small.max()) * profile[:, None, None]
    noise = np.abs(random.normal(0, 0.02, volume.shape)).astype(np.float32)
    return np.asarray(np.minimum(0.85 * volume + noise, 0.95), np.float32)


def _file(volume: np.ndarray[tuple[int, ...], np.dtype[np.float32]], dtype: type) -> bytes:
    """The volume as a NIfTI file, as the portal stores it."""
    top = 255 if dtype is np.uint8 else 4095
    image = nib.Nifti1Image(np.rint(volume * top).astype(dtype), np.eye(4))
    buffer = io.BytesIO()
    image.to_file_map({"image": nib.FileHolder(fileobj=buffer)})
    return strip_nifti(buffer.getvalue(), Limits())


def _print(groups: dict[str, list[bool]]) -> None:
    for name, results in sorted(groups.items()):
        print(f"  {name:42s} {sum(results):5d} of {len(results):5d} {np.mean(results):7.1%}")


if __name__ == "__main__":
    main()
