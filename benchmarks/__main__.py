"""`make bench`: ours and the reference side by side in one run, as a table in Markdown.

Machines are shared and noisy, so ours and the references take turns, and a row gives the
median of each and the ratio of the medians. Same images, weights and number of threads.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.reference import Reference, naive_resize
from benchmarks.table import ROUNDS, Row, print_machine, run, show, take_turns
from berg import BERG
from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.demo import simulated_berg_dir
from berg.simulation.natural_images import natural_images, photograph_samples
from berg.stimuli import resize_and_crop

N_IMAGES = 500


def main() -> None:
    berg_dir = simulated_berg_dir()
    npy = find_card(DEFAULT_MODEL_ID).files(berg_dir).weights_npy(1)
    safetensors = npy.with_suffix(".safetensors")
    safetensors.unlink(missing_ok=True)  # the first rows are those of the .npy
    images = natural_images(N_IMAGES, np.random.default_rng(7), "test")

    print_machine()
    print("| what | ours | reference | figure | target |")
    print("|---|---|---|---|---|")
    whole, v1v = load(berg_dir), load(berg_dir, "V1v")
    whole_reference = Reference(npy)
    v1v_reference = Reference(npy, (v1v.lh_vertices, v1v.rh_vertices))
    photographs = photograph_samples(100, np.random.default_rng(8))
    show(agreement("100 crops of photographs", whole, whole_reference, photographs))
    show(agreement("100 made and recoloured images", whole, whole_reference, images[:100]))
    for row in throughput("whole surface", whole, whole_reference, images, (3, 2.5)):
        show(row)
    for row in throughput("ROI V1v", v1v, v1v_reference, images, (2.3, 2.3)):
        show(row)
    show(scores(whole, whole_reference, images))
    reference_load = lambda: Reference(npy, (v1v.lh_vertices, v1v.rh_vertices))  # noqa: E731
    show(loading("model from .npy, V1v", berg_dir, reference_load, "≤ 1"))
    BERG(berg_dir).convert_weights(DEFAULT_MODEL_ID, subject=1)
    show(loading("model from .safetensors, V1v", berg_dir, reference_load, "≤ 1/3"))
    safetensors.unlink()
    show(resizing())
    show(memory(berg_dir))
    show(import_time())


def load(berg_dir: Path, roi: str | None = None):
    return BERG(berg_dir).get_encoding_model(
        DEFAULT_MODEL_ID, "cpu", {"roi": roi} if roi else None, subject=1
    )


def agreement(title: str, model, reference: Reference, images: np.ndarray) -> Row:
    ours = model.generate_response(images, show_progress=False)
    pairs = zip(ours, reference.tidy(images), strict=True)
    worst = np.maximum(*(np.abs(a - b).max(axis=1) for a, b in pairs))
    figure = f"max abs difference {worst.max():.1e} z; median image {np.median(worst):.1e}"
    return (f"responses, {title}", "", "", figure, "≤ 1e-4 z")


def throughput(
    title: str,
    model,
    reference: Reference,
    images: np.ndarray,
    targets: tuple[float, float],
) -> list[Row]:
    ours, upstream, tidy = take_turns(
        lambda: model.generate_response(images, show_progress=False),
        lambda: reference.upstream(images),
        lambda: reference.tidy(images),
    )
    return [
        (
            f"{title}, {len(images)} images 256×256, against {name}",
            f"{len(images) / ours:.0f} images/s",
            f"{len(images) / seconds:.0f} images/s",
            f"{seconds / ours:.2f}×",
            f"≥ {target}×",
        )
        for name, seconds, target in zip(
            ("upstream's way", "tidy"), (upstream, tidy), targets, strict=True
        )
    ]


def scores(model, reference: Reference, images: np.ndarray) -> Row:
    ours, theirs = take_turns(
        lambda: model.encode_lazily(images, show_progress=False), lambda: reference.scores(images)
    )
    return (
        f"scores, {len(images)} images 256×256, against tidy",
        f"{len(images) / ours:.0f} images/s",
        f"{len(images) / theirs:.0f} images/s",
        f"{theirs / ours:.2f}×",
        "≥ 2.3×",
    )


def loading(title: str, berg_dir: Path, reference: Callable[[], object], target: str) -> Row:
    ours, theirs = take_turns(lambda: load(berg_dir, "V1v"), reference)
    return (title, f"{ours:.2f} s", f"{theirs:.2f} s", f"{ours / theirs:.2f} of it", target)


def resizing() -> Row:
    images = np.random.default_rng(9).integers(0, 256, (100, 3, 425, 425), dtype=np.uint8)
    tensor = torch.from_numpy(images)
    ours, naive = take_turns(lambda: resize_and_crop(tensor), lambda: naive_resize(tensor))
    same = torch.equal(resize_and_crop(tensor), naive_resize(tensor))
    return (
        f"resize of {len(images)} images 425×425, against the naive call",
        f"{1e3 * ours / len(images):.2f} ms an image",
        f"{1e3 * naive / len(images):.2f} ms an image",
        f"{naive / ours:.2f}×, {'bit-identical' if same else 'DIFFERENT'}",
        "≥ 2.5×, bit-identical",
    )


_ENCODE = """
import sys
import numpy as np
from berg import BERG
berg_dir, model_id, n_images = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = BERG(berg_dir).get_encoding_model(model_id, "cpu", {"roi": "V1v"}, subject=1)
images = np.random.default_rng(0).integers(0, 256, (n_images, 3, 256, 256), dtype=np.uint8)
lh, rh = model.generate_response(images, show_progress=False)
# Not ru_maxrss, which starts from the parent's peak.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) * 1024
print((peak - images.nbytes - lh.nbytes - rh.nbytes) / 1e6)
"""


def memory(berg_dir: Path) -> Row:
    few, many = (float(run(_ENCODE, str(berg_dir), DEFAULT_MODEL_ID, str(n))) for n in (500, 5000))
    return (
        "peak memory, ROI V1v, without inputs and outputs",
        f"{many:.0f} MB for 5,000 images",
        f"{few:.0f} MB for 500 (ours)",
        f"{many - few:+.0f} MB",
        "≤ 300 MB",
    )


def import_time() -> Row:
    code = "import time; t = time.perf_counter(); import berg; print(time.perf_counter() - t)"
    seconds = statistics.median(float(run(code)) for _ in range(ROUNDS))
    torch_code = code.replace("import berg", "import torch, sklearn")
    theirs = statistics.median(float(run(torch_code)) for _ in range(ROUNDS))
    return ("import berg", f"{seconds:.3f} s", f"{theirs:.2f} s", "", "< 0.2 s")


if __name__ == "__main__":
    main()
