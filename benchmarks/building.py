"""Model building, ours and the literal pipeline in one run: `python -m benchmarks.building`.

Both get the same simulated dataset, freshly read, and all cores, in processes of their own.
The trees are kept under `--tree`. `--full` adds one training at NSD's own size, whose 60 GB it
deletes afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.linalg import subspace_angles

from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.layout import ModelFiles, cache_dir
from berg.metadata import Metadata, load_metadata
from berg.scoring import score_responses
from berg.simulation.nsd_tree import load_truth, simulate_nsd

SUBJECT = 1
HEMISPHERES = ("lh", "rh")
FULL_SIZE = {"n_sessions": 40, "n_train": 9000, "n_test": 515, "n_val": 485}
MIN_CEILING = 0.1  # below it, published maps leave a vertex out
STAGES = {  # what the two call their stages; those named nowhere are in "the rest"
    "design": ((), ("design",)),
    "features": (
        ("shared_features", "colour_features", "features", "test features"),
        ("features",),
    ),
    "scaler, PCA": (("components",), ("scaler", "pca")),
    "betas, regression": (
        ("trials_lh", "trials_rh", "synthetic_lh", "synthetic_rh", "measured responses"),
        ("betas", "regression"),
    ),
    "predictions, ROIs, files": (
        ("model", "predictions", "metadata"),
        ("predictions", "rois", "saving"),
    ),
    "accuracy": (("accuracy",), ("accuracy",)),
}


@dataclass
class Run:
    """Commands that were run one after the other, and what their stages took."""

    seconds: float = 0.0
    peak_bytes: int = 0
    stages: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, default=cache_dir() / "benchmark_nsd")
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    given.tree.mkdir(parents=True, exist_ok=True)
    print(
        f"{date.today()}; {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}, NumPy {np.__version__}; one run of each."
    )
    memory = {}
    with simulated(given.tree, n_sessions=2) as nsd_dir, scratch(given.tree) as work:
        ours = run_ours(nsd_dir, work / "ours")
        literal = run_literal(nsd_dir, work / "literal")
        run_literal(nsd_dir, work / "oracle", "--oracle")
        print_stages(ours, literal)
        print_rows(agreement(berg_files(work / "ours"), work / "oracle"))
        print_rows(truth(nsd_dir, berg_files(work / "ours")))
        memory[2] = ours.peak_bytes
    # With fewer images to show three times each, its sessions would be shorter.
    with simulated(given.tree, n_sessions=8, n_train=1800) as nsd_dir, scratch(given.tree) as work:
        memory[8] = run_ours(nsd_dir, work).peak_bytes
    if given.full:
        with simulated(given.tree, keep=False, **FULL_SIZE) as nsd_dir, scratch(given.tree) as work:
            ours = run_ours(nsd_dir, work)
            print_rows([disk(nsd_dir)])
            print_own_stages(ours)
            print_rows(truth(nsd_dir, berg_files(work)))
            memory[40] = ours.peak_bytes
    print_rows(
        (f"peak memory, {n_sessions} sessions", gigabytes(peak), "≤ 4 GB")
        for n_sessions, peak in memory.items()
    )


@contextmanager
def simulated(
    folder: Path,
    n_sessions: int,
    n_train: int = 1000,
    n_test: int = 200,
    n_val: int = 20,
    keep: bool = True,
) -> Iterator[Path]:
    """Simulate a tree of full vertex count, unless it is there; delete it after use if told so."""
    nsd_dir = folder / f"sessions-{n_sessions:02d}"
    try:
        yield simulate_nsd(
            *(nsd_dir, (SUBJECT,)),
            n_sessions=n_sessions,
            n_train=n_train,
            n_test=n_test,
            n_val=n_val,
        )
    finally:
        if not keep:
            shutil.rmtree(nsd_dir)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    with TemporaryDirectory(dir=folder) as work:
        yield Path(work)


def run_ours(nsd_dir: Path, berg_dir: Path) -> Run:
    """Train and test a subject by the command line."""
    run = Run()
    berg = str(Path(sys.executable).with_name("berg"))
    model = (DEFAULT_MODEL_ID, "--subject", str(SUBJECT))
    dirs = ("--nsd-dir", str(nsd_dir), "--berg-dir", str(berg_dir))
    for command in ("train", "test"):
        timings = prepared(berg_files(berg_dir)) / "timings.json"
        execute(run, (berg, command, *model, *dirs, "--device", "cpu"), nsd_dir, timings)
    return run


def run_literal(nsd_dir: Path, out_dir: Path, *options: str) -> Run:
    run = Run()
    literal = (sys.executable, "-m", "benchmarks.literal_building")
    command = (*literal, str(nsd_dir), str(SUBJECT), str(out_dir), *options)
    execute(run, command, nsd_dir, out_dir / "timings.json")
    return run


def execute(run: Run, command: tuple[str, ...], nsd_dir: Path, timings: Path) -> None:
    """Run a command and add to `run`; whatever of the dataset fits the cache is in it before."""
    warm(nsd_dir)
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=sys.stderr) as process:
        while process.poll() is None:
            run.peak_bytes = max(run.peak_bytes, peak_memory(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    run.seconds += time.perf_counter() - start
    run.stages |= json.loads(timings.read_text())


def peak_memory(pid: int) -> int:
    """Highest resident bytes of a process so far; ru_maxrss starts from its parent's."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0  # it has just ended


