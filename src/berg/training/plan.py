"""What training and testing will take from the machine, stated before they start.

The figures follow from the sizes of the data; each large array of each stage is counted. A
training that cannot fit is refused at once, rather than failing after an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from berg.errors import ResourceError
from berg.resources import free_disk_bytes, show_bytes

_FLOAT32, _FLOAT64 = 4, 8
_PROGRAM_BYTES = 600 * 10**6  # Python, PyTorch, the network's weights, one batch of images
_COLUMN_BLOCK = 4096  # features that are standardised together
_SPARE_DISK_BYTES = 10**9  # what should be left to others on a disk


@dataclass(frozen=True)
class Sizes:
    """The sizes that decide how much memory and disk the training of a subject takes.

    Parameters
    ----------
    n_train, n_test, n_shared, n_synthetic : int
        Images: of the partitions, of NSD-core shared by all subjects, of NSD-synthetic.
    n_vertices : int
        Of one hemisphere.
    n_trials : int
        Of a session, or of NSD-synthetic if that has more.
    n_features, n_components : int
    """

    n_train: int
    n_test: int
    n_shared: int
    n_synthetic: int
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
        needs = (
            f"needs about {show_bytes(self.memory_bytes)} of memory and "
            f"{show_bytes(self.scratch_bytes + self.kept_bytes)} of disk"
        )
        if not self.scratch_bytes:
            return needs
        return f"{needs}, {show_bytes(self.scratch_bytes)} of it only while it works"


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
    block = s.n_train * _COLUMN_BLOCK * _FLOAT32
    gram = s.n_train**2 * 2 * _FLOAT64 + 4 * block
    components = 3 * s.n_components * s.n_features * _FLOAT32
    products = (s.n_components + 1) * s.n_vertices * _FLOAT32
    return Plan(
        memory_bytes=_PROGRAM_BYTES
        + max(gram + components // 3, components + 2 * products, 2 * products + _trials_bytes(s)),
        scratch_bytes=s.n_train * s.n_features * _FLOAT32 + components + 4 * products,
        kept_bytes=_prepared_bytes(s)
        + 2 * (s.n_test + s.n_synthetic) * s.n_vertices * _FLOAT32
        + (s.n_components * _FLOAT32 + 3 * _FLOAT64) * s.n_features
        + 2 * products,
    )


def plan_testing(sizes: Sizes) -> Plan:
    """Add up what the test of one subject's model takes.

    Parameters
    ----------
    sizes : Sizes

    Returns
    -------
    Plan
    """
    s = sizes
    model = (s.n_components * s.n_features + 2 * (s.n_components + 1) * s.n_vertices) * _FLOAT32
    predicted = 3 * max(s.n_test, s.n_synthetic) * s.n_vertices * _FLOAT32  # and one measured
    return Plan(
        memory_bytes=_PROGRAM_BYTES + model + max(predicted, _trials_bytes(s)),
        scratch_bytes=0,
        kept_bytes=_prepared_bytes(s),
    )


def _trials_bytes(s: Sizes) -> int:
    """Memory for the pass over a hemisphere's trials, but for the products."""
    return (2 * s.n_trials + s.n_test) * s.n_vertices * _FLOAT32


def _prepared_bytes(s: Sizes) -> int:
    """Disk for the features of test images, and for the measured responses to them."""
    features = (s.n_shared + s.n_synthetic) * s.n_features
    return (features + 2 * (s.n_test + s.n_synthetic) * s.n_vertices) * _FLOAT32


def check_resources(
    plans: Sequence[Plan],
    folder: Path,
    *,
    there_bytes: int = 0,
    n_at_once: int = 1,
    memory: bool = True,
) -> None:
    """Refuse what the machine is too small for.

    Parameters
    ----------
    plans : sequence of Plan
        What they keep adds up; the rest, over those that are done at once.
    folder : Path
        Where they will write; need not exist.
    there_bytes : int
        Disk that an earlier, interrupted run has taken for the same already.
    n_at_once : int
        How many are done at the same time; in the worst case those that take most.
    memory : bool
        Whether they are done on this machine; else only the disk is looked at.

    Raises
    ------
    ResourceError
        If less memory or disk is free than they need.
    """
    needed = _largest((plan.memory_bytes for plan in plans), n_at_once)
    available = psutil.virtual_memory().available
    if memory and needed > available:
        raise ResourceError(
            "there is too little memory",
            got=f"{show_bytes(available)} free, about {show_bytes(needed)} needed",
            do="close other programs, or run it on a larger machine"
            + (f", or do fewer than {n_at_once} at once" if n_at_once > 1 else ""),
        )
    free = free_disk_bytes(folder)
    scratch = _largest((plan.scratch_bytes for plan in plans), n_at_once)
    wanted = scratch + sum(plan.kept_bytes for plan in plans) - there_bytes
    if plans and wanted + _SPARE_DISK_BYTES > free:
        raise ResourceError(
            f"there is too little space on the disk of {folder}",
            got=f"{show_bytes(free)} free, about {show_bytes(wanted)} needed",
            accepted=f"{show_bytes(wanted + _SPARE_DISK_BYTES)} free, 1 GB of it to spare",
            do="make space, or point --berg-dir at a larger disk",
        )


def _largest(needs: Iterable[int], n: int) -> int:
    return sum(sorted(needs)[-n:])
