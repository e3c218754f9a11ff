"""The model-building pipeline that a user would put together from the card, stage by stage.

nibabel, h5py, SciPy, scikit-learn and PyTorch, everything in memory, repeats averaged image by
image and correlations taken vertex by vertex in Python. It imports nothing of the package: it
is the opponent in the benchmark and, with `svd_solver="full"` and float64, an oracle of tests.

    python -m benchmarks.literal_building NSD_DIR SUBJECT OUT_DIR [--oracle] [--sessions N]
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import torch
from scipy import stats
from scipy.io import loadmat
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.reference import BATCH_SIZE, alexnet, extract_features, transform

SEED = 20200220
HEMISPHERES = ("lh", "rh")
DATASETS = {"test": ("nsdcore", ""), "nsdsynthetic": ("nsdsynthetic", "_nsdsynthetic")}
ROI_COLLECTIONS = (
    *("prf-visualrois", "floc-bodies", "floc-faces", "floc-places", "floc-words"),
    "streams",
)
ATTRIBUTES = {  # what the card's files keep of each estimator
    StandardScaler: "scale_ mean_ var_ n_features_in_ n_samples_seen_",
    PCA: "components_ mean_ explained_variance_ explained_variance_ratio_ singular_values_ "
    "n_components_ n_samples_ noise_variance_ n_features_in_",
    LinearRegression: "coef_ intercept_ n_features_in_",
}


@dataclass
class Literal:
    """What the pipeline makes of a subject.

    `scores` are (n_images, n_components) for train, val, test and nsdsynthetic; `regressions`
    are by hemisphere; `predictions` and `measured` by images (test, nsdsynthetic) and
    hemisphere, float32 (n_images, n_vertices); `maps` are those of the card's metadata under
    its keys, (n_vertices,); `rois` by hemisphere and name; `seconds` by stage.
    """

    partitions: dict[str, np.ndarray]
    scaler: StandardScaler
    pca: PCA
    scores: dict[str, np.ndarray]
    regressions: dict[str, LinearRegression]
    measured: dict[str, dict[str, np.ndarray]]
    predictions: dict[str, dict[str, np.ndarray]]
    maps: dict[str, np.ndarray]
    rois: dict[str, dict[str, np.ndarray]]
    seconds: dict[str, float]


class Stages:
    """Seconds of each stage, summed over its parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def build(
    nsd_dir: Path,
    subject: int,
    out_dir: Path,
    *,
    n_sessions: int | None = None,
    n_components: int = 250,
    svd_solver: str = "auto",
    dtype: type = np.float32,
) -> Literal:
    """Train and test the models of a subject, and write their files into `out_dir`.

    The defaults are what users of the card run. With ``svd_solver="full", dtype=np.float64``
    (of everything after the network) the principal components are exact.
    """
    nsd_dir, out_dir = Path(nsd_dir), Path(out_dir)
    stage = Stages()
    betas_dir = nsd_dir / f"nsddata_betas/ppdata/subj{subject:02d}/fsaverage"
    core_dir = betas_dir / "betas_fithrf_GLMdenoise_RR"

    with stage("design"):
        n_sessions = n_sessions or len(list(core_dir.glob("lh.betas_session*.mgh")))
        trial_images, partitions = read_design(nsd_dir, subject, n_sessions)
        synthetic_design = nsd_dir / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"
        synthetic_trials = loadmat(synthetic_design)["masterordering"].ravel().astype(int) - 1
        shown = {  # the image of each trial, and the images to score
            "test": (trial_images, partitions["test"]),
            "nsdsynthetic": (synthetic_trials, np.unique(synthetic_trials)),
        }

    with stage("features"):
        torch.manual_seed(SEED)
        network = alexnet()
        features = {
            name: images_to_features(network, core_images(nsd_dir, ids))
            for name, ids in partitions.items()
            if len(ids)
        }
        images = synthetic_images(nsd_dir, subject, shown["nsdsynthetic"][1])
        features["nsdsynthetic"] = images_to_features(network, images)

    with stage("scaler"):
        scaler = StandardScaler().fit(features["train"].astype(dtype, copy=False))
        for name in features:
            features[name] = scaler.transform(features[name].astype(dtype, copy=False))

    with stage("pca"):
        pca = PCA(n_components=n_components, svd_solver=svd_solver, random_state=SEED)
        pca.fit(features["train"])
        scores = {name: pca.transform(x) for name, x in features.items()}
        del features

    maps: dict[str, np.ndarray] = {}
    measured: dict[str, dict[str, np.ndarray]] = {name: {} for name in shown}
    regressions = {}
    for hemi in HEMISPHERES:
        with stage("betas"):
            files = (core_dir / f"{hemi}.betas_session{n + 1:02d}.mgh" for n in range(n_sessions))
            trials = np.concatenate([zscored(load_map(path)) for path in files])
            train_betas = average_repeats(trials, trial_images, partitions["train"])
            measured["test"][hemi] = average_repeats(trials, *shown["test"])
            folder = betas_dir / "nsdsyntheticbetas_fithrf_GLMdenoise_RR"
            trials = zscored(load_map(folder / f"{hemi}.betas_nsdsynthetic.mgh"))
            measured["nsdsynthetic"][hemi] = average_repeats(trials, *shown["nsdsynthetic"])
            maps[f"{hemi}_ncsnr"] = load_map(core_dir / f"{hemi}.ncsnr.mgh").astype(np.float32)
            maps[f"{hemi}_ncsnr_nsdsynthetic"] = ncsnr_of_trials(trials, synthetic_trials)
            del trials
        with stage("regression"):
            regressions[hemi] = LinearRegression().fit(scores["train"], train_betas)
            del train_betas

    with stage("predictions"):
        predictions = {
            name: {
                h: fit.predict(scores[name]).astype(np.float32) for h, fit in regressions.items()
            }
            for name in shown
        }

    with stage("rois"):
        rois = {hemi: read_rois(nsd_dir, subject, hemi) for hemi in HEMISPHERES}

    with stage("accuracy"):
        for name, (trials, images) in shown.items():
            dataset, suffix = DATASETS[name]
            repeats = np.array([(trials == image).sum() for image in images])
            for hemi in HEMISPHERES:
                ceiling = noise_ceiling(maps[f"{hemi}_ncsnr{suffix}"], repeats)
                r = correlate(measured[name][hemi], predictions[name][hemi])
                maps[f"{hemi}_correlation_{dataset}"] = r
                maps[f"{hemi}_r2_{dataset}"] = r**2
                maps[f"{hemi}_noise_ceiling_{dataset}"] = ceiling
                maps[f"{hemi}_explained_variance_{dataset}"] = explained_variance(r**2, ceiling)

    literal = Literal(
        *(partitions, scaler, pca, scores, regressions, measured, predictions, maps, rois),
        stage.seconds,
    )
    with stage("saving"):
        save(literal, out_dir)
    return literal


