"""The web tier stays small: it never loads torch, directly or through others."""

import os
import subprocess
import sys
from pathlib import Path

from config import REPOSITORY


def test_the_web_process_does_not_load_torch(tmp_path: Path) -> None:
    program = "import sys, wsgi; print(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "SULCUS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
