"""3 x 3 convolutions by Winograd's minimal filtering, for processors without bfloat16.

A tile of 4 x 4 results costs 36 products instead of 144 (F(4 x 4, 3 x 3); Lavin and Gray 2016,
CVPR, "Fast Algorithms for Convolutional Neural Networks"), and all of them are one batched matrix
product. torch's own x86 kernels do not use it, and NNPACK only in the forward pass.
`python -m benchmarks.training_step` measures the speed-up. Results differ from torch's only by
rounding, about 1e-5 of the largest value.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The smallest layers whose matrix products outweigh the copies into tiles and back.
_FEWEST_IN = 64
_FEWEST_OUT = 128

_TILE = 4  # side of a tile of results
_SPAN = 6  # side of the input tile for a tile of results

# The transforms of Lavin and Gray 2016, section 4.1, with F(4, 3)'s points 0, 1, -1, 2, -2.
_DATA = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_FILTER = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_RESULT = torch.tensor(
    [[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)
# Both dimensions at once.
_DATA_2D, _FILTER_2D, _RESULT_2D = (torch.kron(one, one) for one in (_DATA, _FILTER, _RESULT))


class WinogradConv2d(nn.Conv2d):
    """A convolution that :func:`quicken` has switched to Winograd's method."""

    def forward(self, input: Tensor) -> Tensor:
        """As in torch; input that is not float32 on the CPU is passed to torch."""
        if input.device.type != "cpu" or input.dtype is not torch.float32:
            return super().forward(input)
        result: Tensor = _Convolution.apply(input, self.weight, self.bias)
        return result


def quicken(network: nn.Module) -> None:
    """Switch the 3 x 3 convolutions with many channels to Winograd's method, in place."""
    for layer in network.modules():
        if type(layer) is nn.Conv2d and _suits(layer):
            layer.__class__ = WinogradConv2d


def slow_down(network: nn.Module) -> None:
    """Undo :func:`quicken`, so that exporters see torch's own layers."""
    for layer in network.modules():
        if type(layer) is WinogradConv2d:
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]


def _suits(layer: nn.Conv2d) -> bool:
    return (
        layer.kernel_size == (3, 3)
        and layer.stride == (1, 1)
        and layer.padding == (1, 1)
        and layer.padding_mode == "zeros"
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.in_channels >= _FEWEST_IN
        and layer.out_channels >= _FEWEST_OUT
    )


class _Convolution(torch.autograd.Function):
    """(N, C, H, W) with weights (K, C, 3, 3) to (N, K, H, W), padded by one; all float32."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        tiles = _tiles(images)
        ctx.save_for_backward(tiles, weight)
        ctx.size = images.shape[2:]
        result = _convolved(tiles, weight, len(images), images.shape[2:])
        return result if bias is None else result + bias[:, None, None]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tiles, weight = ctx.saved_tensors
        images = weights = biases = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3).transpose(0, 1)
            images = _convolved(_tiles(gradient), turned, len(gradient), ctx.size)
        if ctx.needs_input_grad[1]:
            weights = _filter_gradient(tiles, gradient)
        if ctx.needs_input_grad[2]:
            biases = gradient.sum((0, 2, 3))
        return images, weights, biases


def _tiles(images: Tensor) -> Tensor:
    """(N, C, H, W) to (36, tiles, C): overlapping 6 x 6 tiles, transformed."""
    count, channels, height, width = images.shape
    down, across = _tiles_in(height), _tiles_in(width)
    padded = images.new_zeros(count, _TILE * down + 2, _TILE * across + 2, channels)
    padded[:, 1 : height + 1, 1 : width + 1] = images.permute(0, 2, 3, 1)
    image, row, column, _ = padded.stride()
    overlapping = padded.as_strided(
        (_SPAN, _SPAN, count, down, across, channels),
        (row, column, image, _TILE * row, _TILE * column, 1),
    )
    transformed = _DATA_2D @ overlapping.reshape(_SPAN**2, -1)
    return transformed.view(_SPAN**2, -1, channels)


def _convolved(tiles: Tensor, weight: Tensor, count: int, size: torch.Size) -> Tensor:
    """Transformed tiles with weights (K, C, 3, 3) to (N, K, H, W), in channels-last order."""
    height, width = size
    down, across = _tiles_in(height), _tiles_in(width)
    outputs, inputs = weight.shape[:2]
    filters = (_FILTER_2D @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(-1, inputs, outputs)
    products = torch.bmm(tiles, filters)
    results = (_RESULT_2D @ products.view(_SPAN**2, -1)).view(
        _TILE, _TILE, count, down, across, outputs
    )
    whole = results.permute(2, 3, 0, 4, 1, 5).reshape(count, _TILE * down, _TILE * across, outputs)
    return whole[:, :height, :width].permute(0, 3, 1, 2)


def _filter_gradient(tiles: Tensor, gradient: Tensor) -> Tensor:
    """(K, C, 3, 3) from the transformed tiles of the input and the output's gradient."""
    count, outputs, height, width = gradient.shape
    down, across = _tiles_in(height), _tiles_in(width)
    rest = (0, 0, 0, _TILE * across - width, 0, _TILE * down - height)
    padded = F.pad(gradient.permute(0, 2, 3, 1), rest)
    split = padded.reshape(count, down, _TILE, across, _TILE, outputs)
    flat = split.permute(2, 4, 0, 1, 3, 5).reshape(_TILE**2, -1)
    products = torch.bmm(tiles.transpose(1, 2), (_RESULT_2D.T @ flat).view(_SPAN**2, -1, outputs))
    inputs = tiles.shape[2]
    filters = _FILTER_2D.T @ products.view(_SPAN**2, -1)
    return filters.view(3, 3, inputs, outputs).permute(3, 2, 0, 1)


def _tiles_in(length: int) -> int:
    return -(-length // _TILE)