def warm(nsd_dir: Path) -> int:
    """Read every file of the dataset; return the bytes read."""
    n_bytes = 0
    buffer = bytearray(16 * 2**20)
    for path in sorted(path for path in nsd_dir.rglob("*") if path.is_file()):
        with path.open("rb", buffering=0) as file:
            while n_read := file.readinto(buffer):
                n_bytes += n_read
    return n_bytes


def disk(nsd_dir: Path) -> tuple[str, str, str]:
    """Read once what is larger than memory: the rate is the disk's, not the cache's."""
    start = time.perf_counter()
    n_bytes = warm(nsd_dir)
    rate = n_bytes / (time.perf_counter() - start)
    return ("dataset, and the disk's rate", f"{gigabytes(n_bytes)}, {gigabytes(rate)}/s", "")


def agreement(ours: ModelFiles, oracle: Path) -> Iterator[tuple[str, str, str]]:
    """Rows of how far ours is from the literal pipeline with the exact SVD, in float64."""
    for name in ("test", "nsdsynthetic"):
        worst = []
        for hemi in HEMISPHERES:
            predicted = np.load(ours.predictions(SUBJECT, hemi, name))
            expected = np.load(oracle / f"{hemi}_betas_{name}_pred.npy")
            worst.append(np.abs(predicted - expected).max())
        yield (f"responses, {name}, max abs difference", f"{np.max(worst):.1e} z", "≤ 1e-3")

    expected_maps = np.load(oracle / "metadata.npy", allow_pickle=True).item()["encoding_models"]
    maps = load_metadata(ours.metadata(SUBJECT))["encoding_models"]
    disagree = 0
    for measure in ("correlation", "r2", "noise_ceiling", "explained_variance"):
        worst = []
        for key in (key for key in expected_maps if key[3:].startswith(measure)):
            ceiling = expected_maps[key.replace(measure, "noise_ceiling")]
            difference = np.abs(maps[key] - expected_maps[key])
            disagree += np.count_nonzero(np.isnan(maps[key]) != np.isnan(expected_maps[key]))
            if measure == "explained_variance":  # in percent of a ceiling that may be near zero
                difference = difference[ceiling >= MIN_CEILING] / 100
            worst.append(np.nanmax(difference))
        yield (f"{measure}, max abs difference", f"{max(worst):.1e}", "≤ 1e-3")
    yield ("entries defined in one of them only", str(disagree), "0")

    pca, expected_pca = (
        np.load(path, allow_pickle=True).item()["pca_param"]
        for path in (ours.weights_npy(SUBJECT), oracle / "weights.npy")
    )
    variance = pca["explained_variance_"] / expected_pca["explained_variance_"] - 1
    yield ("explained variance of components", f"{np.abs(variance).max():.1e} relative", "≤ 1e-4")
    angles = subspace_angles(pca["components_"].T.astype(np.float64), expected_pca["components_"].T)
    yield ("principal angles, largest", f"{angles.max():.1e} rad", "≤ 1e-3")


