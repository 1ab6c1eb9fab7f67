"""ResNet (He et al. 2016, CVPR), by torchvision."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, resnet18, resnet50

from ml.architectures.network import IMAGENET_DEVIATION, IMAGENET_MEAN, Network, State, part


class _ResNet(Network):
    """Stem and residual blocks in order; the field is 1/32 of the slice's size, rounded up."""

    multiple = 16

    def __init__(self, build: Callable[[], Any], weights: Any) -> None:
        whole = build()
        super().__init__(
            _layers(whole),
            whole.fc.in_features,
            mean=IMAGENET_MEAN,
            deviation=IMAGENET_DEVIATION,
            dropout=0.2,
        )
        self._build, self._weights = build, weights

    def published(self) -> tuple[State, str]:
        """The weights of torchvision."""
        state: State = self._weights.get_state_dict(progress=True)
        return state, f"ImageNet, torchvision ({self._weights.name})"

    def translated(self, state: State) -> State:
        """Map torchvision's names to those of ``features``."""
        whole = self._build()
        whole.fc = nn.Identity()
        layers = {name: value for name, value in state.items() if not name.startswith("fc.")}
        whole.load_state_dict(part(layers, ""))
        return _layers(whole).state_dict()


class ResNet18(_ResNet):
    """ResNet-18; ``features`` holds four layers of the stem and eight blocks."""

    slow = 8

    def __init__(self) -> None:
        super().__init__(resnet18, ResNet18_Weights.IMAGENET1K_V1)


class ResNet50(_ResNet):
    """ResNet-50; ``features`` holds four layers of the stem and sixteen blocks."""

    slow = 11

    def __init__(self) -> None:
        super().__init__(resnet50, ResNet50_Weights.IMAGENET1K_V2)


def _layers(whole: Any) -> nn.Sequential:
    blocks = [*whole.layer1, *whole.layer2, *whole.layer3, *whole.layer4]
    return nn.Sequential(whole.conv1, whole.bn1, whole.relu, whole.maxpool, *blocks)
