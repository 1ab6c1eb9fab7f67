"""Peak memory of opening small files that are large once they are opened, each in its own process.

``python benchmarks/decoding_memory.py`` prints the peak above a process that has imported all of
it, as MB. ``upload`` is what the web process does with a picture or a volume, ``decode`` what the
worker does with a kept one, ``batch`` what it does with twelve pictures.
"""

import argparse
import gzip
import multiprocessing
import resource
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np

from config import Settings
from ml.imaging import Limits, read_bytes
from webapp import create_app
from webapp.deidentification import Pseudonymiser
from webapp.intake.arrival import take_in
from webapp.intake.letters import BurnedIn
from webapp.storage import BlobStore

_SIDE = 8000


def main() -> None:
    """Measure the cases that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(_CASES))
    for name in parser.parse_args().cases or _CASES:
        print(f"{name:24} {_peak(_CASES[name]):6.0f} MB")


def _peak(work: Callable[[], Callable[[], object]]) -> float:
    """MB above what was there when the work began."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_measured, args=(work, answers))
    process.start()
    process.join()
    found: float = answers.get()
    return found


def _measured(
    work: Callable[[], Callable[[], object]], answers: "multiprocessing.SimpleQueue[float]"
) -> None:
    prepared = work()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _high_water()
    prepared()
    answers.put((_high_water() - before) / 2**10)


def _high_water() -> float:
    """KB; what resource.getrusage calls ru_maxrss cannot be set back."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1])
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _png(channels: int, depth: type) -> bytes:
    pixels = np.zeros((_SIDE, _SIDE, channels), depth)
    pixels[2000:6000, 2000:6000] = np.iinfo(depth).max // 2
    done, buffer = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return bytes(buffer.tobytes())


def _nifti() -> bytes:
    pixels = np.zeros((800, 800, 800), np.uint8)
    pixels[300:600, 300:600, 300:600] = 100
    return gzip.compress(nibabel.Nifti1Image(pixels, np.eye(4)).to_bytes(), 1)


def _upload(content: bytes, at_once: int = 1) -> Callable[[], object]:
    home = Path(tempfile.mkdtemp())
    app = create_app(Settings.from_environment({"SULCUS_HOME": str(home)}))
    blobs = BlobStore(home / "blobs")

    def one() -> None:
        with app.app_context(), blobs.batch() as kept:
            take_in(
                content,
                blobs=kept,
                pseudonymiser=Pseudonymiser(b"0" * 32, uuid.uuid4()),
                limits=Limits(),
                burned_in=BurnedIn.ASK,
            )

    def all_of_them() -> None:
        threads = [threading.Thread(target=one) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return all_of_them


def _rgba16() -> Callable[[], object]:
    return _upload(_png(4, np.uint16))


def _rgba16_four() -> Callable[[], object]:
    return _upload(_png(4, np.uint16), at_once=4)


def _rgba8() -> Callable[[], object]:
    return _upload(_png(4, np.uint8))


def _grey16() -> Callable[[], object]:
    return _upload(_png(1, np.uint16))


def _volume() -> Callable[[], object]:
    return _upload(_nifti())


def _volume_decoded() -> Callable[[], object]:
    content = _nifti()
    return lambda: len(read_bytes(content))


_CASES = {
    "upload-rgba16": _rgba16,
    "upload-rgba16-four": _rgba16_four,
    "upload-rgba8": _rgba8,
    "upload-grey16": _grey16,
    "upload-volume": _volume,
    "decode-volume": _volume_decoded,
}

if __name__ == "__main__":
    main()
