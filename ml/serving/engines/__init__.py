"""Inference engines: one network on several runtimes, behind one small interface."""

from ml.serving.engines.choice import choose_device, choose_engine, serving_dtype
from ml.serving.engines.interface import Engine
from ml.serving.engines.torch_engine import TorchEngine

__all__ = ["Engine", "TorchEngine", "choose_device", "choose_engine", "serving_dtype"]
