"""Fitted scaler and components on disk, between the stage that fits and those that use them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from berg.weights import PCAParams, ScalerParams

_NAMES = {"scaler": ScalerParams, "pca": PCAParams}


def save_fitted(folder: Path, scaler: ScalerParams, pca: PCAParams) -> None:
    """Write scaler and components into a folder.

    Parameters
    ----------
    folder : Path
    scaler : ScalerParams
    pca : PCAParams
    """
    for name, params in (("scaler", scaler), ("pca", pca)):
        for field in fields(params):
            np.save(_path(folder, name, field.name), getattr(params, field.name))


def load_fitted(folder: Path) -> tuple[ScalerParams, PCAParams]:
    """Read what `save_fitted` wrote.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    scaler : ScalerParams
    pca : PCAParams
    """
    scaler, pca = (
        kind(**{field.name: _load(folder, name, field.name) for field in fields(kind)})
        for name, kind in _NAMES.items()
    )
    return scaler, pca


def _load(folder: Path, name: str, field: str) -> Any:
    value = np.load(_path(folder, name, field))
    return value if value.ndim else value.item()


def _path(folder: Path, name: str, field: str) -> Path:
    return folder / f"{name}.{field.strip('_')}.npy"
