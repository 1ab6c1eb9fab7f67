"""Peak memory of files that decode to a large size, each measured in its own process.

``python -m benchmarks.decoding_memory`` prints the peak of the whole process in MB, imports
included, for each kind of file: of one upload, of four uploads at once, and of decoding the stored
file slice by slice as the worker does. ``busy`` with a number: so many of the four uploads were
told to retry later.
"""

import argparse
import gzip
import multiprocessing
import pickle
import resource
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
from flask import Flask
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from config import Settings
from ml.errors import MemoryBusy
from ml.imaging import Room, footprint, open_bytes
from ml.imaging.pictures import encode_png
from tests.dicoms import as_bytes, mr_slice
from webapp import create_app
from webapp.deidentification import Pseudonymiser
from webapp.intake.arrival import Delivered, UploadedFile, take_in_file
from webapp.intake.letters import BurnedIn
from webapp.storage import BlobStore
from worker.decoding import SOURCE_LIMITS, reduced

_FRAMES = 64
_BATCH = 24  # slices that are queued for the model or in it
_RANDOM = np.random.default_rng(3)


def main() -> None:
    """Measure the named kinds, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(_KINDS))
    print(f"{'':18}{'one':>14}{'four at once':>20}{'decoded':>14}")
    for kind in parser.parse_args().kinds or _KINDS:
        print(f"{kind:18}", end="", flush=True)
        for work, width in ((_one, 14), (_four, 20), (_decoded, 14)):
            print(f"{_cell(kind, work):>{width}}", end="", flush=True)
        print()


def _cell(kind: str, work: Callable[[list[bytes]], dict[str, int]]) -> str:
    """Peak MB of a process that does the work, followed by any refusals."""
    context = multiprocessing.get_context("spawn")
    with tempfile.NamedTemporaryFile() as file:
        maker = context.Process(target=_make, args=(kind, file.name))
        maker.start()
        maker.join()
        answers = context.SimpleQueue()
        process = context.Process(target=_measured, args=(work, file.name, answers))
        process.start()
        process.join()
    if process.exitcode:
        return f"exit {process.exitcode}"
    peak, outcome = answers.get()
    told = "".join(f" {count} {what}" for what, count in outcome.items())
    return f"{peak:.0f}{told}"


def _make(kind: str, name: str) -> None:
    """Create a file in a separate process, so that its memory does not hide that of opening it."""
    with Path(name).open("wb") as file:
        pickle.dump(_KINDS[kind](), file)


def _measured(
    work: Callable[[list[bytes]], dict[str, int]],
    name: str,
    answers: "multiprocessing.SimpleQueue[tuple[float, dict[str, int]]]",
) -> None:
    with Path(name).open("rb") as file:
        contents = pickle.load(file)  # noqa: S301 - our own
    outcome = work(contents)
    answers.put((_high_water() / 2**10, outcome))


def _high_water() -> float:
    """KB."""
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _png(channels: int, depth: type, side: int = 8000, noise: int = 0) -> bytes:
    pixels = np.zeros((side, side, channels), depth)
    pixels[side // 4 : -side // 4, side // 4 : -side // 4] = np.iinfo(depth).max // 2
    if noise:
        pixels[:noise] = _RANDOM.integers(0, np.iinfo(depth).max, pixels[:noise].shape, depth)
    done, buffer = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return bytes(buffer.tobytes())


def _nifti() -> bytes:
    pixels = np.zeros((800, 800, 800), np.uint8)
    pixels[300:600, 300:600, 300:600] = 100
    return bytes(nibabel.Nifti1Image(pixels, np.eye(4)).to_bytes())


def _dicom(syntax: UID) -> bytes:
    """An enhanced image of 64 frames of 1024 x 1024, 12 bits in 16: 128 MB uncompressed."""
    one = _RANDOM.integers(0, 4096, (1024, 1024), np.uint16)
    one[:, 128:] = 100  # noise does not compress; a seventh of it resembles a real slice
    dataset = mr_slice(one)
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    if syntax.is_encapsulated:
        dataset.compress(syntax)
        (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
        dataset.PixelData = encapsulate([frame] * _FRAMES)
    else:
        dataset.PixelData = dataset.PixelData * _FRAMES
    dataset.NumberOfFrames = _FRAMES
    return as_bytes(dataset)


def _portal() -> tuple[Flask, BlobStore]:
    home = Path(tempfile.mkdtemp())
    app = create_app(Settings.from_environment({"SULCUS_HOME": str(home)}))
    return app, BlobStore(home / "blobs")


def _upload(contents: list[bytes], at_once: int) -> dict[str, int]:
    """Upload files from ``at_once`` threads: several files are shared out, one is sent by each.

    Returns:
        The number of refused uploads by reason.
    """
    app, blobs = _portal()
    outcome: dict[str, int] = {}

    def one(some: list[bytes]) -> None:
        into = Delivered()
        for content in some:
            try:
                with app.app_context(), blobs.batch() as kept:
                    take_in_file(
                        UploadedFile("file", content),
                        into,
                        blobs=kept,
                        pseudonymiser=Pseudonymiser(b"0" * 32, uuid.uuid4()),
                        burned_in=BurnedIn.ASK,
                        plane="auto",
                        forgiving=False,
                    )
            except MemoryBusy:
                outcome["busy"] = outcome.get("busy", 0) + 1
        for code in into.refused.values():
            outcome[code] = outcome.get(code, 0) + 1

    shared = [contents[n::at_once] if len(contents) > 1 else contents for n in range(at_once)]
    threads = [threading.Thread(target=one, args=(some,)) for some in shared]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


def _one(contents: list[bytes]) -> dict[str, int]:
    return _upload(contents, 1)


def _four(contents: list[bytes]) -> dict[str, int]:
    return _upload(contents, 4)


def _decoded(contents: list[bytes]) -> dict[str, int]:
    """Open each file and encode its slices one by one, as the worker does."""
    room, opened = Room(Settings.from_environment({}).max_decoding_bytes), []
    for content in contents:
        with room.taken(len(content) + footprint(content).reading):
            for one in open_bytes(content, SOURCE_LIMITS):
                encode_png(one.pixels)
                opened = [*opened, reduced(one)][-_BATCH:]
    return {}


_KINDS: dict[str, Callable[[], list[bytes]]] = {
    "png-rgba16": lambda: [_png(4, np.uint16)],
    "png-grey16": lambda: [_png(1, np.uint16)],
    "png-batch": lambda: [_png(3, np.uint8, 4000, noise=350)] * 12,
    "nifti": lambda: [_nifti()],
    "nifti-gz": lambda: [gzip.compress(_nifti(), 1)],
    "dicom-native": lambda: [_dicom(ExplicitVRLittleEndian)],
    "dicom-rle": lambda: [_dicom(RLELossless)],
    "dicom-jpeg2000": lambda: [_dicom(JPEG2000Lossless)],
    "dicom-jpeg-ls": lambda: [_dicom(JPEGLSLossless)],
}

if __name__ == "__main__":
    main()
