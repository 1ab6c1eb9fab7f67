"""Choose the serving engine for this machine."""

import importlib.util

import torch

from ml.errors import InvalidModel
from ml.registry import Model
from ml.serving.engines.interface import Engine
from ml.serving.engines.torch_engine import TorchEngine


def choose_engine(model: Model, device: torch.device) -> Engine:
    """The fastest engine whose answers agree with the float32 network.

    On a GPU that is torch in bfloat16. On a CPU it is OpenVINO with 8-bit integers if the model
    has a quantised network, the package is installed and the processor supports it; otherwise
    torch, in bfloat16 or float32.

    Raises:
        InvalidModel: the quantised network cannot be loaded.
    """
    if (
        device.type == "cpu"
        and model.quantised is not None
        and importlib.util.find_spec("openvino") is not None
    ):
        from ml.serving.engines.openvino_engine import OpenVINOEngine, supports_int8

        if supports_int8():
            return OpenVINOEngine(model.quantised, precision="int8")
    return TorchEngine(model.network, device=device, dtype=serving_dtype(device))


def choose_device(wanted: str) -> torch.device:
    """The device; ``auto`` takes a GPU if there is one.

    Raises:
        InvalidModel: ``cuda`` is requested but unavailable.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidModel("A GPU is asked for (cuda), but there is none that torch can use.")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def serving_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the processor supports it natively, otherwise float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32
