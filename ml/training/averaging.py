"""A moving average of the weights, which is more accurate than the weights of a single step."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ml.architectures import Network
from ml.architectures.network import State


class MovingAverage:
    """The exponential moving average of a network's weights, starting from the current ones.

    Early in the run the decay is smaller: ``(1 + n) / (10 + n)`` after n steps. Batch statistics
    are running averages already and are copied.

    Attributes:
        network: with the averaged weights, in evaluation mode.
    """

    def __init__(self, network: Network, most: float) -> None:
        """Average ``network`` with a decay of at most ``most``, in 0..1."""
        self._most = most
        self._model = AveragedModel(network, multi_avg_fn=self._average)
        self._count(0)
        self.network = cast(Network, self._model.module).eval()

    def update(self, network: Network) -> None:
        """Add the weights of ``network`` after one more step to the average."""
        self._model.update_parameters(network)

    def resume(self, state: State, steps: int) -> None:
        """Continue from the averaged weights ``state`` after ``steps`` steps."""
        self.network.load_state_dict(state)
        self._count(steps)

    def _count(self, done: int) -> None:
        # At 0 torch would copy the first weights instead of averaging them.
        self._model.n_averaged.fill_(done + 1)

    def _average(
        self, averaged: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int
    ) -> None:
        steps = int(count)
        kept = min(self._most, (1 + steps) / (10 + steps))
        get_ema_multi_avg_fn(kept)(averaged, weights, count)  # type: ignore[no-untyped-call]
