"""What training will take from the machine, stated before it starts.

The figures follow from the sizes of the data; each large array of each stage is counted. A
training that cannot fit is refused at once, rather than failing after an hour.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from berg.errors import ResourceError

_FLOAT32, _FLOAT64 = 4, 8
_PROGRAM_BYTES = 600 * 10**6  # Python, PyTorch, the network's weights, one batch of images
_COLUMN_BLOCK = 4096  # features that are standardised together
_SPARE_DISK_BYTES = 10**9  # what should be left to others on a disk


@dataclass(frozen=True)
class Sizes:
    """The sizes that decide how much memory and disk the training of a subject takes.

    Parameters
    ----------
    n_train, n_val, n_test, n_shared, n_synthetic, n_colour : int
        Images: of the partitions, shared by all subjects, of NSD-synthetic, and those of
        NSD-synthetic that were made for the subject.
    n_vertices : int
        Of one hemisphere.
    n_trials : int
        Of a session, or of NSD-synthetic if that has more.
    n_features, n_components : int
    """

    n_train: int
    n_val: int
    n_test: int
    n_shared: int
    n_synthetic: int
    n_colour: int
    n_vertices: int
    n_trials: int
    n_features: int
    n_components: int


@dataclass(frozen=True)
class Plan:
    """Memory and disk that a command needs, in bytes.

    Parameters
    ----------
    memory_bytes : int
        Peak, of the stage that takes most.
    scratch_bytes : int
        Disk that is given back at the end: the training images' features.
    kept_bytes : int
        Disk that stays: weights, metadata, predictions, prepared responses.
    """

    memory_bytes: int
    scratch_bytes: int
    kept_bytes: int

    def __str__(self) -> str:
        return (
            f"needs about {_gb(self.memory_bytes)} of memory and "
            f"{_gb(self.scratch_bytes + self.kept_bytes)} of disk, "
            f"{_gb(self.scratch_bytes)} of it only while it works"
        )


def plan_training(sizes: Sizes) -> Plan:
    """Add up what the training of one subject takes.

    Parameters
    ----------
    sizes : Sizes

    Returns
    -------
    Plan
    """
    s = sizes
    gram = s.n_train**2 * (2 * _FLOAT64 + _FLOAT32) + 3 * s.n_train * _COLUMN_BLOCK * _FLOAT32
    components = 3 * s.n_components * s.n_features * _FLOAT32
    session = s.n_trials * s.n_vertices * _FLOAT32
    products = 2 * (s.n_components + 1) * s.n_vertices * _FLOAT32
    trials = 2 * session + products + s.n_test * s.n_vertices * _FLOAT32
    regressions = 2 * (s.n_components + 1) * s.n_vertices * _FLOAT32
    return Plan(
        memory_bytes=_PROGRAM_BYTES + max(gram, components + regressions, trials),
        scratch_bytes=(s.n_train + s.n_colour) * s.n_features * _FLOAT32 + 2 * products,
        kept_bytes=(
            (s.n_shared + s.n_synthetic - s.n_colour) * s.n_features * _FLOAT32
            # measured and predicted responses, both hemispheres
            + 4 * (s.n_test + s.n_synthetic) * s.n_vertices * _FLOAT32
            + (s.n_components * _FLOAT32 + 3 * _FLOAT64) * s.n_features
            + regressions
        ),
    )


def check_resources(plan: Plan, folder: Path, *, there_bytes: int = 0) -> None:
    """Refuse a training for which the machine is too small.

    Parameters
    ----------
    plan : Plan
    folder : Path
        Where it will write; need not exist.
    there_bytes : int
        Disk that an earlier, interrupted run has taken already.

    Raises
    ------
    ResourceError
        If less memory or disk is free than the plan needs.
    """
    available = psutil.virtual_memory().available
    if plan.memory_bytes > available:
        raise ResourceError(
            "there is too little memory for this training",
            got=f"{_gb(available)} free; it {plan}",
            do="close other programs, or run it on a larger machine",
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    wanted = plan.scratch_bytes + plan.kept_bytes - there_bytes + _SPARE_DISK_BYTES
    if wanted > free:
        raise ResourceError(
            f"there is too little space on the disk of {folder}",
            got=f"{_gb(free)} free; it {plan}",
            accepted=f"{_gb(wanted)} free, 1 GB of it to spare",
            do="make space, or point --berg-dir at a larger disk",
        )


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in a folder and below it; 0 if it does not exist."""
    return sum(
        os.path.getsize(os.path.join(path, name))
        for path, _, names in os.walk(folder)
        for name in names
    )


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
