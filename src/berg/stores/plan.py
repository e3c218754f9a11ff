"""What a long run will take from the machine, stated before it starts.

The bytes of the store follow from its layout; the memory of a process is a sum of the large
arrays and of constants that were measured. A run that cannot fit is refused at once, rather than
failing after a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from berg.encoding import BATCH_SIZE
from berg.errors import ResourceError
from berg.resources import free_disk_bytes, show_bytes
from berg.stores.arrays import ArrayPlan
from berg.stores.recipe import Recipe

_FLOAT32 = 4
# Peaks of the simulated subject at full size, 1 and 2 threads, in /proc/self/status (RssAnon and
# RssFile, every 2 ms; 2026-11-22, PyTorch 2.13 for the CPU): 150 MB are Python's and PyTorch's
# own, and 60 MB those of Zarr and Dask.
_PROGRAM_BYTES = 210 * 10**6
_MAPPED_PROGRAM_BYTES = 150 * 10**6  # the libraries' code, which the processes share
_NETWORK_BYTES = 244 * 10**6  # 61,100,840 parameters, mapped from the cache
_BATCH_BYTES = BATCH_SIZE * 3_700_000  # activations and workspace; 360 to 470 MB measured
_TRANSFORMED_BYTES = 340 * 10**6  # the network's weights for convolutions by Fourier transforms
# What `berg.sources.read_batches` lets lie in memory before it is resized; 139 MB for images of
# 425×425 pixels.
_READ_AHEAD_BYTES = 400 * 10**6
_WRITING = 2  # an array and its bytes as they go to the disk
# What should be left to others on a disk: of a large run 1 GB, of a small one less.
_MOST_SPARE_BYTES = 10**9
_LEAST_SPARE_BYTES = 50 * 10**6


@dataclass(frozen=True)
class RunPlan:
    """What there is to do in a run, and what it takes.

    Parameters
    ----------
    n_images, n_chunks : int
        Of the whole store.
    n_done : int
        Chunks that the store has already.
    store_bytes, missing_bytes : int
        Disk: of the whole store, and of what is still to be written.
    own_bytes : int
        Memory of one process that is its alone.
    shared_bytes : int
        Memory for the network and the weights; mapped from files, the processes of one machine
        have it once.
    n_workers : int
        Processes that compute; 0 if this one does.
    """

    n_images: int
    n_chunks: int
    n_done: int
    store_bytes: int
    missing_bytes: int
    own_bytes: int
    shared_bytes: int
    n_workers: int

    @property
    def worker_bytes(self) -> int:
        """Memory of one process, with what it shares."""
        return self.own_bytes + self.shared_bytes

    @property
    def machine_bytes(self) -> int:
        """Memory of all processes, if they run on one machine."""
        this_one = _PROGRAM_BYTES if self.n_workers else 0
        return this_one + max(self.n_workers, 1) * self.own_bytes + self.shared_bytes

    def __str__(self) -> str:
        chunks = f"{self.n_chunks:,} chunk{'s' if self.n_chunks > 1 else ''}"
        there = f" ({self.n_done:,} done already)" if self.n_done else ""
        each = " a worker" if self.n_workers else ""
        return (
            f"{self.n_images:,} images in {chunks}{there}; "
            f"{show_bytes(self.store_bytes)} of output, {show_bytes(self.missing_bytes)} to write; "
            f"about {show_bytes(self.worker_bytes)} of memory{each}, "
            f"{show_bytes(self.shared_bytes)} of it mapped files"
        )


def plan_run(
    recipe: Recipe,
    arrays: Mapping[str, ArrayPlan],
    *,
    n_done: int,
    n_features: int,
    n_components: int,
    name_bytes: float,
    n_workers: int = 0,
    mapped: bool = True,
) -> RunPlan:
    """Add up what a run takes.

    Parameters
    ----------
    recipe : Recipe
    arrays : mapping of str to ArrayPlan
        The store's, as `berg.stores.arrays.plan_arrays` gives them.
    n_done : int
        Chunks that the store has already.
    n_features, n_components : int
        Of the model.
    name_bytes : float
        Length of an image's name in UTF-8, on average.
    n_workers : int
        Processes that compute; 0 if this one does.
    mapped : bool
        Whether the weights are converted, so that processes map them instead of holding them.

    Returns
    -------
    RunPlan
    """
    per_image = [plan for plan in arrays.values() if plan.dims[0] == "image"]
    once = sum(_file_bytes(plan, 0) * plan.n_files for plan in arrays.values()) - sum(
        _file_bytes(plan, 0) * plan.n_files for plan in per_image
    )
    whole = sum(_file_bytes(plan, name_bytes) * plan.n_files for plan in per_image)
    missing = whole * (recipe.n_chunks - n_done) // recipe.n_chunks
    projections = len(recipe.subjects) * n_features * n_components * _FLOAT32
    readouts, buffers = _response_bytes(recipe, arrays, n_components)
    chunk_scores = len(recipe.subjects) * recipe.chunk_images * n_components * _FLOAT32
    own = (
        _PROGRAM_BYTES
        + _TRANSFORMED_BYTES
        + _BATCH_BYTES
        + _READ_AHEAD_BYTES
        + _WRITING * chunk_scores
        + buffers
    )
    shared = _MAPPED_PROGRAM_BYTES + _NETWORK_BYTES
    weights = projections + readouts
    return RunPlan(
        n_images=recipe.n_images,
        n_chunks=recipe.n_chunks,
        n_done=n_done,
        store_bytes=once + whole,
        missing_bytes=missing if n_done else missing + once,
        own_bytes=own if mapped else own + weights,
        shared_bytes=shared + weights if mapped else shared,
        n_workers=n_workers,
    )


def check_disk(plan: RunPlan, store_path: Path) -> None:
    """Refuse a run that the disk is too small for.

    Parameters
    ----------
    plan : RunPlan
    store_path : Path
        Where the store is or will be; neither it nor its folder need exist.

    Raises
    ------
    ResourceError
        If less is free than the run will write, and up to 1 GB that is left to others.
    """
    if not plan.missing_bytes:
        return
    free = free_disk_bytes(store_path)
    spare = min(_MOST_SPARE_BYTES, plan.missing_bytes // 10 + _LEAST_SPARE_BYTES)
    if plan.missing_bytes + spare > free:
        raise ResourceError(
            f"there is too little space on the disk of {store_path}",
            got=f"{show_bytes(free)} free, {show_bytes(plan.missing_bytes)} still to write",
            accepted=f"{show_bytes(plan.missing_bytes + spare)} free, {show_bytes(spare)} of it to "
            "spare",
            do="make space or choose a larger disk; scores (the default) take a thousandth of "
            "whole-surface responses",
        )


def check_memory(plan: RunPlan, available: Mapping[str, int] | None = None) -> None:
    """Refuse a run that memory is too small for.

    Parameters
    ----------
    plan : RunPlan
    available : mapping of str to int, optional
        Bytes that each worker of a cluster may take, by its address. None: all processes are on
        this machine and share what is free on it.

    Raises
    ------
    ResourceError
        If less is free than the run needs.
    """
    if available is None:
        free, needed, where = psutil.virtual_memory().available, plan.machine_bytes, ""
    else:
        if not available:  # workers without a limit
            return
        address, free = min(available.items(), key=lambda item: item[1])
        needed, where = plan.worker_bytes, f" of the worker {address}"
    if needed > free:
        raise ResourceError(
            f"there is too little memory{where}",
            got=f"{show_bytes(free)} free, about {show_bytes(needed)} needed",
            do=_how_to_need_less(plan),
        )


def _how_to_need_less(plan: RunPlan) -> str:
    ways = ["a smaller --chunk", "fewer subjects at a time", "a larger machine"]
    if plan.n_workers > 1:
        ways.insert(0, "fewer --workers")
    return f"use {', '.join(ways[:-1])} or {ways[-1]}"


def _file_bytes(plan: ArrayPlan, name_bytes: float) -> int:
    """Size of one file of an array; names are of unequal length, each after its own in 4 bytes."""
    if plan.file_bytes is not None:
        return plan.file_bytes
    return round(plan.chunks[0] * (4 + name_bytes))


def _response_bytes(
    recipe: Recipe, arrays: Mapping[str, ArrayPlan], n_components: int
) -> tuple[int, int]:
    """Memory for responses: all subjects' regressions, and one subject's chunk of responses."""
    n_vertices: list[int] = []
    for subject in recipe.subjects:
        hemis = [arrays.get(f"subject-{subject:02d}/{hemi}") for hemi in ("lh", "rh")]
        n_vertices.append(sum(plan.shape[1] for plan in hemis if plan is not None))
    readouts = sum(n_vertices) * (n_components + 1) * _FLOAT32
    responses = max(n_vertices) * recipe.chunk_images * _FLOAT32
    # Files are converted and written one by one.
    file = max((plan.file_bytes or 0 for plan in arrays.values()), default=0)
    return readouts, (responses + _WRITING * file if responses else 0)
