"""The average of the weights begins with the first ones and slows down as the run grows."""

import pytest
import torch

from ml.training.averaging import MovingAverage
from tests.narrow import Narrow


def test_average_follows_its_formula_and_goes_on_where_it_stopped() -> None:
    network = Narrow()
    whole = MovingAverage(network, 0.25)
    expected = network.head.bias.detach().clone()
    for step in range(1, 5):
        with torch.no_grad():
            network.head.bias.fill_(float(step))
        if step == 3:
            resumed = MovingAverage(network, 0.25)
            resumed.resume(whole.network.state_dict(), 2)
            whole = resumed
        whole.update(network)
        kept = min(0.25, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * step
        torch.testing.assert_close(whole.network.head.bias, expected)
    assert network.head.bias[0].item() == pytest.approx(4)
    assert not whole.network.training
