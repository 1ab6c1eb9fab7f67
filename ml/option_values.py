"""Values of options, checked by their range."""

import argparse
import math
from collections.abc import Callable


def number_between(least: float, greatest: float, what: str) -> Callable[[str], float]:
    """The ``type`` of an option that takes numbers from ``least`` to ``greatest``.

    Args:
        what: what the text is not, where it is refused, such as "number of millimetres".
    """

    def value(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found <= greatest:
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}")
        return found

    return value
