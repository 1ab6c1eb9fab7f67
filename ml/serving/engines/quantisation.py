"""Networks in 8-bit integers: by NNCF when a model is packaged, or one that gets another head."""

import os
import tempfile
from pathlib import Path

import openvino as ov
import openvino.opset13 as ops
from torch import Tensor

from ml.architectures import Network
from ml.serving.engines.export import export_onnx

_CALIBRATION_SLICES = 300


def quantise(network: Network, images: Tensor, path: Path) -> None:
    """Write ``path`` (``.xml``) and its weights beside it (``.bin``).

    Weights become symmetric 8-bit integers per channel, activations asymmetric ones, with ranges
    from training slices (Nagel et al. 2021, "A White Paper on Neural Network Quantization").
    Pooling of the maps and the probabilities stay in floating point. For transformers NNCF keeps
    sensitive parts of attention and normalisation in floating point; by the rules for convolutions
    only a quarter of their answers stayed the same (docs/research/notes/0023).

    Args:
        images: (N, 1, S, S) in 0..1, prepared training slices; an evenly spaced subset is used.
    """
    # NNCF sends telemetry unless it detects a CI environment.
    os.environ.setdefault("NNCF_CI", "ON")
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # The default range ends at the mean of the slices' maxima, which clips the strongest evidence
    # for a tumour: for a network with few strong positions it cost a third of the log-odds.
    widest = RangeEstimatorParametersSet.MINMAX

    chosen = images[:: max(1, len(images) // _CALIBRATION_SLICES)].float().numpy()
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "network.onnx"
        export_onnx(network, size=images.shape[-1], path=exported)
        quantised = nncf.quantize(
            ov.Core().read_model(exported),
            nncf.Dataset([chosen[n : n + 1] for n in range(len(chosen))]),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if network.attends else None,
            subset_size=len(chosen),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=widest
            ),
        )
    ov.save_model(quantised, path)


def exchange_head(source: Path, network: Network, path: Path) -> None:
    """Write a quantised network that answers by another head; all below stays bit for bit.

    The head is computed in float32 on the pooled features. The ranges of the activations stay those
    of the slices that the network was quantised on, which a few new slices could only make worse.

    Args:
        source: a network that :func:`quantise` wrote, of the same layers.
        network: one that :attr:`~ml.architectures.Network.answers_linearly`.
        path: as for :func:`quantise`.
    """
    quantised = ov.Core().read_model(source)
    results = {name: quantised.output(name).node for name in ("logits", "features")}
    features = results["features"].input_value(0)
    weight, bias = (one.detach().float().numpy() for one in network.head.parameters())
    product = ops.matmul(features, ops.constant(weight), False, True)
    logits = ops.add(product, ops.constant(bias))
    results["logits"].input(0).replace_source_output(logits.output(0))
    logits.output(0).set_names({"logits"})
    ov.save_model(quantised, path, compress_to_fp16=False)
