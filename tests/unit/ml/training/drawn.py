"""Slices that are drawn: round heads, and a spot for a tumour."""

import torch
from torch import Tensor

SIZE = 64


def heads(n: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    head = ((rows - 31.5) ** 2 + (columns - 31.5) ** 2 < 28**2).float() * 0.4
    return head.expand(n, 1, SIZE, SIZE).clone()


def with_spot(images: Tensor, number: int, row: int, column: int) -> Tensor:
    """Paint a bright square; returns its mask, zero for all other slices."""
    masks = torch.zeros_like(images)
    masks[number, 0, row : row + 10, column : column + 10] = 1
    images[masks > 0] = 1.0
    return masks


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
