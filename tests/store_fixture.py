"""A store of a few images, filled with numbers that the tests know."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from berg.stores import Recipe, Store

# Zarr's event loop starts here, before the tests, because it opens a socket pair: within one
# process, but the tests may open no socket.
zarr.create_group(zarr.storage.MemoryStore())

N_IMAGES, N_CHUNK, N_COMPONENTS = 23, 5, 4
N_VERTICES = {1: (12, 7), 3: (12, 0)}
RECIPE = Recipe(
    model_id="fmri-nsd_fsaverage-alexnet_untrained",
    subjects=(1, 3),
    rois=(),
    dtype="scores",
    n_images=N_IMAGES,
    images_sha256="1" * 64,
    chunk_images=N_CHUNK,
    weights_sha256=("2" * 64, "3" * 64),
    network_sha256="4" * 64,
    berg_version="1.0",
)
NAMES = [f"photos/é {i}.jpg" for i in range(N_IMAGES)]
UNREADABLE = [6, 7, 20]


def scores(subject: int) -> np.ndarray:
    values = np.random.default_rng(subject).standard_normal((N_IMAGES, N_COMPONENTS), np.float32)
    values[UNREADABLE] = np.nan
    return values


def responses(subject: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(10 + subject)
    lh, rh = (rng.standard_normal((N_IMAGES, n), np.float32) for n in N_VERTICES[subject])
    return lh, rh


def status() -> np.ndarray:
    values = np.ones(N_IMAGES, np.uint8)
    values[UNREADABLE] = 2
    return values


def create(path: Path, **changes: Any) -> Store:
    recipe = replace(RECIPE, **changes)
    return Store.create(
        path,
        recipe,
        n_components=N_COMPONENTS,
        vertices={
            s: (np.arange(N_VERTICES[s][0]), np.arange(N_VERTICES[s][1])) for s in recipe.subjects
        },
        provenance={s: {"subject": s, "simulated": True} for s in recipe.subjects},
    )


def fill(store: Store, i_chunks: Iterable[int] | None = None) -> Store:
    for i in store.pending() if i_chunks is None else i_chunks:
        images = store.recipe.chunk(i)
        for subject in store.recipe.subjects:
            store.write_scores(i, subject, scores(subject)[images])
            if store.recipe.dtype != "scores":
                lh, rh = responses(subject)
                store.write_responses(i, subject, lh[images], rh[images])
        store.finish_chunk(i, NAMES[images], status()[images])
    return store


def hash_tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