def truth(nsd_dir: Path, files: ModelFiles) -> Iterator[tuple[str, str, str]]:
    """Rows of how near the estimates come to what was simulated."""
    metadata = load_metadata(files.metadata(SUBJECT))
    true = load_truth(nsd_dir, SUBJECT)
    for hemi in HEMISPHERES:
        measured = np.load(prepared(files) / f"measured_{hemi}" / "responses.npy")
        best = score_responses(
            measured,
            true.signal(hemi, "test"),
            ncsnr=metadata["fmri"][f"{hemi}_ncsnr"],
            repeats=3,
        ).explained_variance_percent
        medians = [median_of_published(metadata, hemi, of) for of in (None, best)]
        figure = f"{medians[0]:.1f} %, the true readout {medians[1]:.1f} %"
        target = "≥ 0.9 of it" if len(true.img_num["train"]) == FULL_SIZE["n_train"] else ""
        yield (f"explained variance, median, {hemi}", figure, target)

        estimate, ncsnr = metadata["fmri"][f"{hemi}_ncsnr_nsdsynthetic"], true.ncsnr_synthetic[hemi]
        known = np.isfinite(estimate) & (true.noise_ceiling(hemi, "synthetic") >= MIN_CEILING)
        estimate, ncsnr = estimate[known], ncsnr[known]
        bias = np.median(estimate / ncsnr) - 1
        yield (f"ncsnr of NSD-synthetic, {hemi}, median bias", f"{100 * bias:+.1f} %", "≤ 2 %")
        groups = np.array_split(np.argsort(ncsnr), len(ncsnr) // 100)
        means = np.array([[estimate[group].mean(), ncsnr[group].mean()] for group in groups])
        yield (
            f"ncsnr of NSD-synthetic, {hemi}, r",
            f"{np.corrcoef(means.T)[0, 1]:.4f} of means of 100 vertices alike in truth; "
            f"{np.corrcoef(estimate, ncsnr)[0, 1]:.2f} of single vertices",
            "≥ 0.99",
        )


def median_of_published(metadata: Metadata, hemi: str, percent: np.ndarray | None) -> float:
    maps = metadata["encoding_models"]
    if percent is None:
        percent = maps[f"{hemi}_explained_variance_nsdcore"]
    shown = maps[f"{hemi}_noise_ceiling_nsdcore"] >= MIN_CEILING
    return float(np.nanmedian(percent[shown]))


def print_own_stages(ours: Run) -> None:
    """Print a table of what each of our stages took."""
    rest = ours.seconds - sum(ours.stages.values())
    taken = ours.stages | {"start, and the rest": rest, "end to end": ours.seconds}
    print_rows((title, f"{seconds:.1f} s", "") for title, seconds in taken.items())


def print_stages(ours: Run, literal: Run) -> None:
    """Print a table with every stage of ours, and of the literal pipeline beside it."""
    print("\n| stage | ours | literal | ratio | target |\n|---|---|---|---|---|")
    runs = (ours, literal)
    sums = {
        title: [sum(run.stages.get(name, 0.0) for name in names[i]) for i, run in enumerate(runs)]
        for title, names in STAGES.items()
    }
    sums["start, and the rest"] = [
        run.seconds - sum(seconds[i] for seconds in sums.values()) for i, run in enumerate(runs)
    ]
    sums["end to end"] = [run.seconds for run in runs]
    rows = {title: [f"{value:.1f} s" for value in seconds] for title, seconds in sums.items()}
    for title, (a, b) in sums.items():
        rows[title].append(f"{b / a:.1f}×" if a else "")
    rows["peak memory"] = [gigabytes(run.peak_bytes) for run in runs]
    targets = {"peak memory": "≤ 4 GB", "end to end": "≥ 5×"}
    for title, cells in rows.items():
        print_cells(title, *cells, *[""] * (3 - len(cells)), targets.get(title, ""))


def print_rows(rows: Iterable[tuple[str, str, str]]) -> None:
    print("\n| what | figure | target |\n|---|---|---|")
    for row in rows:
        print_cells(*row)


def print_cells(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB"


def berg_files(berg_dir: Path) -> ModelFiles:
    return find_card(DEFAULT_MODEL_ID).files(berg_dir)


def prepared(files: ModelFiles) -> Path:
    return files.prepared / f"subject-{SUBJECT:02d}"


if __name__ == "__main__":
    main()
