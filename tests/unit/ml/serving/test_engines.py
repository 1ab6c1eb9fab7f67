"""Engines answer alike, take batches of any size, and are chosen by what the machine has."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ml.architectures import ARCHITECTURES, Output
from ml.dataset import read_manifest
from ml.errors import InvalidModel
from ml.imaging import read_path
from ml.preprocess import PIPELINES, FloatImage
from ml.registry import SERVING, Model, load_model
from ml.serving.engines import Engine, TorchEngine, choose_device, choose_engine, serving_dtype
from ml.serving.engines.export import export_onnx
from ml.serving.engines.onnx_engine import ONNXRuntimeEngine
from ml.serving.engines.openvino_engine import OpenVINOEngine, supports_int8
from ml.serving.engines.quantisation import exchange_head, quantise

SIZE = 96
CPU = torch.device("cpu")
ENTRIES = read_manifest(SERVING.parents[1] / "samples" / "manifest.csv")


@pytest.fixture(scope="module")
def images() -> FloatImage:
    prepared = [
        PIPELINES["head-crop"](read_path(entry.path)[0].pixels, SIZE).image for entry in ENTRIES
    ]
    return np.stack(prepared)[:, None]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


@pytest.fixture(scope="module")
def expected(model: Model, images: FloatImage) -> Output:
    return TorchEngine(model.network, device=CPU, dtype=torch.float32).run(images)


@pytest.fixture(scope="module")
def exported(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "network.onnx"
    export_onnx(model.network, size=SIZE, path=path)
    return path


@pytest.fixture(scope="module")
def quantised(
    model: Model, images: FloatImage, tmp_path_factory: pytest.TempPathFactory
) -> OpenVINOEngine:
    path = tmp_path_factory.mktemp("quantised") / "network.xml"
    quantise(model.network, torch.from_numpy(images), path)
    return OpenVINOEngine(path, precision="int8")


def assert_alike(found: Output, expected: Output, *, tolerance: float) -> None:
    for name, one, other in zip(Output._fields, found, expected, strict=True):
        assert one.dtype == torch.float32, name
        scale = float(other.abs().max())
        torch.testing.assert_close(one, other, atol=tolerance * scale, rtol=0)


def test_float32_engines_agree_with_torch(
    exported: Path, images: FloatImage, expected: Output
) -> None:
    engines: list[Engine] = [
        ONNXRuntimeEngine(exported),
        OpenVINOEngine(exported, precision="float32"),
    ]
    for engine in engines:
        assert_alike(engine.run(images), expected, tolerance=1e-3)


def test_quantised_network_agrees_with_torch_in_class_map_and_features(
    quantised: OpenVINOEngine, images: FloatImage, expected: Output
) -> None:
    found = quantised.run(images)
    assert (found.logits.argmax(1) == expected.logits.argmax(1)).float().mean() >= 11 / 12
    similarity = torch.cosine_similarity(found.features, expected.features)
    assert similarity.min() > 0.97
    # Ranges that cut off the strongest places shrink the logits, and with them all confidence.
    own, exact = (one.logits - one.logits.mean(1, keepdim=True) for one in (found, expected))
    assert 0.93 < float((own * exact).sum() / (exact**2).sum()) < 1.07
    # All classes together: a network that judges places has an empty map for no tumour.
    maps = torch.cosine_similarity(found.maps.flatten(1), expected.maps.flatten(1))
    assert maps.min() > 0.9


def test_quantised_network_gets_another_head_and_stays_as_it_is_below(
    model: Model, tmp_path: Path
) -> None:
    size = int(model.card["input"]["size"])
    some = [PIPELINES["head-crop"](read_path(one.path)[0].pixels, size) for one in ENTRIES[:2]]
    taken = np.stack([one.image for one in some])[:, None]
    network = copy.deepcopy(model.network)
    torch.manual_seed(0)
    torch.nn.init.normal_(network.head.weight)
    torch.nn.init.normal_(network.head.bias)
    path = tmp_path / "network.int8.xml"
    assert model.quantised is not None
    exchange_head(model.quantised, network, path)
    before = OpenVINOEngine(model.quantised, precision="int8").run(taken)
    after = OpenVINOEngine(path, precision="int8").run(taken)
    torch.testing.assert_close(after.maps, before.maps, atol=0, rtol=0)
    torch.testing.assert_close(after.features, before.features, atol=0, rtol=0)
    torch.testing.assert_close(after.logits, network.head(after.features).detach())


@pytest.mark.parametrize("name", ["vit-s16", "dinov2-s14"])
def test_quantised_transformer_keeps_its_features(
    name: str, images: FloatImage, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = ARCHITECTURES[name].build().eval()
    size = 2 * network.multiple
    smaller = F.interpolate(torch.from_numpy(images), size=(size, size), mode="area")
    expected = TorchEngine(network, device=CPU, dtype=torch.float32).run(smaller.numpy()).features

    def error(path: Path) -> float:
        quantise(network, smaller, path)
        found = OpenVINOEngine(path, precision="int8").run(smaller.numpy()).features
        return float((found - expected).abs().mean())

    own = error(tmp_path / "network.xml")
    network.attends = False
    # How large the error is depends on the processor: without VNNI, sums of 8-bit products
    # saturate. That the rules of convolutions make a larger one does not.
    assert own < 0.9 * error(tmp_path / "as-convolutions.xml")


def test_any_batch_size_gives_the_same_answers(
    quantised: OpenVINOEngine, images: FloatImage
) -> None:
    together = quantised.run(images)
    first = quantised.run(images[:1])
    rest = quantised.run(images[1:])
    torch.testing.assert_close(
        torch.cat([first.logits, rest.logits]), together.logits, atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_is_exported_for_sizes_and_batches_of_its_own(
    name: str, tmp_path: Path
) -> None:
    network = ARCHITECTURES[name].build().eval()
    size = 3 * network.multiple
    path = tmp_path / "network.onnx"
    export_onnx(network, size=size, path=path)
    images = np.random.default_rng(1).random((3, 1, size, size), np.float32)
    expected = TorchEngine(network, device=CPU, dtype=torch.float32).run(images)
    assert_alike(ONNXRuntimeEngine(path).run(images), expected, tolerance=2e-3)


def test_answers_are_not_overwritten_by_the_next_batch(
    quantised: OpenVINOEngine, images: FloatImage
) -> None:
    first = quantised.run(images[:2])
    kept = first.maps.clone()
    quantised.run(images[2:4])
    assert torch.equal(first.maps, kept)


def test_int8_serves_where_the_processor_computes_so(model: Model) -> None:
    name = choose_engine(model, CPU).name
    if supports_int8():
        assert name == "OpenVINO cpu int8"
    else:
        assert name.startswith("torch cpu")


def test_torch_serves_where_there_is_no_quantised_network(model: Model) -> None:
    plain = Model(model.network, model.doubt, model.card, model.sha256)
    dtype = str(serving_dtype(CPU)).removeprefix("torch.")
    assert choose_engine(plain, CPU).name == f"torch cpu {dtype}"


def test_file_that_is_no_network_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "network.xml"
    path.write_text("<net/>", encoding="utf-8")
    with pytest.raises(InvalidModel, match=r"network\.xml"):
        OpenVINOEngine(path, precision="int8")


def test_precision_follows_the_processor() -> None:
    native = torch.cpu.get_capabilities()
    expected = native.get("avx512_bf16") or native.get("amx_bf16")
    assert (serving_dtype(torch.device("cpu")) is torch.bfloat16) == bool(expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InvalidModel, match="GPU"):
        choose_device("cuda")


def test_auto_takes_what_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto").type == expected
