"""Many images, subjects and processes: `python -m benchmarks.scaling`.

Ours beside the reference of `benchmarks.reference`, or beside ourselves where the question is
what a store or a second worker costs. `--full` encodes 100,000 images for the row of memory
instead of 10,000, a quarter of an hour.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import h5py
import numpy as np
from PIL import Image

from benchmarks.on_paper import CHUNK_IMAGES, Constants, show_on_paper
from benchmarks.reference import Reference
from benchmarks.table import Row, print_machine, run, show, take_turns
from berg import BERG
from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.cluster import connect
from berg.demo import simulated_berg_dir
from berg.responses import Responses
from berg.simulation.natural_images import natural_images
from berg.sources.references import HDF5Image
from berg.stores import encode_to_store

ROUNDS = 3
N_STORED = 1024
N_RDM = 2000
N_TOGETHER = 200
N_SHARED_BY_WORKERS = 4096
SUBJECTS = tuple(range(1, 9))
WORKER_BYTES = 1.6e9  # peak of a process that encodes scores (the row of memory)
SUBJECT_BYTES = 206e6  # its projection, mapped from disk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    full = parser.parse_args().full
    berg_dir = simulated_berg_dir()
    BERG(berg_dir).convert_weights(DEFAULT_MODEL_ID, subject=1)
    with TemporaryDirectory(prefix="berg-scaling-") as folder:
        scratch = Path(folder)
        print_machine(ROUNDS)
        print("| what | ours | reference | figure | target |")
        print("|---|---|---|---|---|")
        images = natural_images(N_STORED, np.random.default_rng(7), "test")
        show(rdm(berg_dir))
        show(store_from_hdf5(berg_dir, scratch, images))
        row, one_worker = workers(berg_dir, scratch, images)
        show(row)
        show(memory(berg_dir, scratch, images, 100_000 if full else 10_000))
        show(eight_subjects(berg_dir, scratch, images[:N_TOGETHER]))
    measured = Constants(
        images_per_second=one_worker,
        seconds_a_subject=seconds_a_subject(berg_dir),
        worker_bytes=WORKER_BYTES,
        subject_bytes=SUBJECT_BYTES,
        tasks_per_second=tasks_per_second(),
    )
    print(f"\nOn paper, from: {measured}")
    for n_subjects in (1, 8):
        show_on_paper(measured, n_subjects)


def rdm(berg_dir: Path) -> Row:
    """Correlation distances from scores, and from the responses that they stand for."""
    model = BERG(berg_dir).get_encoding_model(
        DEFAULT_MODEL_ID, "cpu", {"roi": "nsdgeneral"}, subject=1
    )
    few = model.encode_lazily(
        natural_images(256, np.random.default_rng(8), "test"), show_progress=False
    )
    # More images with the scores' own covariance: what they show does not matter to the time.
    mixing = np.random.default_rng(9).standard_normal((N_RDM, 256)) / 16
    scores = (mixing @ few.scores[:]).astype(np.float32)
    readout = model.readout
    found: list[np.ndarray] = []

    def first() -> None:  # nothing is known of the region yet
        everything = slice(None)
        found[:1] = [Responses(scores, readout.take(everything, everything)).rdm()]

    def again() -> None:
        found[:1] = [Responses(scores, readout).rdm()]

    def materialised() -> None:
        responses = np.concatenate(
            [
                scores @ readout.lh_coef.T + readout.lh_intercept,
                scores @ readout.rh_coef.T + readout.rh_intercept,
            ],
            axis=1,
        )
        found[1:] = [1 - np.corrcoef(responses)]

    seconds, later, theirs = take_turns(first, again, materialised, rounds=3 * ROUNDS)
    n_vertices = len(readout.lh_vertices) + len(readout.rh_vertices)
    worst = np.abs(found[0] - found[1]).max()
    return (
        f"RDM of {N_RDM:,} images in nsdgeneral, {n_vertices:,} vertices",
        f"{seconds:.3f} s the first time, {later:.3f} s for further images",
        f"{theirs:.2f} s, materialised",
        f"{theirs / seconds:.0f}×, {theirs / later:.0f}×; largest difference {worst:.0e}",
        "≥ 30×",
    )


def store_from_hdf5(berg_dir: Path, scratch: Path, images: np.ndarray) -> Row:
    """A scores store from NSD's file format, and scores of the same images from memory."""
    path = scratch / "images.hdf5"
    enlarged = np.stack([_enlarge(image) for image in images])  # (n, 425, 425, 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=enlarged)
    stimulus = np.ascontiguousarray(enlarged.transpose(0, 3, 1, 2))
    del enlarged

    def from_memory() -> None:
        models = BERG(berg_dir).get_projections(DEFAULT_MODEL_ID, [1], "cpu")
        models.encode_lazily(stimulus, show_progress=False)

    def into_store() -> None:
        shutil.rmtree(scratch / "hdf5.zarr", ignore_errors=True)
        _encode(berg_dir, f"{path}:imgBrick", scratch / "hdf5.zarr")

    stored, direct = take_turns(into_store, from_memory, rounds=ROUNDS)
    return (
        f"{len(images):,} images 425×425 from HDF5 to a scores store, model loaded in both",
        f"{len(images) / stored:.0f} images/s",
        f"{len(images) / direct:.0f} images/s from memory (ours)",
        f"{100 * (stored / direct - 1):+.1f} % time",
        "≤ +15 %",
    )


