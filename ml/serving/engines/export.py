"""Export a network as ONNX, for ONNX Runtime and OpenVINO."""

import copy
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ml.architectures import Network, Output


class _AsTuple(nn.Module):
    """Returns a plain tuple, as the exporter requires."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(images))


def export_onnx(network: Network, *, size: int, path: Path) -> None:
    """Export for batches of any number of (1, ``size``, ``size``) slices.

    Input ``images``; outputs ``logits``, ``maps``, ``features`` as :class:`Output`. The network
    must be on the CPU in float32.
    """
    settled = copy.deepcopy(network).eval()
    settled.settle(size)
    with warnings.catch_warnings():
        # The tracing exporter is deprecated; the other one needs a further package and has no
        # advantage for a network without branches.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _AsTuple(settled),
            (torch.zeros(1, 1, size, size),),
            str(path),
            input_names=["images"],
            output_names=list(Output._fields),
            dynamic_axes={name: {0: "slices"} for name in ("images", *Output._fields)},
            dynamo=False,
        )
