"""A model small enough to compute by hand: 12 vertices a hemisphere, 5 components.

It reads the real network's 205,672 features, so everything but the sizes of the brain is
what users have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from berg import catalog
from berg.metadata import save_metadata
from berg.weights import PCAParams, RegressionParams, ScalerParams, save_npy

if TYPE_CHECKING:
    from s3_fixture import S3

MODEL_ID = catalog.DEFAULT_MODEL_ID
REAL_CARD = catalog.find_card(MODEL_ID)
N_VERTICES = 12
N_COMPONENTS = 5
ROIS: Mapping[str, Mapping[str, list[int]]] = {
    "V1v": {"lh": [3, 1, 2], "rh": [0, 11]},
    "V1d": {"lh": [2, 5], "rh": [4]},
    "OWFA": {"lh": [7], "rh": [8, 9]},
    "FFA-2": {"lh": [], "rh": [6]},
    "mTL-bodies": {"lh": [], "rh": []},
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20200220)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """One S3 server for the whole run; the tests that use it need `enable_socket`."""
    from s3_fixture import serve_s3

    with serve_s3(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole run, so that the network is drawn once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache_dir: Path) -> None:
    """Keep tests away from the user's own data."""
    monkeypatch.setenv("BERG_CACHE_DIR", str(cache_dir))
    monkeypatch.setenv("BERG_DIR", str(tmp_path / "no_berg_dir"))


@dataclass(frozen=True)
class TinyModel:
    """A berg_dir with one subject, and the parts that its weights are made of."""

    berg_dir: Path
    scaler: ScalerParams
    pca: PCAParams
    lh: RegressionParams
    rh: RegressionParams

    @property
    def weights_npy(self) -> Path:
        return tiny_card().files(self.berg_dir).weights_npy(1)

    @property
    def metadata_npy(self) -> Path:
        return tiny_card().files(self.berg_dir).metadata(1)


def tiny_card() -> catalog.ModelCard:
    return replace(REAL_CARD, n_components=N_COMPONENTS, n_vertices=N_VERTICES)


@pytest.fixture(scope="session")
def tiny_parts() -> tuple[ScalerParams, PCAParams, RegressionParams, RegressionParams]:
    rng = np.random.default_rng(1)
    n_features = tiny_card().n_features
    scale = rng.uniform(0.01, 2, n_features)
    scaler = ScalerParams(
        scale_=scale,
        mean_=rng.uniform(0, 0.05, n_features),
        var_=scale**2,
        n_features_in_=n_features,
        n_samples_seen_=100,
    )
    components = rng.standard_normal((N_COMPONENTS, n_features)).astype(np.float32)
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    pca = PCAParams(
        components_=components,
        mean_=rng.normal(0, 1e-7, n_features).astype(np.float32),
        explained_variance_=np.arange(N_COMPONENTS, 0, -1.0),
        explained_variance_ratio_=np.full(N_COMPONENTS, 0.1),
        singular_values_=np.arange(N_COMPONENTS, 0, -1.0),
        n_components_=N_COMPONENTS,
        n_samples_=100,
        noise_variance_=0.5,
        n_features_in_=n_features,
    )
    lh, rh = (
        RegressionParams(
            coef_=rng.standard_normal((N_VERTICES, N_COMPONENTS)).astype(np.float32) / 10,
            intercept_=rng.standard_normal(N_VERTICES).astype(np.float32) / 10,
            n_features_in_=N_COMPONENTS,
        )
        for _ in range(2)
    )
    return scaler, pca, lh, rh


@pytest.fixture(scope="session")
def tiny_metadata() -> dict[str, dict[str, object]]:
    rng = np.random.default_rng(2)
    fmri: dict[str, object] = {}
    accuracy: dict[str, object] = {
        "train_img_num": np.arange(100),
        "val_img_num": np.arange(100, 110),
        "test_img_num": np.arange(110, 130),
    }
    for hemi in ("lh", "rh"):
        fmri[f"{hemi}_fsaverage_rois"] = {
            name: np.array(vertices[hemi], dtype=np.int64) for name, vertices in ROIS.items()
        }
        fmri[f"{hemi}_ncsnr"] = rng.uniform(0, 1, N_VERTICES).astype(np.float32)
        fmri[f"{hemi}_ncsnr_nsdsynthetic"] = rng.uniform(0, 1, N_VERTICES).astype(np.float32)
        for data in ("nsdcore", "nsdsynthetic"):
            for measure in ("correlation", "r2", "noise_ceiling", "explained_variance"):
                accuracy[f"{hemi}_{measure}_{data}"] = rng.uniform(0, 1, N_VERTICES).astype(
                    np.float32
                )
    return {"fmri": fmri, "encoding_models": accuracy}


@pytest.fixture
def tiny(tmp_path, monkeypatch, tiny_parts, tiny_metadata) -> TinyModel:
    """A berg_dir of the tiny model's subject 1; the catalog knows the tiny model only."""
    card = tiny_card()
    monkeypatch.setattr(catalog, "load_cards", lambda: {MODEL_ID: card})
    model = TinyModel(tmp_path / "berg", *tiny_parts)
    save_npy(model.weights_npy, *tiny_parts)
    save_metadata(model.metadata_npy, tiny_metadata)
    return model


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    """Three noise images of the size that needs no resize."""
    return rng.integers(0, 256, (3, 3, 256, 256), dtype=np.uint8)