def workers(berg_dir: Path, scratch: Path, images: np.ndarray) -> tuple[Row, float]:
    """One and two single-threaded workers, from the first command to the finished store."""
    array = scratch / "images.npy"
    np.save(array, np.resize(images, (N_SHARED_BY_WORKERS, *images.shape[1:])))
    seconds = {}
    for n_workers in (1, 2, 1, 2):
        store = scratch / f"workers-{n_workers}.zarr"
        shutil.rmtree(store, ignore_errors=True)
        start = time.perf_counter()
        # On as many cores as workers, so that each has one thread.
        _command(
            berg_dir,
            *(array, "--store", store, "--chunk", 256, "--workers", n_workers),
            cores=list(range(n_workers)),
        )
        taken = time.perf_counter() - start
        seconds[n_workers] = min(taken, seconds.get(n_workers, taken))
    array.unlink()
    one, two = (
        len_ / seconds[n] for n, len_ in ((1, N_SHARED_BY_WORKERS), (2, N_SHARED_BY_WORKERS))
    )
    row = (
        f"two single-threaded workers, {N_SHARED_BY_WORKERS:,} images, start to finish",
        f"{two:.0f} images/s",
        f"{one:.0f} images/s with one (ours)",
        f"{two / one:.2f}×",
        "≥ 1.7×",
    )
    return row, one


def seconds_a_subject(berg_dir: Path) -> float:
    """What one more subject costs an image, on one thread."""
    code = """
import sys, time
import numpy as np, torch
torch.set_num_threads(1)
from berg import BERG
from berg.catalog import DEFAULT_MODEL_ID
model = BERG(sys.argv[1]).get_projections(DEFAULT_MODEL_ID, [1], "cpu")[0]
images = np.random.default_rng(0).integers(0, 256, (128, 3, 224, 224), dtype=np.uint8)
with torch.inference_mode():
    (activations,) = model.activations([torch.from_numpy(images)])
    taken = []
    for _ in range(6):
        start = time.perf_counter()
        model.scores(activations)
        taken.append(time.perf_counter() - start)
print(sorted(taken[1:])[2] / len(images))
"""
    return float(run(code, str(berg_dir)))


