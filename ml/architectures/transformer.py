"""Vision transformers from timm that average the patch tokens instead of using the class token."""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ml.architectures import library
from ml.architectures.network import IMAGENET_DEVIATION, IMAGENET_MEAN, Network, State, part

_USUAL_SIZE = 224  # px; size of the stored position embeddings, which are resampled for other sizes
_HALF = (0.5, 0.5, 0.5)


class _Patches(nn.Module):
    """Square patches to tokens with position embeddings; the class token comes first."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.embed: nn.Module = whole.patch_embed
        self.whole_token: nn.Parameter = whole.cls_token
        self.positions: nn.Parameter = whole.pos_embed

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images)  # (N, h, w, C)
        first = self.whole_token.expand(images.shape[0], -1, -1)
        tokens = torch.cat([first.to(patches.dtype), patches.flatten(1, 2)], 1)
        return tokens + self._resampled(patches.shape[1:3]).to(tokens.dtype)

    def settle(self, side: int) -> None:
        """Store positions for ``side`` x ``side`` patches, so that none are resampled later."""
        self.positions = nn.Parameter(self._resampled(torch.Size((side, side))).detach())

    def _resampled(self, wanted: torch.Size) -> Tensor:
        """The positions (1, 1 + h * w, C) for another grid of patches."""
        kept = self.positions[:, 1:]
        side = math.isqrt(kept.shape[1])
        if wanted == (side, side):
            return self.positions
        square = kept.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
        resampled = F.interpolate(square, list(wanted), mode="bicubic", antialias=True)
        return torch.cat([self.positions[:, :1], resampled.flatten(2).transpose(1, 2)], 1)


class _Places(nn.Module):
    """Normalised tokens to a square feature map, each at the position of its patch."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tensor) -> Tensor:
        patches: Tensor = self.norm(tokens)[:, 1:]
        side = math.isqrt(patches.shape[1])
        return patches.transpose(1, 2).reshape(tokens.shape[0], -1, side, side)


class _Transformer(Network):
    """``features`` holds the patches, twelve blocks, and the conversion to a feature map."""

    slow = 7
    attends = True
    _name: str
    _words: str

    def __init__(
        self, mean: tuple[float, float, float], deviation: tuple[float, float, float]
    ) -> None:
        whole = self._build()
        super().__init__(
            _layers(whole), whole.num_features, mean=mean, deviation=deviation, dropout=0.2
        )

    def settle(self, size: int) -> None:
        """Keep only the position embeddings for this size."""
        cast(_Patches, self.features[0]).settle(size // self.multiple)

    def published(self) -> tuple[State, str]:
        """The weights of timm."""
        return library.download(self._name), self._words

    def translated(self, state: State) -> State:
        """Map timm's names to those of ``features``; resample positions to the usual size."""
        from timm.models.vision_transformer import checkpoint_filter_fn

        whole = self._build()
        fitting = checkpoint_filter_fn(part(state, ""), whole)
        fitting = {name: value for name, value in fitting.items() if not name.startswith("head.")}
        whole.load_state_dict(fitting)
        return _layers(whole).state_dict()

    def _build(self) -> Any:
        return library.build(self._name, img_size=_USUAL_SIZE, dynamic_img_size=True)


class ViTS16(_Transformer):
    """ViT-S/16 (Dosovitskiy et al. 2021, ICLR; weights of Steiner et al. 2022, TMLR)."""

    multiple = 16
    _name = "vit_small_patch16_224"
    _words = "ImageNet-21k and ImageNet, timm (augreg)"

    def __init__(self) -> None:
        super().__init__(_HALF, _HALF)


class DINOv2S14(_Transformer):
    """ViT-S/14 with the self-supervised weights of DINOv2 (Oquab et al. 2024, TMLR)."""

    multiple = 14
    _name = "vit_small_patch14_dinov2"
    _words = "DINOv2 (LVD-142M, no labels), timm"

    def __init__(self) -> None:
        super().__init__(IMAGENET_MEAN, IMAGENET_DEVIATION)


def _layers(whole: Any) -> nn.Sequential:
    return nn.Sequential(_Patches(whole), *whole.blocks, _Places(whole.norm))
