"""Operating points: parameters in a model's card that trade missed tumours for false alarms.

The defaults were chosen by measurements on the serving model. Never imports torch.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ml.errors import InvalidModel

_ENTRY = "operating_points"


@dataclass(frozen=True)
class OperatingPoints:
    """Parameters for combining a volume's slices into its answer; each above 0 and below 1.

    The defaults apply to cards without these entries. The threshold from which a slice is
    classified as no tumour is fitted and stored with the calibration (``no_tumor_from`` of
    ``doubt``).

    Attributes:
        tumor_share: prior share of a volume's slices that show a tumour
            (docs/research/notes/0019).
        tumor_share_without_brain: the same for slices without brain.
        neighbour_reach: distance beyond which a slice is no neighbour, as a fraction of the
            extent that shows brain; most tumours extend farther (docs/research/notes/0021).
        brain_from: the head's share of a slice's area, relative to the volume's usual share,
            below which only skin and bone are visible (docs/research/notes/0021).
    """

    tumor_share: float = 0.26
    tumor_share_without_brain: float = 0.001
    neighbour_reach: float = 1 / 16
    brain_from: float = 1 / 3

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> Self:
        """The operating points of a model's card; missing ones take their defaults.

        Raises:
            InvalidModel: one of them is unknown or not a number between 0 and 1.
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
        """The entry for a card, as :meth:`of_card` reads it."""
        return {_ENTRY: asdict(self)}


USUAL = OperatingPoints()