def tasks_per_second() -> float:
    """How many chunks one command hands out and takes back when they cost nothing."""
    references = [
        HDF5Image(f"images.hdf5:imgBrick[{i}]", "/images.hdf5", "imgBrick", i)
        for i in range(CHUNK_IMAGES)
    ]
    n_tasks = 300
    with connect(n_workers=2) as cluster:
        list(cluster.run(len, [(references,)] * 10))
        start = time.perf_counter()
        list(cluster.run(len, [(references,)] * n_tasks))
        return n_tasks / (time.perf_counter() - start)


def memory(berg_dir: Path, scratch: Path, images: np.ndarray, n_many: int) -> Row:
    """Peak memory of the command for 1,000 images and for many: a list that names 500 files."""
    folder = scratch / "photos"
    folder.mkdir()
    for i, image in enumerate(images[:500]):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:03d}.jpg", quality=90)
    peaks = {}
    for n_images in (1000, n_many):
        names = scratch / f"{n_images}.txt"
        names.write_text("".join(f"photos/{i % 500:03d}.jpg\n" for i in range(n_images)))
        store = scratch / f"{n_images}.zarr"
        peaks[n_images] = _command(berg_dir, names, "--store", store)
        shutil.rmtree(store)
    return (
        f"peak memory, {n_many:,} JPEG files to a scores store",
        f"{peaks[n_many] / 1e6:.0f} MB",
        f"{peaks[1000] / 1e6:.0f} MB for 1,000 (ours)",
        f"{(peaks[n_many] - peaks[1000]) / 1e6:+.0f} MB",
        "the same",
    )


def eight_subjects(berg_dir: Path, scratch: Path, images: np.ndarray) -> Row:
    """All subjects' whole surfaces, and the reference run once a subject."""
    everyone = scratch / "eight"
    source, target = (find_card(DEFAULT_MODEL_ID).files(root) for root in (berg_dir, everyone))
    for subject in SUBJECTS:  # what is in the weights does not matter to the time
        for copied, original in (
            (target.weights_npy(subject), source.weights_npy(1)),
            (target.metadata(subject), source.metadata(1)),
        ):
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(original, copied)
        BERG(everyone).convert_weights(DEFAULT_MODEL_ID, subject=subject)
        target.weights_npy(subject).unlink()  # the converted form serves alone
    models = BERG(everyone).get_encoding_models(DEFAULT_MODEL_ID, SUBJECTS, "cpu")
    reference = Reference(source.weights_npy(1))
    ours, upstream, tidy = take_turns(
        lambda: models.generate_response(images, show_progress=False),
        lambda: [reference.upstream(images) for _ in SUBJECTS],
        lambda: [reference.tidy(images) for _ in SUBJECTS],
        rounds=ROUNDS,
    )
    n = len(images)
    return (
        f"eight subjects, whole surface, {n} images, against eight runs of upstream's way / tidy",
        f"{n / ours:.1f} images/s",
        f"{n / upstream:.1f} / {n / tidy:.1f} images/s",
        f"{upstream / ours:.1f}× / {tidy / ours:.1f}×",
        "≥ 6× tidy",
    )


def _enlarge(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((425, 425)))


def _encode(berg_dir: Path, source: str, store: Path) -> None:
    encode_to_store(
        [source],
        store,
        [1],
        berg_dir=berg_dir,
        device="cpu",
        show_progress=False,
        tell=lambda text: None,
    )


def _command(berg_dir: Path, *arguments: object, cores: list[int] | None = None) -> int:
    """Run `berg encode` for subject 1; return its peak memory in bytes."""
    command = [sys.executable, "-m", "berg.cli", "encode", *map(str, arguments)]
    command += ["--subject", "1", "--device", "cpu", "--quiet", "--berg-dir", str(berg_dir)]
    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        if cores is not None:
            os.sched_setaffinity(process.pid, cores)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _peak_bytes(process.pid))
            time.sleep(0.1)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(errors.read())
    return peak


def _peak_bytes(pid: int) -> int:
    """Peak memory of a process so far. Not ru_maxrss, which starts from the parent's peak."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(status.get("VmHWM", "0 kB").split()[0]) * 1024


if __name__ == "__main__":
    main()
