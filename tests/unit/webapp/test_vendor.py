"""Libraries of other people are kept unchanged, with licence and hash."""

import re
from hashlib import sha256
from pathlib import Path

VENDOR = Path(__file__).parents[3] / "webapp" / "static" / "vendor"


def test_every_file_is_the_one_that_was_recorded() -> None:
    rows = re.findall(
        r"`([^`]+)` \| `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.M
    )
    recorded = dict(rows)
    kept = {path.name for path in VENDOR.iterdir()} - {"README.md"}
    assert set(recorded) == kept
    for name, digest in recorded.items():
        assert sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
