"""Networks by name. Each turns prepared slices into logits, class maps and features at once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16

from ml.errors import InvalidModel
from ml.labels import INDEX, LABELS, Label

# VGG16_Weights.IMAGENET1K_FEATURES: RGB in 0..1 minus this mean, divided by 1/255.
_VGG_MEAN = (0.48235, 0.45882, 0.40784)
_VGG_SCALE = 255.0

_NO_TUMOR = INDEX[Label.NO_TUMOR]
# A tumour covers about a tenth of the slice; training refines it.
_USUAL_BALANCE = 2.3
_NEVER = -30.0  # log-odds of a place that does not count


class Output(NamedTuple):
    """One forward pass.

    Attributes:
        logits: (N, 4), in the order of :data:`ml.labels.LABELS`.
        maps: (N, 4, h, w), each class's activation map. The logits are pooled from it by a
            formula without weights, so the map says exactly which places spoke for the class.
        features: (N, 512), pooled features, for the distance to the training data.
    """

    logits: Tensor
    maps: Tensor
    features: Tensor


class VGG16GAP(nn.Module):
    """VGG16's convolutions (Simonyan and Zisserman 2015), global average pooling, one linear layer.

    The last max-pooling is left out, so that the maps measure 11 x 11 at 176 px. With average
    pooling before one linear layer the class-activation map is exact (Zhou et al. 2016, CVPR,
    "Learning Deep Features for Discriminative Localization"): its mean plus the head's bias is
    the logit.
    """

    mean: Tensor
    features: nn.Sequential

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.features = vgg16().features[:-1]
        self.dropout: nn.Module = nn.Dropout(dropout)
        self.head = nn.Linear(512, len(LABELS))
        self.register_buffer("mean", torch.tensor(_VGG_MEAN).view(1, 3, 1, 1), persistent=False)

    def field(self, images: Tensor) -> Tensor:
        """The last feature map, (N, 512, H / 16, W / 16)."""
        # The convolutions may lie in half precision; the subtraction needs float32.
        precision = next(self.features.parameters()).dtype
        normalised = ((images - self.mean) * _VGG_SCALE).to(precision)
        field: Tensor = self.features(normalised.contiguous(memory_format=torch.channels_last))
        return field

    def forward(self, images: Tensor) -> Output:
        """``images``: (N, 1, H, W) prepared slices in 0..1; H and W multiples of 16."""
        field = self.field(images)
        pooled = field.float().mean((2, 3))
        logits = self.head(self.dropout(pooled))
        maps = torch.einsum("nchw,kc->nkhw", field, self.head.weight.to(field.dtype))
        return Output(logits, maps, pooled)

    @torch.no_grad()
    def shift(self, offsets: Tensor) -> None:
        """Add (4,) offsets to the logits of every slice, up to a constant for all classes."""
        self.head.bias.add_(offsets)

    def parameter_groups(
        self, *, head_rate: float, body_rate: float, frozen: int
    ) -> list[dict[str, object]]:
        """Learning rates: the head's, the convolutions', and none for the first ``frozen`` layers.

        Edges and bars look the same in photographs and in MRI, and the first blocks at full
        resolution are the dearest to train. Block 1 ends with layer 5, block 2 with layer 10.
        """
        body = list(self.features.children())
        for parameter in nn.Sequential(*body[:frozen]).parameters():
            parameter.requires_grad_(False)
        return [
            {"params": list(self.head.parameters()), "lr": head_rate},
            {"params": list(nn.Sequential(*body[17:]).parameters()), "lr": body_rate},
            {"params": list(nn.Sequential(*body[frozen:17]).parameters()), "lr": body_rate / 2},
        ]

    def start_from(self, source: str) -> None:
        """Load the convolutions: ``imagenet`` (torchvision's download), ``scratch`` or a file.

        A file that holds a head as well gives its head.


        Raises:
            InvalidModel: the file is missing or does not hold VGG16's convolutions.
        """
        if source == "scratch":
            return
        if source == "imagenet":
            state = VGG16_Weights.IMAGENET1K_FEATURES.get_state_dict(progress=True)
        else:
            state = _read_weights(Path(source))
        try:
            self.features.load_state_dict(_part(state, "features."))
            if head := _part(state, "head."):
                self.head.load_state_dict(head)
        except RuntimeError as error:
            raise InvalidModel(f"{source} does not hold VGG16's convolutions.") from error


class VGG16Odds(VGG16GAP):
    """VGG16's convolutions and one linear layer that judges every place of the slice by itself.

    Each class's map is its log-odds against no tumour at a place; the odds of the whole slice are
    the mean of the odds of its places, times one factor a class (``balance``). No tumour needs no
    evidence of its own: it is what remains where no place speaks for a tumour. So tissue outside
    a tumour's outline teaches the network what tumour-free tissue of the same hospital looks
    like, and a hospital's look alone cannot tell for or against a tumour. Pooling by the
    logarithm of the mean of exponentials: Pinheiro and Collobert 2015 (CVPR), "From Image-level
    to Pixel-level Labeling with Convolutional Networks".
    """

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.balance = nn.Parameter(torch.full((len(LABELS),), _USUAL_BALANCE))

    def forward(self, images: Tensor) -> Output:
        """``images``: (N, 1, H, W) prepared slices in 0..1; H and W multiples of 16."""
        field = self.field(images)
        pooled = field.float().mean((2, 3))
        weight = self.head.weight.to(field.dtype)[:, :, None, None]
        scores = F.conv2d(self.dropout(field), weight).float()
        scores = scores + self.head.bias.float()[:, None, None]
        maps = scores - scores[:, _NO_TUMOR, None]
        return Output(self.pool(maps), maps, pooled)

    def pool(self, maps: Tensor, where: Tensor | None = None) -> Tensor:
        """Logits (N, 4) of whole slices from their maps.

        Args:
            maps: (N, 4, h, w) log-odds.
            where: (N, h, w) bool, the places that count; all without it. A slice with no such
                place counts as free of tumour.
        """
        places = maps.flatten(2)
        if where is None:
            count = places.new_tensor(float(places.shape[2]))
        else:
            inside = where.flatten(1)[:, None]
            places = places.masked_fill(~inside, _NEVER)
            count = inside.sum(2).clamp(min=1).to(maps.dtype)
        tumors = places.logsumexp(2) - count.log() + self.balance
        return tumors * self._is_tumor

    @torch.no_grad()
    def shift(self, offsets: Tensor) -> None:
        """As for :class:`VGG16GAP`; the maps stay as they are."""
        self.balance.add_(offsets - offsets[_NO_TUMOR])

    def start_from(self, source: str) -> None:
        """As for :class:`VGG16GAP`; a file of this architecture gives its balance as well.

        Raises:
            InvalidModel: the file is missing or does not fit.
        """
        super().start_from(source)
        if source in {"scratch", "imagenet"}:
            return
        balance = _read_weights(Path(source)).get("balance")
        if balance is not None and balance.shape == self.balance.shape:
            self.balance = nn.Parameter(balance.float())

    def parameter_groups(
        self, *, head_rate: float, body_rate: float, frozen: int
    ) -> list[dict[str, object]]:
        """As for :class:`VGG16GAP`, and ten times the head's rate for the few large balances."""
        groups = super().parameter_groups(head_rate=head_rate, body_rate=body_rate, frozen=frozen)
        return [*groups, {"params": [self.balance], "lr": 10 * head_rate, "weight_decay": 0.0}]

    @property
    def _is_tumor(self) -> Tensor:
        mask = torch.ones_like(self.balance)
        mask[_NO_TUMOR] = 0
        return mask.detach()


@dataclass(frozen=True)
class Architecture:
    """A network by name."""

    name: str
    build: Callable[[], VGG16GAP]


ARCHITECTURES: dict[str, Architecture] = {
    "vgg16-gap": Architecture("vgg16-gap", VGG16GAP),
    "vgg16-odds": Architecture("vgg16-odds", VGG16Odds),
}


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)}


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"{path} cannot be read as safetensors.") from error
