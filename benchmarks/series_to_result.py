"""Time of a series of hundreds of slices compared with the engine alone, in one run.

Starts the whole product on embedded defaults, uploads a DICOM series through the API and polls
for the result. Then the engine alone classifies the same slices in this process. Also prints the
peak memory of the web process and of the worker, and the processor time (user and system) that
the portal takes outside the engine. On a busy machine processor time is more reliable than wall
time.

    .venv/bin/python -m benchmarks.series_to_result [--slices 400] [--size 256]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.product import product, signed_in, submit, wait_until_done
from ml.imaging import read_bytes, square_pixels
from ml.serving.predictor import Predictor
from tests.dicoms import axial_series

BATCH = 8
WEB, WORKER = "gunicorn", "worker.app worker"  # in their command lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--size", type=int, default=256, help="rows and columns of a slice")
    options = parser.parse_args()
    files = axial_series(options.slices, size=options.size, spacing=0.5)
    print(f"{options.slices} slices, {sum(map(len, files)) / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory(prefix="sulcus-bench-") as folder:
        home = Path(folder)
        with product(home) as address:
            session = signed_in(home)
            # The first study waits until the model is loaded.
            first = submit(session, address, axial_series(1))
            wait_until_done(session, address, first, pause=0.05)
            before = cpu_seconds(home, WEB, WORKER)
            started = time.perf_counter()
            study = submit(session, address, files)
            accepted = time.perf_counter() - started
            uploaded = cpu_seconds(home, WEB, WORKER)
            wait_until_done(session, address, study, pause=0.25)
            total = time.perf_counter() - started
            done = cpu_seconds(home, WEB, WORKER)
            web, worker = peak_memory(home, WEB), peak_memory(home, WORKER)
    own, own_cpu = engine_time(files)
    print(f"{'upload accepted after':36s} {accepted:7.2f} s")
    print(f"{'result after':36s} {total:7.2f} s")
    print(f"{'the engine alone':36s} {own:7.2f} s")
    print(f"{'result / engine alone':36s} {total / own:7.2f} x")
    print(f"{'from acceptance to result / engine':36s} {(total - accepted) / own:7.2f} x")
    print(f"{'peak memory of the web process':36s} {web:7.0f} MB")
    print(f"{'peak memory of the worker':36s} {worker:7.0f} MB")
    print(f"{'processor time of the upload':36s} {uploaded - before:7.2f} s")
    print(f"{'processor time after it':36s} {done - uploaded:7.2f} s")
    print(f"{'processor time of the engine alone':36s} {own_cpu:7.2f} s")
    print(f"{'processor time outside the engine':36s} {done - before - own_cpu:7.2f} s")


def engine_time(files: list[bytes]) -> tuple[float, float]:
    """Wall and processor seconds of the predictor for all slices; medians of three rounds."""
    predictor = Predictor.load()
    predictor.warm_up()
    slices = [square_pixels(read_bytes(content)[0]) for content in files]
    rounds, processor = [], []
    for _ in range(3):
        started, used = time.perf_counter(), time.process_time()
        for start in range(0, len(slices), BATCH):
            predictor.predict(slices[start : start + BATCH])
        rounds.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    return statistics.median(rounds), statistics.median(processor)


def peak_memory(home: Path, command: str) -> float:
    """Largest peak resident memory of the product's processes with that command line, in MB."""
    peaks = [
        int(row.split()[1]) / 1024
        for folder in processes(home, command)
        for row in (folder / "status").read_text().splitlines()
        if row.startswith("VmHWM")
    ]
    return max(peaks, default=0.0)


def cpu_seconds(home: Path, *commands: str) -> float:
    """User and system time so far of the product's processes with one of those command lines."""
    ticks = 0
    for command in commands:
        for folder in processes(home, command):
            # proc(5): utime and stime are the 12th and 13th field after the name, which may
            # contain any character.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def processes(home: Path, command: str) -> Iterator[Path]:
    """Folders below /proc of the product's processes with that command line.

    Args:
        home: the product's data folder; other products may run on this machine.
    """
    own = f"SULCUS_HOME={home}".encode()
    for folder in Path("/proc").iterdir():
        try:
            if not folder.name.isdigit() or folder.stat().st_uid != os.getuid():
                continue
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            is_own = own in (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # the process has ended
            continue
        if is_own and command in line:
            yield folder


if __name__ == "__main__":
    main()
