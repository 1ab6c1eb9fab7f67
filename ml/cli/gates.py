"""The command ``gates``: may a candidate take the place of the model that serves?"""

import argparse
from pathlib import Path
from typing import Any

from ml.cli.options import write_json

_SOME_FAIL = 3


def add_gates(commands: Any) -> None:
    """Add ``gates`` to the commands of ``python -m ml``."""
    gates = commands.add_parser(
        "gates",
        help="judge a retrained model beside the one that serves, by the plan of change",
        description="Exit codes: 0 all gates pass, 3 some fail, 2 bad usage, 1 failure.",
    )
    for name in ("--candidate", "--incumbent"):
        gates.add_argument(name, type=Path, required=True, metavar="CARD.json")
    gates.add_argument("--snapshot", type=Path, required=True, metavar="FOLDER")
    gates.add_argument(
        "--plan", type=Path, metavar="FILE.toml", help="another plan than the one that ships"
    )
    gates.add_argument(
        "--reference", type=Path, metavar="FOLDER", help="another set than ml/reference"
    )
    gates.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    gates.add_argument(
        "--json", type=Path, required=True, metavar="OUT", help="write the report there"
    )
    gates.set_defaults(run=_gates)


def _gates(options: argparse.Namespace) -> int:
    from ml.dataset.reference import BUNDLED
    from ml.release.change_plan import SHIPPED
    from ml.release.gates import run_gates, table

    report = run_gates(
        options.candidate,
        options.incumbent,
        options.snapshot,
        plan=options.plan or SHIPPED,
        reference=options.reference or BUNDLED,
        device=options.device,
    )
    write_json(report, options.json)
    print(table(report))
    return 0 if report["verdict"] == "pass" else _SOME_FAIL
