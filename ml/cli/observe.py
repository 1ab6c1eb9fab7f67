"""The command ``observe``: what a model makes of the reference set, to watch for drift."""

import argparse
from pathlib import Path
from typing import Any


def add_observe(commands: Any) -> None:
    """Add ``observe`` to the commands of ``python -m ml``."""
    observe = commands.add_parser(
        "observe",
        help="write what a model makes of the reference set beside its card, to watch for drift",
        description="Figures of pictures and features, and the reliability of the probabilities. "
        "The portal compares the first weeks of an installation with it.",
    )
    observe.add_argument("--model", type=Path, metavar="CARD.json", help="another model's card")
    observe.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    observe.add_argument("--out", type=Path, metavar="FILE.json", help="instead of beside the card")
    observe.set_defaults(run=_observe)


def _observe(options: argparse.Namespace) -> int:
    from ml.dataset.reference import read_reference
    from ml.evaluation.observing import observe_reference, observed_path, write_observed
    from ml.registry import SERVING
    from ml.serving.predictor import Predictor

    card = options.model or SERVING
    predictor = Predictor.load(card, device=options.device)
    observed = observe_reference(predictor, read_reference().slices)
    path = options.out or observed_path(card)
    write_observed(observed, path)
    print(path)
    return 0
