"""Web tier and beat stay small: they never load torch, directly or through others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import REPOSITORY

BEAT = "worker.beat, worker.classify, worker.deliver, worker.housekeeping"


@pytest.mark.parametrize("modules", ["wsgi", BEAT, "worker.dicom_receiver"])
def test_what_needs_no_torch_does_not_load_it(modules: str, tmp_path: Path) -> None:
    program = f"import sys, {modules}; print(sorted({{'torch', 'torchvision'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "SULCUS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
