"""Cost of a network: parameters, operations, processor time."""

import time
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ml.architectures import Network

_ROUNDS = 20


@dataclass(frozen=True)
class Cost:
    """Cost of one slice at one size.

    Attributes:
        parameters: number of weights.
        operations: floating-point operations; a multiply-add counts as two.
        cpu_seconds: processor time of a float32 pass, summed over all threads.
    """

    parameters: int
    operations: int
    cpu_seconds: float


@torch.inference_mode()
def measure_cost(network: Network, size: int) -> Cost:
    """Measure on the CPU with one slice; the minimum of several rounds, as noise only adds time."""
    network = network.cpu().eval()
    images = torch.rand(1, 1, size, size)
    # The counter supports attention as matrix products, not the CPU's fused kernel.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(images)
    seconds = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        network(images)
        seconds.append(time.process_time() - started)
    return Cost(
        parameters=sum(one.numel() for one in network.parameters()),
        operations=int(counter.get_total_flops()),
        cpu_seconds=min(seconds),
    )
