"""What the network alone costs in several engines, and what of it is left for scores.

OpenVINO and ONNX Runtime are not needed by berg; they are measured where they are installed:
``pip install openvino onnxruntime onnx``. Both run the same file, in float32 and with all eight
layers read, as the encoding model needs them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.table import ROUNDS, print_machine, show, take_turns
from berg import BERG, alexnet
from berg.catalog import DEFAULT_MODEL_ID
from berg.demo import simulated_berg_dir
from berg.networks import load_network
from berg.scoring import correlation
from berg.simulation.natural_images import natural_images
from berg.stimuli import preprocess

N_IMAGES = 500
N_BATCH = 128
PRECISIONS = ("float32", "bfloat16")
Engine = Callable[[torch.Tensor], list[np.ndarray] | list[torch.Tensor]]


def main() -> None:
    berg_dir = simulated_berg_dir()
    images = natural_images(N_IMAGES, np.random.default_rng(7), "test")
    print_machine()
    print("| what | ours | reference | figure | target |")
    print("|---|---|---|---|---|")
    with TemporaryDirectory() as scratch, torch.inference_mode():
        bare_networks(engines(Path(scratch)), berg_dir, images)
    precisions(berg_dir, images)


def engines(scratch: Path) -> dict[str, Engine]:
    plain = alexnet.load_alexnet(channels_last=False)
    found: dict[str, Engine] = {
        "PyTorch's modules as they come": lambda x: plain(x.contiguous()),
        "PyTorch, channels last": alexnet.load_alexnet(),
        "PyTorch, bfloat16": alexnet.load_alexnet().to(torch.bfloat16),
        "ours": load_network("cpu"),
        "ours, bfloat16": load_network("cpu", "bfloat16"),
    }
    if importlib.util.find_spec("onnx"):
        model = scratch / "alexnet.onnx"
        write_onnx(model)
        for name, load in {"openvino": openvino, "onnxruntime": onnxruntime}.items():
            if importlib.util.find_spec(name):
                found[name] = load(model)
    return found


def bare_networks(networks: dict[str, Engine], berg_dir: Path, images: np.ndarray) -> None:
    """Time the networks on preprocessed images, and all the way from pixels to scores."""
    pixels = preprocess(torch.from_numpy(images[:N_BATCH]))
    wanted = networks["PyTorch's modules as they come"](pixels)
    jobs = [lambda network=network: network(pixels) for network in networks.values()]
    times = take_turns(*jobs)
    rates = {name: N_BATCH / time for name, time in zip(networks, times, strict=True)}
    for name, network in networks.items():
        worst = max(
            float(np.abs(np.asarray(a) - np.asarray(b)).max())
            for a, b in zip(network(pixels), wanted, strict=True)
        )
        show(
            (
                f"bare network, {name}",
                f"{rates[name]:.0f} images/s",
                "",
                f"{rates[name] / rates['ours']:.2f} of ours; differs by {worst:.0e} at most",
                "",
            )
        )
    fastest = max((name for name in rates if "bfloat16" not in name), key=lambda name: rates[name])
    model = BERG(berg_dir).get_encoding_model(DEFAULT_MODEL_ID, "cpu", subject=1)
    # These two alone: threads of other engines go on waiting for a while on the cores.
    network = networks[fastest]
    networks.clear()
    bare, for_scores = take_turns(
        lambda: network(pixels),
        lambda: model.encode_lazily(images, show_progress=False),
        rounds=3 * ROUNDS,
    )
    floor, rate = N_BATCH / bare, len(images) / for_scores
    show(
        (
            f"scores of {len(images)} images 256×256, from pixels",
            f"{rate:.0f} images/s",
            f"{floor:.0f} images/s: bare network, {fastest}",
            f"{rate / floor:.2f} of it",
            "≥ 0.8",
        )
    )


def precisions(berg_dir: Path, images: np.ndarray) -> None:
    """Compare bfloat16 with float32: speed, and the responses of every vertex."""
    models = [
        BERG(berg_dir).get_encoding_model(DEFAULT_MODEL_ID, "cpu", subject=1, precision=precision)
        for precision in PRECISIONS
    ]
    full, half = take_turns(
        *(lambda model=model: model.encode_lazily(images, show_progress=False) for model in models)
    )
    pairs = [model.generate_response(images, show_progress=False) for model in models]
    r = np.concatenate([correlation(a, b) for a, b in zip(*pairs, strict=True)])
    low, median = np.quantile(r, [0.01, 0.5])
    show(
        (
            f"bfloat16 network, scores of {len(images)} images",
            f"{len(images) / half:.0f} images/s",
            f"{len(images) / full:.0f} images/s in float32 (ours)",
            f"{full / half:.2f}×; correlation of a vertex's responses: median {median:.6f}, "
            f"1 % under {low:.6f}, worst {r.min():.6f}",
            "",
        )
    )


def openvino(model: Path) -> Engine:
    import openvino

    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    request = compiled.create_infer_request()

    def run(images: torch.Tensor) -> list[np.ndarray]:
        given = images.contiguous().numpy()
        results = request.infer({0: given}, share_inputs=True, share_outputs=True)
        return [results[i] for i in range(len(alexnet.LAYERS))]

    return run


def onnxruntime(model: Path) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images.contiguous().numpy()})


def write_onnx(path: Path) -> None:
    """Write the network with its eight layers as outputs."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    parameters = {name: value.numpy() for name, value in alexnet.load_parameters().items()}
    strides, pads = {"features.0": 4}, {"features.0": 2, "features.3": 2}
    nodes, given = [], "images"

    def add(kind: str, name: str, *inputs: str, **attributes: object) -> None:
        nonlocal given
        nodes.append(helper.make_node(kind, [given, *inputs], [name], **attributes))
        given = name

    for number in (0, 3, 6, 8, 10):
        name = f"features.{number}"
        side, pad = parameters[f"{name}.weight"].shape[-1], pads.get(name, 1)
        add(
            *("Conv", name, f"{name}.weight", f"{name}.bias"),
            kernel_shape=[side] * 2,
            strides=[strides.get(name, 1)] * 2,
            pads=[pad] * 4,
        )
        add("Relu", f"features.{number + 1}")
        if number in (0, 3, 10):
            add("MaxPool", f"features.{number + 2}", kernel_shape=[3, 3], strides=[2, 2])
    add("Flatten", "flat")
    for number in (1, 4, 6):
        name = f"classifier.{number}"
        add("Gemm", name, f"{name}.weight", f"{name}.bias", transB=1)
        if number < 6:
            add("Relu", f"classifier.{number + 1}")
    float_ = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "alexnet",
        [helper.make_tensor_value_info("images", float_, ["n", 3, 224, 224])],
        [
            helper.make_tensor_value_info(layer.node, float_, ["n", *layer.shape])
            for layer in alexnet.LAYERS
        ],
        [numpy_helper.from_array(value, name) for name, value in parameters.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    save_model(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


if __name__ == "__main__":
    main()
