"""Losses for the localisation head, from the outlines of tumours."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ml.architectures import LocalisationNetwork
from ml.labels import INDEX, LABELS, Label

ANY_TUMOR = len(LABELS)  # class index of a slice with a tumour whose class is not trained
_NO_TUMOR = INDEX[Label.NO_TUMOR]
_TOUCHED = 0.02  # covered share of a position from which it no longer counts as tumour-free


def coverage(masks: Tensor, places: tuple[int, int]) -> Tensor:
    """Share of each map position that the tumour covers.

    Args:
        masks: (N, 1, S, S) in 0..1, the tumour's mask in the pixels of the input.
        places: (h, w) of the maps.

    Returns:
        (N, h, w) float32 in 0..1.
    """
    return F.adaptive_avg_pool2d(masks.float(), places)[:, 0]


def whole_slice_loss(logits: Tensor, wanted: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy of each slice (N,); for :data:`ANY_TUMOR`, of tumour against no tumour."""
    named = wanted != ANY_TUMOR
    classes = wanted.clamp(max=_NO_TUMOR).where(~named, wanted)
    by_class = F.cross_entropy(logits, classes, label_smoothing=smoothing, reduction="none")
    any_tumor = -torch.log1p(-torch.softmax(logits, 1)[:, _NO_TUMOR].clamp(max=1 - 1e-4))
    return torch.where(named, by_class, any_tumor)


def localisation_loss(maps: Tensor, wanted: Tensor, covered: Tensor) -> Tensor:
    """Cross-entropy of the map positions of each slice (N,).

    The target of a position is its slice's class for the covered share, and no tumour for the
    rest. Tumour positions together weigh as much as all others, so that small tumours count.

    Args:
        maps: (N, 4, h, w) log-odds against no tumour.
        wanted: (N,) class indices, or :data:`ANY_TUMOR`.
        covered: (N, h, w) from :func:`coverage`; zero for slices without a tumour.
    """
    chances = torch.log_softmax(maps, 1)
    # log(1 - p(no tumour)), from the tumour classes only, to avoid a subtraction.
    tumors = [index for index in range(len(LABELS)) if index != _NO_TUMOR]
    any_tumor = torch.logsumexp(maps[:, tumors], 1) - torch.logsumexp(maps, 1)
    choices = torch.cat([chances, any_tumor[:, None]], 1)
    tumor = choices[torch.arange(len(maps)), wanted]
    return -0.5 * (_mean(tumor, covered) + _mean(chances[:, _NO_TUMOR], 1 - covered))


def outside_loss(network: LocalisationNetwork, maps: Tensor, covered: Tensor) -> Tensor:
    """Cross-entropy (N,) of no tumour for the slice without its tumour's positions.

    This turns every slice with a tumour into a tumour-free slice of the same hospital.
    """
    logits = network.pool(maps, covered < _TOUCHED)
    return -torch.log_softmax(logits, 1)[:, _NO_TUMOR]


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    weighted = (values * weights).flatten(1).sum(1)
    return weighted / weights.flatten(1).sum(1).clamp(min=1e-3)
