"""Networks by name. Each turns prepared slices into logits, class maps and features at once."""

from collections.abc import Callable
from dataclasses import dataclass

from ml.architectures.efficientnet import EfficientNetLite0
from ml.architectures.network import Network, Output
from ml.architectures.resnet import ResNet18, ResNet50
from ml.architectures.transformer import DINOv2S14, ViTS16
from ml.architectures.vgg import (
    VGG16GAP,
    LocalisationNetwork,
    VGG16Flatten,
    VGG16Localisation,
    VGG16Twofold,
    tumor_by_localisation,
)


@dataclass(frozen=True)
class Architecture:
    """A network by name.

    Attributes:
        title: its name in tables.
    """

    name: str
    title: str
    build: Callable[[], Network]


# Cards and recipes hold these names, so they stay: vgg16-odds is the one with a localisation head.
ARCHITECTURES: dict[str, Architecture] = {
    one.name: one
    for one in (
        Architecture("vgg16-gap", "VGG16, global average", VGG16GAP),
        Architecture("vgg16-odds", "VGG16, localisation head", VGG16Localisation),
        Architecture("vgg16-twofold", "VGG16, whole and localisation head", VGG16Twofold),
        Architecture("vgg16-flatten", "VGG16, flattened 512-unit head", VGG16Flatten),
        Architecture("resnet18", "ResNet-18", ResNet18),
        Architecture("resnet50", "ResNet-50", ResNet50),
        Architecture("vit-s16", "ViT-S/16", ViTS16),
        Architecture("dinov2-s14", "DINOv2 ViT-S/14", DINOv2S14),
        Architecture("efficientnet-lite0", "EfficientNet-Lite0", EfficientNetLite0),
    )
}

__all__ = [
    "ARCHITECTURES",
    "VGG16GAP",
    "Architecture",
    "LocalisationNetwork",
    "Network",
    "Output",
    "VGG16Flatten",
    "VGG16Localisation",
    "VGG16Twofold",
    "tumor_by_localisation",
]
