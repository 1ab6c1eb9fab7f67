"""Networks by name. Each turns prepared slices into logits, class maps and features at once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16

from ml.errors import InvalidModel
from ml.labels import LABELS

# VGG16_Weights.IMAGENET1K_FEATURES: RGB in 0..1 minus this mean, divided by 1/255.
_VGG_MEAN = (0.48235, 0.45882, 0.40784)
_VGG_SCALE = 255.0


class Output(NamedTuple):
    """One forward pass.

    Attributes:
        logits: (N, 4), in the order of :data:`ml.labels.LABELS`.
        maps: (N, 4, h, w), each class's activation map; its mean plus the head's bias is the
            logit, so the map says exactly which places spoke for the class.
        features: (N, 512), pooled features, for the distance to the training data.
    """

    logits: Tensor
    maps: Tensor
    features: Tensor


class VGG16GAP(nn.Module):
    """VGG16's convolutions (Simonyan and Zisserman 2015), global average pooling, one linear layer.

    The last max-pooling is left out, so that the maps measure 11 x 11 at 176 px. With average
    pooling before one linear layer the class-activation map is exact (Zhou et al. 2016, CVPR,
    "Learning Deep Features for Discriminative Localization").
    """

    mean: Tensor
    features: nn.Sequential

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.features = vgg16().features[:-1]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(512, len(LABELS))
        self.register_buffer("mean", torch.tensor(_VGG_MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Output:
        """``images``: (N, 1, H, W) prepared slices in 0..1; H and W multiples of 16."""
        # The convolutions may lie in half precision; the subtraction needs float32.
        precision = next(self.features.parameters()).dtype
        normalised = ((images - self.mean) * _VGG_SCALE).to(precision)
        field = self.features(normalised.contiguous(memory_format=torch.channels_last))
        pooled = field.float().mean((2, 3))
        logits = self.head(self.dropout(pooled))
        maps = torch.einsum("nchw,kc->nkhw", field, self.head.weight.to(field.dtype))
        return Output(logits, maps, pooled)

    def parameter_groups(self, *, head_rate: float, body_rate: float) -> list[dict[str, object]]:
        """Learning rates: the head's, the convolutions', and none for the first block.

        Edges and bars look the same in photographs and in MRI, and the first block at full
        resolution is the dearest to train.
        """
        body = list(self.features.children())
        for parameter in nn.Sequential(*body[:5]).parameters():
            parameter.requires_grad_(False)
        return [
            {"params": list(self.head.parameters()), "lr": head_rate},
            {"params": list(nn.Sequential(*body[17:]).parameters()), "lr": body_rate},
            {"params": list(nn.Sequential(*body[5:17]).parameters()), "lr": body_rate / 2},
        ]

    def start_from(self, source: str) -> None:
        """Load the convolutions: ``imagenet`` (torchvision's download), ``scratch`` or a file.

        Raises:
            InvalidModel: the file is missing or does not hold VGG16's convolutions.
        """
        if source == "scratch":
            return
        if source == "imagenet":
            state = VGG16_Weights.IMAGENET1K_FEATURES.get_state_dict(progress=True)
        else:
            state = _read_weights(Path(source))
        convolutions = {k: v.float() for k, v in state.items() if k.startswith("features.")}
        try:
            self.features.load_state_dict(
                {k.removeprefix("features."): v for k, v in convolutions.items()}
            )
        except RuntimeError as error:
            raise InvalidModel(f"{source} does not hold VGG16's convolutions.") from error


@dataclass(frozen=True)
class Architecture:
    """A network by name."""

    name: str
    build: Callable[[], VGG16GAP]


ARCHITECTURES: dict[str, Architecture] = {
    "vgg16-gap": Architecture("vgg16-gap", VGG16GAP),
}


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"{path} cannot be read as safetensors.") from error
