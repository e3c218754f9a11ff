"""The pipeline that a user would put together from the card with PyTorch and scikit-learn.

It carries the same weights as our model. `upstream` prepares the whole stimulus first and
grows its results by `np.append`; `tidy` prepares a batch at a time and fills arrays made
beforehand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

BATCH_SIZE = 100
N_VERTICES = 163_842
LAYERS = (
    *("features.2", "features.5", "features.7", "features.9", "features.12"),
    *("classifier.2", "classifier.5", "classifier.6"),
)


class Reference:
    """Network, scaler, components and regressions as a user holds them."""

    def __init__(self, weights_npy: Path, rows: tuple[np.ndarray, np.ndarray] | None = None):
        torch.manual_seed(20200220)
        self.network = alexnet()
        weights = np.load(weights_npy, allow_pickle=True).item()
        self.scaler = _filled(StandardScaler(), weights["scaler_param"])
        self.pca = _filled(PCA(n_components=250), weights["pca_param"])
        self.regressions = []
        for hemi, vertices in zip(("lh", "rh"), rows or (slice(None),) * 2, strict=True):
            regression = _filled(LinearRegression(), weights[f"{hemi}_reg_param"])
            regression.coef_ = regression.coef_[vertices]
            regression.intercept_ = regression.intercept_[vertices]
            self.regressions.append(regression)

    def upstream(self, stimulus: np.ndarray) -> list[np.ndarray]:
        images = transform(torch.from_numpy(stimulus))
        results: list[np.ndarray] = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = self._respond(images[start : start + BATCH_SIZE])
            if results:
                results = [np.append(*pair, axis=0) for pair in zip(results, batch, strict=True)]
            else:
                results = batch
        return results

    def tidy(self, stimulus: np.ndarray) -> list[np.ndarray]:
        results = [
            np.empty((len(stimulus), len(regression.intercept_)), np.float32)
            for regression in self.regressions
        ]
        for start in range(0, len(stimulus), BATCH_SIZE):
            stop = start + BATCH_SIZE
            images = transform(torch.from_numpy(stimulus[start:stop]))
            for result, responses in zip(results, self._respond(images), strict=True):
                result[start:stop] = responses
        return results

    def scores(self, stimulus: np.ndarray) -> np.ndarray:
        result = np.empty((len(stimulus), self.pca.n_components), np.float32)
        for start in range(0, len(stimulus), BATCH_SIZE):
            batch = transform(torch.from_numpy(stimulus[start : start + BATCH_SIZE]))
            result[start : start + BATCH_SIZE] = self._project(batch)
        return result

    def _project(self, images: torch.Tensor) -> np.ndarray:
        features = extract_features(self.network, images)
        return self.pca.transform(self.scaler.transform(features)).astype(np.float32)

    def _respond(self, images: torch.Tensor) -> list[np.ndarray]:
        scores = self._project(images)
        return [regression.predict(scores).astype(np.float32) for regression in self.regressions]


def transform(images: torch.Tensor) -> torch.Tensor:
    """What torchvision's AlexNet preset does to a uint8 tensor."""
    mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    return (naive_resize(images).float().div(255) - mean) / std


def naive_resize(images: torch.Tensor) -> torch.Tensor:
    """Resize all uint8 images in one call, and cut their central 224×224."""
    shorter = min(images.shape[-2:])
    if shorter != 256:
        size = [int(256 * side / shorter) for side in images.shape[-2:]]
        images = torch.nn.functional.interpolate(
            images.float(), size=size, mode="bilinear", align_corners=False, antialias=True
        )
        images = images.round().to(torch.uint8)
    top, left = (round((side - 224) / 2) for side in images.shape[-2:])
    return images[..., top : top + 224, left : left + 224]


def extract_features(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Activations of the eight layers (n_images, 205,672) for images as `transform` gives them."""
    layers = {}
    with torch.no_grad():
        activations = images
        for name, module in network.named_modules():
            if "." not in name:
                continue
            if name == "classifier.0":
                activations = activations.flatten(1)
            activations = module(activations)
            if name in LAYERS:
                layers[name] = activations
    return torch.hstack([layers[name].flatten(1) for name in LAYERS]).numpy()


def _filled(estimator, parameters):
    for name, value in parameters.items():
        setattr(estimator, name, value)
    return estimator


def alexnet() -> nn.Module:
    network = nn.Module()
    network.features = nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
    )
    network.classifier = nn.Sequential(
        *(nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(inplace=True)),
        *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 1000)),
    )
    return network.eval()
