"""Two subjects of the tiny model, images to encode, and `berg` in other processes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import store_fixture  # noqa: F401 - starts Zarr's event loop while sockets may be opened
from berg import loading
from berg.alexnet import AlexNet
from berg.metadata import save_metadata
from berg.networks import load_network
from berg.weights import save_npy
from conftest import TinyModel, tiny_card

# What `berg` is, with a catalog of the tiny model only. Workers import it too.
_PROGRAM = """
from berg import catalog
from conftest import MODEL_ID, tiny_card

catalog.load_cards = lambda: {MODEL_ID: tiny_card()}

if __name__ == "__main__":
    from berg.cli import main

    main()
"""


def add_second_subject(tiny: TinyModel, metadata: dict[str, dict[str, Any]]) -> None:
    """Write subject 2: another projection, other regressions, other regions."""
    pca = replace(tiny.pca, components_=np.ascontiguousarray(tiny.pca.components_[::-1]))
    files = tiny_card().files(tiny.berg_dir)
    save_npy(files.weights_npy(2), tiny.scaler, pca, tiny.rh, tiny.lh)
    fmri = metadata["fmri"]
    lh, rh = (fmri[f"{hemi}_fsaverage_rois"] for hemi in ("lh", "rh"))
    swapped = {**fmri, "lh_fsaverage_rois": rh, "rh_fsaverage_rois": lh}
    save_metadata(files.metadata(2), {**metadata, "fmri": swapped})


def write_images(folder: Path, n_images: int) -> Path:
    """Write square noise images of the network's size into a folder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    for i in range(n_images):
        pixels = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


def read_images(folder: Path) -> np.ndarray:
    """Read the images of a folder as a stimulus."""
    paths = sorted(folder.glob("*.png"))
    return np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths])


def write_hdf5(path: Path, folder: Path) -> str:
    """Write the images of a folder as NSD's file has them; return the source."""
    with h5py.File(path, "w") as file:
        file["imgBrick"] = read_images(folder).transpose(0, 2, 3, 1)
    return f"{path}:imgBrick"


def command(program: Path, *arguments: object) -> list[str]:
    """Return the command line of `berg` in a process of its own, for the tiny model."""
    program.write_text(_PROGRAM)
    return [sys.executable, "-W", "error", str(program), *map(str, arguments)]


def environment(berg_dir: Path) -> dict[str, str]:
    """Return the environment that such a process needs."""
    return {
        **os.environ,
        "BERG_DIR": str(berg_dir),
        "PYTHONPATH": str(Path(__file__).parent),
        "OMP_NUM_THREADS": "1",
    }


def share_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the network once for all tests: each time its fingerprint is computed."""
    monkeypatch.setattr(loading, "load_network", _load_network)


@cache
def _load_network(device: torch.device, precision: str) -> AlexNet:
    return load_network(device, precision)
