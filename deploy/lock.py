"""Turn pip's installation report into requirements/constraints.txt (`make lock`)."""

import json
import re
import sys
from pathlib import Path

HEAD = """\
# Every package at the version it was tested with; used with `pip install -c`.
# Written by `make lock` from the top-level pins beside this file. Names that a
# platform does not need (the CUDA libraries, say) are simply not installed there.
"""


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    packages = (item["metadata"] for item in report["install"])
    pins = sorted(f"{re.sub('[-_.]+', '-', p['name']).lower()}=={p['version']}" for p in packages)
    print(HEAD + "\n".join(pins))


if __name__ == "__main__":
    main()
