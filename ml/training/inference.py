"""Inference on many slices, in the precision of training."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ml.architectures import Network
from ml.serving.engines import serving_dtype


@dataclass(frozen=True)
class Logits:
    """Outputs for many slices: logits (N, 4) and features (N, C), float32."""

    logits: Tensor
    features: Tensor


@torch.inference_mode()
def forward_all(
    network: Network, images: Tensor, *, skipped: int = 0, batch: int = 32, exact: bool = False
) -> Logits:
    """Run prepared images (N, 1, S, S) through ``network`` on its device.

    Args:
        skipped: number of first layers to skip; ``images`` is then their output.
        exact: use float32 even where training uses bfloat16.
    """
    device = next(network.parameters()).device
    logits, features = [], []
    with nullcontext() if exact else mixed_precision(device):
        for start in range(0, len(images), batch):
            chosen = images[start : start + batch].to(device, torch.float32)
            output = network(chosen, skipped)
            logits.append(output.logits.float().cpu())
            features.append(output.features.float().cpu())
    return Logits(torch.cat(logits), torch.cat(features))


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 if the processor supports it natively; emulation is many times slower."""
    native = serving_dtype(device) is torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)
