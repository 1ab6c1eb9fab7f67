"""Speed of the serving engine beside plain torch in float32, measured in one run."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ml.dataset import Entry, read_manifest
from ml.evaluation import observe
from ml.predictor import Predictor, choose_device, serving_dtype
from ml.registry import load_model

_BATCHES = (1, 8, 32)
_ROUNDS = 7
_MATRIX_SIDE = 2048
CHECK_SLICES = Path(__file__).with_name("samples") / "manifest.csv"


def measure(*, card: Path, device: str, manifest: Path | None) -> dict[str, Any]:
    """Time both engines on the same input, alternating, and compare their answers.

    Returns:
        The figures of the ``bench`` contract. ``matmul_share`` is the rate of the convolutions'
        arithmetic at the largest batch over the measured rate of a large matrix product in the
        serving precision.
    """
    chosen = choose_device(device)
    precision = serving_dtype(chosen)
    baseline = Predictor(load_model(card), device=chosen, dtype=torch.float32)
    serving = Predictor(load_model(card), device=chosen, dtype=precision)
    entries = read_manifest(manifest or CHECK_SLICES)
    engines = []
    latency: dict[tuple[str, int], float] = {}
    for batch in _BATCHES:
        images = torch.rand(batch, 1, serving.size, serving.size, device=chosen)
        timed = _alternate(
            {
                "torch eager float32": _forward(baseline.network, images),
                f"serving ({serving.engine})": _forward(serving.network, images),
            },
            chosen,
        )
        for number, (name, seconds) in enumerate(timed.items()):
            latency["serving" if number else "baseline", batch] = seconds
            engines.append(
                {
                    "name": name,
                    "batch": batch,
                    "images_per_second": batch / seconds,
                    "latency_ms": seconds * 1000,
                }
            )
    largest = _BATCHES[-1]
    achieved = _operations(serving.network, serving.size) * largest / latency["serving", largest]
    return {
        "model": serving.name,
        "threads": torch.get_num_threads(),
        "engines": engines,
        "speedup_batch1": latency["baseline", 1] / latency["serving", 1],
        "accuracy_difference": _accuracy(serving, entries) - _accuracy(baseline, entries),
        "compared_slices": len(entries),
        "matmul_share": achieved / _matrix_rate(chosen, precision),
    }


def _forward(network: nn.Module, images: Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return network(images)

    return run


def _alternate(runs: dict[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """Median seconds of each; taking turns, so that a slow moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(_ROUNDS + 1):
        for name, run in runs.items():
            taken = _seconds(run, device)
            if turn:  # the first round warms up
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _operations(network: nn.Module, size: int) -> float:
    """Floating-point operations of the convolutions for one image, a multiply-add being two."""
    total = 0

    def count(layer: nn.Conv2d, _inputs: object, output: Tensor) -> None:
        nonlocal total
        total += 2 * output[0].numel() * layer.weight[0].numel()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    device = layers[0].weight.device
    with torch.inference_mode():
        network(torch.rand(1, 1, size, size, device=device))
    for hook in hooks:
        hook.remove()
    return float(total)


def _matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """Operations a second of a square matrix product."""
    left = torch.rand(_MATRIX_SIDE, _MATRIX_SIDE, device=device).to(precision)
    right = torch.rand(_MATRIX_SIDE, _MATRIX_SIDE, device=device).to(precision)
    times = [_seconds(lambda: left @ right, device) for _ in range(_ROUNDS + 1)]
    return 2 * _MATRIX_SIDE**3 / statistics.median(times[1:])


def _accuracy(predictor: Predictor, entries: list[Entry]) -> float:
    observed = observe(predictor, entries)
    return sum(one.entry.label is one.result.label for one in observed) / len(observed)
