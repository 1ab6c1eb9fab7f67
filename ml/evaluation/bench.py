"""Speed of the serving engine beside others, measured in one run on the same slices."""

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ml.dataset import Entry, read_manifest
from ml.evaluation.evaluation import count_same_label, observe
from ml.registry import load_model
from ml.serving.engines import Engine, TorchEngine, choose_device, choose_engine, serving_dtype
from ml.serving.predictor import Predictor

_BATCHES = (1, 8, 32)
_ROUNDS = 7
_MATRIX_SIDE = 2048
CHECK_SLICES = Path(__file__).parents[1] / "samples" / "manifest.csv"


def measure(*, card: Path, device: str, manifest: Path | None) -> dict[str, Any]:
    """Time all engines on the same input, taking turns, and compare their answers.

    Returns:
        The figures of the ``bench`` contract. ``matmul_share`` is the rate of the convolutions'
        arithmetic in the serving engine at the largest batch over the measured rate of a large
        matrix product in bfloat16, or in float32 where the processor has no bfloat16.
    """
    chosen = choose_device(device)
    model = load_model(card)
    size = int(model.card["input"]["size"])
    serving = choose_engine(model, chosen)
    entries = read_manifest(manifest or CHECK_SLICES)
    rows: list[dict[str, Any]] = []
    with _others(card, chosen, size) as others:
        baseline = others[0]
        engines = [*others, *([] if serving.name in {one.name for one in others} else [serving])]
        for batch in _BATCHES:
            images = np.random.default_rng(0).random((batch, 1, size, size), np.float32)
            runs = {engine.name: partial(engine.run, images) for engine in engines}
            for name, seconds in alternate(runs, rounds=_ROUNDS).items():
                median = statistics.median(seconds)
                rows.append(_row(name, batch, median, serving=name == serving.name))
        latency = {(row["name"], row["batch"]): row["latency_ms"] / 1000 for row in rows}
        largest = _BATCHES[-1]
        work = _operations(model.network, size) * largest
        return {
            "model": model.name,
            "threads": torch.get_num_threads(),
            "engines": rows,
            "speedup_batch1": latency[baseline.name, 1] / latency[serving.name, 1],
            **_agreement(Predictor(model, serving), Predictor(model, baseline), entries),
            "matmul_share": work / latency[serving.name, largest] / _matrix_rate(chosen),
        }


@contextmanager
def _others(card: Path, device: torch.device, size: int) -> Iterator[list[Engine]]:
    """torch eager in float32 first, then every other engine that is installed.

    Each torch engine has a network of its own: it changes its network's precision.
    """
    engines: list[Engine] = [_torch(card, device, torch.float32)]
    if serving_dtype(device) is not torch.float32:
        engines.append(_torch(card, device, serving_dtype(device)))
    with tempfile.TemporaryDirectory() as folder:
        if device.type == "cpu":
            engines += _exported(card, size, Path(folder) / "network.onnx")
        yield engines


def _torch(card: Path, device: torch.device, dtype: torch.dtype) -> Engine:
    return TorchEngine(load_model(card).network, device=device, dtype=dtype)


def _exported(card: Path, size: int, path: Path) -> list[Engine]:
    from ml.serving.engines.export import export_onnx

    engines: list[Engine] = []
    if not _installed("onnx"):
        return engines
    export_onnx(load_model(card).network, size=size, path=path)
    if _installed("onnxruntime"):
        from ml.serving.engines.onnx_engine import ONNXRuntimeEngine

        engines.append(ONNXRuntimeEngine(path))
    if _installed("openvino"):
        from ml.serving.engines.openvino_engine import OpenVINOEngine

        precision = str(serving_dtype(torch.device("cpu"))).removeprefix("torch.")
        engines.append(OpenVINOEngine(path, precision=precision))
    return engines


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _row(name: str, batch: int, seconds: float, *, serving: bool) -> dict[str, Any]:
    return {
        "name": name,
        "serving": serving,
        "batch": batch,
        "images_per_second": batch / seconds,
        "latency_ms": seconds * 1000,
    }


def alternate(runs: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each in every round; taking turns, so that a slow moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if turn:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _operations(network: nn.Module, size: int) -> float:
    """Floating-point operations of the convolutions for one image, a multiply-add being two."""
    total = 0

    def count(layer: nn.Conv2d, _inputs: object, output: Tensor) -> None:
        nonlocal total
        total += 2 * output[0].numel() * layer.weight[0].numel()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        network(torch.rand(1, 1, size, size, device=layers[0].weight.device))
    for hook in hooks:
        hook.remove()
    return float(total)


def _matrix_rate(device: torch.device) -> float:
    """Operations a second of a square matrix product in the best floating-point precision."""
    precision = serving_dtype(device)
    left = torch.rand(_MATRIX_SIDE, _MATRIX_SIDE, device=device).to(precision)
    right = torch.rand(_MATRIX_SIDE, _MATRIX_SIDE, device=device).to(precision)

    def product() -> Tensor:
        result = left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result

    return 2 * _MATRIX_SIDE**3 / _median_seconds(product)


def _median_seconds(run: Callable[[], object]) -> float:
    return statistics.median(alternate({"": run}, rounds=_ROUNDS)[""])


def _agreement(
    serving: Predictor, baseline: Predictor, entries: Sequence[Entry]
) -> dict[str, float | int]:
    said, expected = observe(serving, entries), observe(baseline, entries)
    right = sum(one.right for one in said)
    right_before = sum(one.right for one in expected)
    return {
        "accuracy_difference": (right - right_before) / len(said),
        "same_label": count_same_label(said, expected) / len(said),
        "compared_slices": len(said),
    }
