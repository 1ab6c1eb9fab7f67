"""Networks like those that ship, but narrow enough to train in a moment."""

import pytest
import torch
from torch import nn

from ml.architectures import ARCHITECTURES, Architecture, Network, VGG16Localisation
from ml.labels import LABELS

_WIDTH = 16


class Narrow(Network):
    """Two convolutions, average pooling, one linear layer."""

    multiple = 16
    slow = 2

    def __init__(self) -> None:
        half = (0.5, 0.5, 0.5)
        super().__init__(_layers(), _WIDTH, mean=half, deviation=half, dropout=0.0)


class NarrowLocalisation(VGG16Localisation):
    """The same two convolutions under the head that judges places."""

    slow = 2

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.features = _layers()
        self.head = nn.Linear(_WIDTH, len(LABELS))
        nn.init.constant_(self.scale, 2.0)


class NarrowUneven(Narrow):
    """One place of its map is so large that 8-bit integers leave nothing of the others.

    Its layers are to be frozen: what lies there would not stay.
    """

    def __init__(self) -> None:
        super().__init__()
        first, _relu, second, _last = self.features
        with torch.no_grad():
            first.weight[0], first.bias[0] = 0, 6e4
            second.weight[:, 0] = 0


def register(patch: pytest.MonkeyPatch) -> None:
    """Make them known as ``narrow``, ``narrow-localisation`` and ``narrow-uneven``."""
    known = (
        ("narrow", Narrow),
        ("narrow-localisation", NarrowLocalisation),
        ("narrow-uneven", NarrowUneven),
    )
    for name, build in known:
        patch.setitem(ARCHITECTURES, name, Architecture(name, name, build))


def _layers() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, _WIDTH, 5, stride=4, padding=2),
        nn.ReLU(),
    )
