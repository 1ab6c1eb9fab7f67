"""Operating points: numbers that trade missed tumours for false alarms, kept in a model's card.

They were chosen for what serves, by measuring it. Never imports torch.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ml.errors import InvalidModel

_ENTRY = "operating_points"


@dataclass(frozen=True)
class OperatingPoints:
    """How the answers about a volume's slices become its own; each above 0 and below 1.

    The values here are those of cards that tell none. The probability from which on a slice is
    called no tumour is fitted and stands with the calibration (``no_tumor_from`` of ``doubt``).

    Attributes:
        tumor_share: of a volume's slices, how many are taken to show a tumour before anything is
            known about it (docs/research/notes/0019).
        tumor_share_without_brain: the same of slices without brain.
        neighbour_reach: distance from which on a slice is no neighbour, as a part of the stretch
            that shows brain, of which a tumour mostly reaches through more
            (docs/research/notes/0021).
        brain_from: the head's share of a slice's area, beside the volume's usual one, below which
            skin and bone alone are shown (docs/research/notes/0021).
    """

    tumor_share: float = 0.26
    tumor_share_without_brain: float = 0.001
    neighbour_reach: float = 1 / 16
    brain_from: float = 1 / 3

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> Self:
        """Those of a model's card; what it does not tell has the usual value.

        Raises:
            InvalidModel: one of them is unknown or no number between 0 and 1.
        """
        told = card.get(_ENTRY, {})
        if not isinstance(told, Mapping):
            raise InvalidModel(f"The card's {_ENTRY} are no table.")
        known = {one.name for one in fields(cls)}
        for name, value in told.items():
            if name not in known:
                raise InvalidModel(f"The card's operating point {name} is not known.")
            if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value < 1:
                raise InvalidModel(
                    f"The card's operating point {name} is {value!r}; it must be between 0 and 1."
                )
        return cls(**told)

    def entry(self) -> dict[str, Any]:
        """What :meth:`of_card` reads, to be put into a card."""
        return {_ENTRY: asdict(self)}


USUAL = OperatingPoints()
