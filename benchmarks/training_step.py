"""Time of one training step of a VGG16, with torch's convolutions and with our Winograd ones.

    python -m benchmarks.training_step

Both are measured alternately in one run; compare the ratio of the medians. On processors with
bfloat16, training does not use ours even with --winograd, so the ratio does not apply there.
"""

import argparse
import statistics
import time

import torch

from ml.architectures import VGG16GAP
from ml.training.winograd import quicken, slow_down


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=176, help="px (%(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="slices (%(default)s)")
    parser.add_argument("--frozen", type=int, default=10, help="first layers (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = VGG16GAP().to(memory_format=torch.channels_last)
    network.parameter_groups(head_rate=1e-3, body_rate=1e-4, frozen=options.frozen)
    network.train()
    images = torch.rand(options.batch, 1, options.size, options.size)
    seconds: dict[str, list[float]] = {"torch": [], "winograd": []}
    for round_number in range(options.rounds + 1):
        for name, change in (("torch", slow_down), ("winograd", quicken)):
            change(network)
            taken = _step(network, images)
            if round_number:  # the first round is a warm-up
                seconds[name].append(taken)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:10} {median:6.2f} s a step of {options.batch} slices at {options.size} px")
    print(f"winograd is {medians['torch'] / medians['winograd']:.2f} times as fast")


def _step(network: VGG16GAP, images: torch.Tensor) -> float:
    started = time.perf_counter()
    network.zero_grad()
    network(images).logits.square().mean().backward()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
