"""A tiny copy of NSD, written with the libraries that define its formats.

Two subjects, three sessions of ten trials, 20 vertices a hemisphere. Numbers are arbitrary but
for what the readers must agree on; what was written is returned for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import nibabel
import numpy as np
from scipy.io import savemat

from berg.layout import NSDFiles
from berg.surface.roi_patches import ROI_COLLECTIONS

N_VERTICES, N_NATIVE = 20, 25
N_SESSIONS, N_TRIALS = 3, 10
SHARED, OWN = 4, 6  # images of a subject
HEIGHT, WIDTH = 6, 9
N_STORED = 40
SYNTHETIC_ORDER = np.array([8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 5])
N_SYNTHETIC_SHARED, N_COLOUR = 5, 3


@dataclass
class Tree:
    """The files, and what is in them."""

    files: NSDFiles
    masterordering: np.ndarray  # 1-based, as in the file
    subjectim: np.ndarray
    arrays: dict[Path, np.ndarray] = field(default_factory=dict)


def write_mgh(path: Path, values: np.ndarray) -> None:
    """Write (n_vertices,), or (n_vertices, n_trials), as nibabel does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(values), 1, 1, *values.shape[1:])
    nibabel.save(nibabel.MGHImage(values.reshape(shape), np.eye(4)), path)


def write_images(path: Path, images: np.ndarray, dataset: str = "imgBrick") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(dataset, data=images, chunks=(1, *images.shape[1:]))


def write_design(path: Path, **variables: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables)


def stimpattern(n_sessions: int, n_trials: int) -> np.ndarray:
    """Ones where there is a trial; runs are of different lengths, as NSD's."""
    pattern = np.zeros((n_sessions, 2, n_trials), np.uint8)
    pattern[:, 0, 1 : 1 + n_trials // 3] = 1
    pattern[:, 1, : n_trials - n_trials // 3] = 1
    return pattern


def write_nsd(nsd_dir: Path, subjects: tuple[int, ...] = (1, 2), seed: int = 0) -> Tree:
    rng = np.random.default_rng(seed)
    files = NSDFiles(nsd_dir)
    # Shared images first; every image three times in thirty trials.
    order = rng.permutation(np.repeat(np.arange(1, SHARED + OWN + 1), 3))
    ids = 1 + rng.permutation(N_STORED)[: SHARED + len(subjects) * OWN]
    subjectim = np.stack(
        [[*ids[:SHARED], *ids[SHARED + i * OWN :][:OWN]] for i in range(len(subjects))]
    )
    tree = Tree(files, order, subjectim)
    write_design(
        files.design,
        masterordering=order[np.newaxis].astype(np.uint16),
        subjectim=subjectim.astype(np.int32),
        stimpattern=stimpattern(N_SESSIONS, N_TRIALS),
    )
    write_design(files.synthetic_design, masterordering=SYNTHETIC_ORDER[np.newaxis])

    def images(path: Path, n: int) -> None:
        tree.arrays[path] = rng.integers(0, 256, (n, HEIGHT, WIDTH, 3), dtype=np.uint8)
        write_images(path, tree.arrays[path])

    def maps(path: Path, *shape: int) -> None:
        tree.arrays[path] = rng.standard_normal(shape).astype(np.float32)
        write_mgh(path, tree.arrays[path])

    def numbers(path: Path, low: int, high: int, n: int) -> None:
        tree.arrays[path] = rng.integers(low, high, n)
        write_mgh(path, tree.arrays[path].astype(np.float32))

    images(files.stimuli, N_STORED)
    images(files.synthetic_stimuli, N_SYNTHETIC_SHARED)
    for hemi in ("lh", "rh"):
        numbers(files.fsaverage_nsdgeneral(hemi), 0, 2, N_VERTICES)
    for subject in subjects:
        images(files.synthetic_colour_stimuli(subject), N_COLOUR)
        for collection, names in ROI_COLLECTIONS.items():
            if collection != "nsdgeneral" or subject == 1:
                lines = [
                    f"{i}\t{name}" if i % 2 else f"{i}  {name}"
                    for i, name in enumerate(("Unknown", *names))
                ]
                for hemi in ("lh", "rh"):
                    path = files.roi_labels(subject, hemi, collection)
                    numbers(path, 0, 1 + len(names), N_NATIVE)
                files.roi_names(subject, collection).write_text("\n".join(lines) + "\n")
        for hemi in ("lh", "rh"):
            numbers(files.white_to_fsaverage(subject, hemi), 1, 1 + N_NATIVE, N_VERTICES)
            path = files.ncsnr(subject, hemi)
            maps(path, N_VERTICES)
            tree.arrays[path] = abs(tree.arrays[path])
            write_mgh(path, tree.arrays[path])
            maps(files.synthetic_betas(subject, hemi), N_VERTICES, len(SYNTHETIC_ORDER))
            for session in range(1, N_SESSIONS + 1):
                maps(files.betas(subject, hemi, session), N_VERTICES, N_TRIALS)
    return tree
