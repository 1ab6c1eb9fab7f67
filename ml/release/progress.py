"""Where long work stands: bars on a terminal, words for a page, and an end where it is wanted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from ml.errors import Cancelled

# (step, done, total, figures): the step's name, and what is known by now.
OnProgress = Callable[[str, int, int, Mapping[str, Any]], None]


def _nothing(_step: str, _done: int, _total: int, _figures: Mapping[str, Any]) -> None:
    """Nobody wants to know."""


def _never() -> bool:
    return False


@dataclass
class Progress:
    """Tells how far work is, and stops it between two steps.

    Attributes:
        on_progress: told after each piece of work.
        cancelled: asked after each piece of work.
    """

    on_progress: OnProgress = _nothing
    cancelled: Callable[[], bool] = _never
    _bar: "tqdm[Any] | None" = field(default=None, init=False)
    _name: str = field(default="", init=False)
    _figures: dict[str, Any] = field(default_factory=dict, init=False)

    def step(self, name: str) -> Callable[[int, int], None]:
        """To be told (done, total) of a step's pieces."""

        def told(done: int, total: int) -> None:
            self.tell(name, done, total)

        return told

    def tell(self, name: str, done: int, total: int, **figures: Any) -> None:
        """A piece of the step ``name`` is done.

        Args:
            figures: what is known by now; they stay known.

        Raises:
            Cancelled: the work is not wanted any more.
        """
        self._figures |= figures
        if self._bar is None or self._name != name:
            self.close()
            self._bar, self._name = tqdm(total=total, desc=name, disable=None), name
        self._bar.update(done - self._bar.n)
        if done >= total:
            self.close()
        self.on_progress(name, done, total, dict(self._figures))
        if self.cancelled():
            self.close()
            raise Cancelled("The work was cancelled; what is finished is kept.")

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
