"""A moving average of the weights, which answers better than the weights of any one step."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ml.architectures import Network
from ml.architectures.network import State


class MovingAverage:
    """The exponential moving average of a network's weights; it begins with those it has.

    It is faster while the run is young, after n steps ``(1 + n) / (10 + n)``. Statistics of batches
    are running averages already and are taken as they are.

    Attributes:
        network: with the averaged weights, in evaluation mode.
    """

    def __init__(self, network: Network, most: float) -> None:
        """Average ``network``, of which each step keeps ``most`` at most, in 0..1."""
        self._most = most
        self._model = AveragedModel(network, multi_avg_fn=self._average)
        self._count(0)
        self.network = cast(Network, self._model.module).eval()

    def update(self, network: Network) -> None:
        """Take the weights of ``network`` after one more step into the average."""
        self._model.update_parameters(network)

    def resume(self, state: State, steps: int) -> None:
        """Go on from the averaged weights ``state`` after so many steps."""
        self.network.load_state_dict(state)
        self._count(steps)

    def _count(self, done: int) -> None:
        # At 0 torch would take the first weights as they are, instead of averaging them in.
        self._model.n_averaged.fill_(done + 1)

    def _average(
        self, averaged: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int
    ) -> None:
        steps = int(count)
        kept = min(self._most, (1 + steps) / (10 + steps))
        get_ema_multi_avg_fn(kept)(averaged, weights, count)  # type: ignore[no-untyped-call]
