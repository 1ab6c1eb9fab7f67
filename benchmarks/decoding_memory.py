"""Peak memory of files that decode to a large size, each measured in its own process.

``python -m benchmarks.decoding_memory`` prints for each kind the peak of the whole process, with
all that is imported, in MB: of taking one file in, of taking four of them in at once, of decoding
the kept file slice by slice as the worker does, and of the worker's task, model included, on a
study of these files (of the kinds that begin with ``study`` that alone). ``busy`` beside a number:
so many of the four were told to come back later.
"""

import argparse
import gzip
import multiprocessing
import os
import pickle
import resource
import tempfile
import threading
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import flask_migrate
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
from sqlalchemy import select

from config import Settings
from ml.errors import MemoryBusy
from ml.imaging import Room, footprint, open_bytes
from ml.imaging.pictures import encode_png
from tests.dicoms import as_bytes, mr_slice
from tests.factories import make_account
from webapp import create_app
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.deidentification import Pseudonymiser
from webapp.intake.arrival import Delivered, Handling, UploadedFile, take_in_file
from webapp.intake.letters import BurnedIn
from webapp.intake.submission import submit_files
from webapp.storage import BlobStore
from webapp.studies.models import Analysis, Status
from webapp.tenancy import acting_for, unscoped
from worker.decoding import SOURCE_LIMITS, reduced

Work = Callable[[Path], dict[str, int]]
_FRAMES = 64
_BATCH = 24  # slices that are queued for the model or in it
_RANDOM = np.random.default_rng(3)


def main() -> None:
    """Measure the named kinds, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(_KINDS))
    print(f"{'':18}{'one':>14}{'four at once':>20}{'decoded':>14}{'worker':>14}")
    for kind in parser.parse_args().kinds or _KINDS:
        print(f"{kind:18}", end="", flush=True)
        for work, width in ((_one, 14), (_four, 20), (_decoded, 14), (_classified, 14)):
            known = not kind.startswith("study") or work is _classified
            print(f"{_cell(kind, work) if known else '':>{width}}", end="", flush=True)
        print()


def _cell(kind: str, work: Work) -> str:
    """MB of a process that does the work, and what became of it unless all went well."""
    with tempfile.TemporaryDirectory(prefix="sulcus-bench-") as name:
        folder = Path(name)
        try:
            _in_a_process(partial(_make, kind), folder)
            if work is _classified:
                _in_a_process(_submit, folder)
            peak, outcome = _in_a_process(work, folder)
        except ChildProcessError as error:
            return str(error)
    told = "".join(f" {count} {what}" for what, count in outcome.items())
    return f"{peak:.0f}{told}"


def _in_a_process(work: Work, folder: Path) -> tuple[float, dict[str, int]]:
    """Peak memory in MB of a new process that does the work, and what became of it.

    What a step takes would hide what the next one takes, if both ran in one process.
    """
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_measured, args=(work, folder, answers))
    process.start()
    process.join()
    if process.exitcode:
        raise ChildProcessError(f"exit {process.exitcode}")
    return answers.get()


def _measured(
    work: Work,
    folder: Path,
    answers: "multiprocessing.SimpleQueue[tuple[float, dict[str, int]]]",
) -> None:
    outcome = work(folder)
    answers.put((_high_water() / 2**10, outcome))


def _make(kind: str, folder: Path) -> dict[str, int]:
    with (folder / "contents").open("wb") as file:
        pickle.dump(_KINDS[kind](), file)
    return {}


def _contents(folder: Path) -> list[bytes]:
    with (folder / "contents").open("rb") as file:
        found: list[bytes] = pickle.load(file)  # noqa: S301 - our own
    return found


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


def _environment(folder: Path) -> dict[str, str]:
    """Of a portal that keeps everything in the folder and has no broker."""
    return {
        "SULCUS_HOME": str(folder),
        "SULCUS_BROKER_URL": f"redis+socket://{folder}/no-broker.sock",
        "SULCUS_LOG_LEVEL": "ERROR",
    }


def _portal(folder: Path) -> tuple[Flask, BlobStore]:
    app = create_app(Settings.from_environment(_environment(folder)))
    return app, app.extensions["blobs"]


def _upload(folder: Path, at_once: int) -> dict[str, int]:
    """Take files in by so many threads, several shared among them, a single one by each.

    Returns:
        The number of refused uploads by reason.
    """
    app, blobs = _portal(folder)
    contents = _contents(folder)
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


def _one(folder: Path) -> dict[str, int]:
    return _upload(folder, 1)


def _four(folder: Path) -> dict[str, int]:
    return _upload(folder, 4)


def _decoded(folder: Path) -> dict[str, int]:
    """As the worker does it: each file is opened, and one slice after the other encoded."""
    room, opened = Room(Settings.from_environment({}).max_decoding_bytes), []
    for content in _contents(folder):
        with room.taken(len(content) + footprint(content).reading):
            for one in open_bytes(content, SOURCE_LIMITS):
                encode_png(one.pixels)
                opened = [*opened, reduced(one)][-_BATCH:]
    return {}


def _submit(folder: Path) -> dict[str, int]:
    """Take the files in as one study."""
    app, _blobs = _portal(folder)
    with app.app_context():
        flask_migrate.upgrade()
    account = make_account(app)
    with app.app_context(), acting_for(account.organisation_id):
        files = [UploadedFile(f"{n}", content) for n, content in enumerate(_contents(folder))]
        submit_files(
            actor=find_user_by_address(account.email),
            files=files,
            handling=Handling(burned_in=BurnedIn.KEEP),
        )
    return {}


def _classified(folder: Path) -> dict[str, int]:
    """The worker's task on the study that was taken in."""
    os.environ.update(_environment(folder))
    from worker.app import flask_app
    from worker.classify import classify_study, load_model

    load_model()
    with flask_app.app_context(), unscoped():
        analysis = db.session.scalars(select(Analysis)).one()
        key = str(analysis.id)
    classify_study(analysis_id=key)
    with flask_app.app_context(), unscoped():
        status = db.session.scalars(select(Analysis.status)).one()
    return {} if status is Status.DONE else {status.value: 1}


_KINDS: dict[str, Callable[[], list[bytes]]] = {
    "png-rgba16": lambda: [_png(4, np.uint16)],
    "png-grey16": lambda: [_png(1, np.uint16)],
    "png-batch": lambda: [_png(3, np.uint8, 4000, noise=350)] * 12,
    "study-rgb16": lambda: [_png(3, np.uint16, 2000, noise=40) for _ in range(24)],
    "study-mixed": lambda: [
        _png(4, np.uint16, noise=1) if number % 8 == 7 else _png(3, np.uint16, 2000, noise=40)
        for number in range(24)
    ],
    "nifti": lambda: [_nifti()],
    "nifti-gz": lambda: [gzip.compress(_nifti(), 1)],
    "dicom-native": lambda: [_dicom(ExplicitVRLittleEndian)],
    "dicom-rle": lambda: [_dicom(RLELossless)],
    "dicom-jpeg2000": lambda: [_dicom(JPEG2000Lossless)],
    "dicom-jpeg-ls": lambda: [_dicom(JPEGLSLossless)],
}

if __name__ == "__main__":
    main()