def read_design(nsd_dir: Path, subject: int, n_sessions: int) -> tuple[np.ndarray, dict]:
    """Return the 0-based image of each trial, and the sorted images of each partition."""
    design = loadmat(nsd_dir / "nsddata/experiments/nsd/nsd_expdesign.mat")
    per_session = 750
    if "stimpattern" in design:
        per_session = int(design["stimpattern"][0].sum())
    subject_images = design["subjectim"].astype(int)
    same = (subject_images == subject_images[0]).all(axis=0)
    shared = subject_images[0, : same.size if same.all() else same.argmin()] - 1
    columns = design["masterordering"].ravel().astype(int)[: n_sessions * per_session] - 1
    trial_images = subject_images[subject - 1, columns] - 1
    seen = np.unique(trial_images)
    images, counts = np.unique(trial_images[: 30 * per_session], return_counts=True)
    seen_shared = np.intersect1d(seen, shared)
    test = np.intersect1d(shared, images[counts == 3])
    train, val = np.setdiff1d(seen, shared), np.setdiff1d(seen_shared, test)
    return trial_images, {"train": train, "val": val, "test": test}


def core_images(nsd_dir: Path, ids: np.ndarray) -> Iterator[np.ndarray]:
    with h5py.File(nsd_dir / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        for image in ids:
            yield file["imgBrick"][image]


def synthetic_images(nsd_dir: Path, subject: int, ids: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images of NSD-synthetic as they looked on the screen."""
    folder = nsd_dir / "nsddata_stimuli/stimuli/nsdsynthetic"
    with (
        h5py.File(folder / "nsdsynthetic_stimuli.hdf5") as grey,
        h5py.File(folder / f"nsdsynthetic_colorstimuli_subj{subject:02d}.hdf5") as colour,
    ):
        n_grey = len(grey["imgBrick"])
        for i in ids:
            image = grey["imgBrick"][i] if i < n_grey else colour["imgBrick"][i - n_grey]
            yield (np.sqrt(image / 255) * 255).astype(np.uint8)


def images_to_features(network: torch.nn.Module, images: Iterator[np.ndarray]) -> np.ndarray:
    """Features (n_images, 205,672) of (height, width, 3) uint8 images."""
    features = []
    while batch := [
        transform(torch.from_numpy(image.transpose(2, 0, 1))[None])
        for image in islice(images, BATCH_SIZE)
    ]:
        features.append(extract_features(network, torch.cat(batch)))
    return np.concatenate(features)


def load_map(path: Path) -> np.ndarray:
    """Read a map (n_vertices,), or the betas of a session (n_trials, n_vertices), as float64."""
    opened = gzip.open if path.suffix == ".mgz" else open
    with opened(path, "rb") as file:  # nib.load would leave it open
        return nib.MGHImage.from_stream(file).get_fdata()[:, 0, 0].T


def zscored(betas: np.ndarray) -> np.ndarray:
    """z-scores over the trials that exist; NaN where all of them are equal."""
    nan_policy = "omit" if np.isnan(betas).any() else "propagate"
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of constants
        z = stats.zscore(betas, axis=0, nan_policy=nan_policy).astype(np.float32)
    z[:, np.fmin.reduce(betas) == np.fmax.reduce(betas)] = np.nan
    return z


def average_repeats(trials: np.ndarray, trial_images: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Mean of each image's trials that exist, zero where none does (n_images, n_vertices)."""
    means = np.empty((len(ids), trials.shape[1]), np.float32)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of empty slices
        for i, image in enumerate(ids):
            means[i] = np.nan_to_num(np.nanmean(trials[trial_images == image], axis=0))
    return means


def ncsnr_of_trials(trials: np.ndarray, trial_images: np.ndarray) -> np.ndarray:
    """Noise-ceiling signal-to-noise ratio from z-scored single trials (n_vertices,)."""
    squares, freedom = np.zeros(trials.shape[1]), np.zeros(trials.shape[1])
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of empty slices
        for image in np.unique(trial_images):
            z = trials[trial_images == image].astype(np.float64)
            more = np.maximum((~np.isnan(z)).sum(axis=0) - 1, 0)
            squares += more * np.nan_to_num(np.nanvar(z, axis=0, ddof=1))
            freedom += more
        noise = squares / freedom
        total = np.nanvar(trials, axis=0, ddof=1, dtype=np.float64)
        ncsnr = np.sqrt(np.maximum(total - noise, 0) / noise)
    ncsnr[noise == 0] = np.nan
    return ncsnr.astype(np.float32)


def noise_ceiling(ncsnr: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    return ncsnr**2 / (ncsnr**2 + np.mean(1 / repeats))


def correlate(measured: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Correlation of each vertex over images, negative set to 0."""
    r = np.empty(measured.shape[1])
    with warnings.catch_warnings(action="ignore"):  # of constant vertices, which give NaN
        for vertex in range(len(r)):
            r[vertex] = stats.pearsonr(measured[:, vertex], predicted[:, vertex])[0]
    return np.maximum(r, 0)


def explained_variance(r2: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    """Percent of the noise ceiling, at most 100; NaN where the ceiling is 0."""
    return np.minimum(100 * r2 / np.where(ceiling == 0, np.nan, ceiling), 100)


def read_rois(nsd_dir: Path, subject: int, hemi: str) -> dict[str, np.ndarray]:
    """0-based fsaverage vertices of each ROI, drawn on the subject's own surface."""
    labels_dir = nsd_dir / "nsddata/freesurfer"
    own = labels_dir / f"subj{subject:02d}/label"
    transforms = nsd_dir / f"nsddata/ppdata/subj{subject:02d}/transforms"
    to_fsaverage = load_map(transforms / f"{hemi}.white-to-fsaverage.mgz").astype(int) - 1
    rois = {}
    for collection in ROI_COLLECTIONS:
        labels = load_map(own / f"{hemi}.{collection}.mgz")[to_fsaverage]
        for line in (own / f"{collection}.mgz.ctab").read_text().splitlines():
            if line.strip():
                index, name = line.split()[:2]
                if index != "0":
                    rois[name.replace("OVWFA", "OWFA")] = np.where(labels == int(index))[0]
    if (general := own / f"{hemi}.nsdgeneral.mgz").exists():
        labels = load_map(general)[to_fsaverage]
    else:
        labels = load_map(labels_dir / f"fsaverage/label/{hemi}.nsdgeneral.mgz")
    return rois | {"nsdgeneral": np.where(labels == 1)[0]}


def save(literal: Literal, out_dir: Path) -> None:
    """Write weights, metadata and predictions as the card's files have them."""
    fitted = {"scaler": literal.scaler, "pca": literal.pca}
    fitted |= {f"{hemi}_reg": regression for hemi, regression in literal.regressions.items()}
    weights = {
        f"{name}_param": {key: getattr(step, key) for key in ATTRIBUTES[type(step)].split()}
        for name, step in fitted.items()
    }
    maps = {key: values.astype(np.float32) for key, values in literal.maps.items()}
    images = {f"{name}_img_num": ids for name, ids in literal.partitions.items()}
    metadata = {
        "fmri": {key: values for key, values in maps.items() if "ncsnr" in key}
        | {f"{hemi}_fsaverage_rois": rois for hemi, rois in literal.rois.items()},
        "encoding_models": images | {k: v for k, v in maps.items() if "ncsnr" not in k},
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    np.save(out_dir / "weights.npy", weights, allow_pickle=True)
    np.save(out_dir / "metadata.npy", metadata, allow_pickle=True)
    for name, by_hemisphere in literal.predictions.items():
        for hemi, responses in by_hemisphere.items():
            np.save(out_dir / f"{hemi}_betas_{name}_pred.npy", responses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nsd_dir", type=Path)
    parser.add_argument("subject", type=int)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--oracle", action="store_true", help="the exact SVD, in float64")
    given = parser.parse_args()
    exact = {"svd_solver": "full", "dtype": np.float64} if given.oracle else {}
    literal = build(given.nsd_dir, given.subject, given.out_dir, n_sessions=given.sessions, **exact)
    (given.out_dir / "timings.json").write_text(json.dumps(literal.seconds))


if __name__ == "__main__":
    main()
