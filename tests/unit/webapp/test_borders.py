"""Web tier and beat stay small: what their images lack they do not load, through others neither."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import REPOSITORY

BEAT = "worker.beat, worker.classify, worker.deliver, worker.housekeeping, worker.watch"


# Of the worker's image (requirements/worker.txt) and not of the web's.
HEAVY = {"torch", "torchvision", "sklearn", "pandas"}  # SciPy: nibabel loads it if it is there


@pytest.mark.parametrize("modules", ["wsgi", BEAT, "worker.dicom_receiver"])
def test_what_the_web_image_lacks_is_not_loaded(modules: str, tmp_path: Path) -> None:
    program = f"import sys, {modules}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "SULCUS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
