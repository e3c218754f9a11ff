"""A simulated subject: a berg_dir in the real layout, made without any download.

Only the brain is made up. Its responses are drawn from a known ground truth; the stimuli, the
network, the fit, the noise ceilings and the accuracy on held-out images are what they would
be for a real subject. The metadata say throughout that the subject is simulated.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from berg import __version__
from berg.catalog import DEFAULT_MODEL_ID, ModelCard, find_card
from berg.errors import InvalidParameterError, MetadataNotFoundError
from berg.fitting import fit_pca, fit_scaler, project
from berg.layout import ModelFiles, as_berg_dir
from berg.metadata import load_metadata, save_metadata
from berg.simulation.ground_truth import GroundTruth, draw_ground_truth, draw_region_readouts
from berg.simulation.natural_images import Images, natural_images, synthetic_images
from berg.simulation.responses import SimulatedHemisphere, StimulusScores, simulate_hemisphere
from berg.surface.fsaverage import FULL_LEVEL, Hemi, n_vertices
from berg.surface.roi_patches import Patches, roi_patches
from berg.weights import PCAParams, ScalerParams, save_npy

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.floating]
Float32s = npt.NDArray[np.float32]
Extractor = Callable[[Images], Float32s]

# Raise it when the same seed would simulate another subject: caches are named after it.
SIMULATION_VERSION = 1

HEMIS: tuple[Hemi, Hemi] = ("lh", "rh")
# NSD-synthetic: this many images were shown this many times, 744 trials in all.
SYNTHETIC_DESIGN = {2: 236, 4: 32, 8: 8, 10: 8}

_BATCH = 50  # images through the network at a time
_N_READOUT_SCORES = 50  # those that new images hardly shrink; later components fit the sample
# Images drawn beyond those kept for evaluation. An image that drives a unit which the training
# images left silent scores far outside of them all and would decide every correlation alone.
_SPARE_SHARE = 0.05


def simulate_subject(
    berg_dir: str | os.PathLike[str] | None = None,
    subject: int = 1,
    *,
    n_train: int = 700,
    n_test: int = 150,
    level: int = FULL_LEVEL,
    seed: int = 0,
    n_components: int | None = None,
    extract: Extractor | None = None,
    show_progress: bool = True,
) -> Path:
    """Build a simulated subject: weights and metadata, in the layout of real ones.

    The stimuli are crops of photographs and made images. A ground truth of smooth random
    readouts of their AlexNet scores gives responses, with noise at stated ceilings. From these
    the encoding model is really fitted, and its accuracy really measured on held-out images and
    on an out-of-distribution set with NSD-synthetic's design.

    Parameters
    ----------
    berg_dir : path-like, optional
        Root of the layout; created if need be. None means the default berg_dir.
    subject : int
        1 to 8. Subjects differ in brain and training images, and share the test images.
    n_train, n_test : int
        Training and test images, each seen three times. More training images than components.
    level : int
        Resolution of the brain: 7 is fsaverage, lower ones are for tests.
    seed : int
        Everything random follows from it and from the subject.
    n_components : int, optional
        Principal components; None takes those of the model card, 250.
    extract : callable, optional
        Maps uint8 images (n, 3, 256, 256) to float32 features (n, n_features), in place of
        AlexNet. For tests.
    show_progress : bool
        Whether to show progress bars.

    Returns
    -------
    Path
        The berg_dir.

    Raises
    ------
    InvalidParameterError
        If the subject is none of the model's, real files of it are there already, or there are
        too few images for the components.
    MissingExtraError
        If nilearn or scikit-learn is missing.
    ResourceError
        If the files cannot be written.
    """
    card = find_card(DEFAULT_MODEL_ID)
    subject = card.check_subject(subject)
    root = as_berg_dir(berg_dir)
    n_components = card.n_components if n_components is None else n_components
    if not 1 <= n_components < n_train or n_test < 2:
        raise InvalidParameterError(
            "too few images for a simulated subject",
            got=f"n_train={n_train}, n_test={n_test}, n_components={n_components}",
            accepted="more training images than components, and two test images",
        )
    files = card.files(root)
    _refuse_to_overwrite(files, subject)
    shared = np.random.default_rng([seed, 0])
    own = np.random.default_rng([seed, subject])
    extract = _alexnet_features() if extract is None else extract
    n_images = (n_train, n_test, sum(SYNTHETIC_DESIGN.values()))
    scaler, pca, stimuli = _show_images(n_images, n_components, extract, own, shared, show_progress)

    # Between the scores' own spread and none: the first ones lead, without deciding all.
    amplitudes = np.sqrt(stimuli.whitening)
    amplitudes /= np.linalg.norm(amplitudes)
    readouts = draw_region_readouts(card.rois, amplitudes, own)

    rois: dict[Hemi, Patches] = {}
    truths: dict[Hemi, GroundTruth] = {}
    results: dict[Hemi, SimulatedHemisphere] = {}
    with tqdm(
        total=2 * n_vertices(level), desc="Vertices", unit="vertex", disable=not show_progress
    ) as bar:
        for number, hemi in enumerate(HEMIS):
            rois[hemi] = roi_patches(hemi, _roi_sizes(card, hemi, level), own, level)
            truths[hemi] = draw_ground_truth(
                rois[hemi], readouts, stimuli.readable(stimuli.test), amplitudes, own, level
            )
            results[hemi] = simulate_hemisphere(truths[hemi], stimuli, [seed, subject, number], bar)

    regressions = [results[hemi].regression for hemi in HEMIS]
    metadata = _metadata(rois, truths, results, n_train, n_test)
    metadata["provenance"] = {
        "simulated": True,
        "note": "Simulated subject: the responses were never measured in a brain.",
        "subject": subject,
        "seed": seed,
        "n_train": n_train,
        "n_test": n_test,
        "n_synthetic": n_images[2],
        "n_components": n_components,
        "level": level,
        "stimuli": "crops of two photographs and made images; 0-based numbers, not NSD's",
        "ground_truth": "smooth random readouts of the first "
        f"{len(amplitudes)} AlexNet scores, which the model can learn: its accuracy comes near the "
        "noise ceiling, as no real subject's does; lh_ncsnr and rh_ncsnr are the truth itself",
        "median_noise_ceiling_nsdgeneral": _median_ceiling(rois, results),
        "versions": {"berg": __version__} | _versions("numpy", "torch", "scikit-learn", "nilearn"),
    }
    # Older weights go first and the metadata come before the new ones: weights without metadata
    # would look real, and an interrupted run could not be repeated.
    for path in (files.weights_safetensors(subject), files.weights_npy(subject)):
        path.unlink(missing_ok=True)
    save_metadata(files.metadata(subject), metadata)
    save_npy(files.weights_npy(subject), scaler, pca, *regressions)
    return root


def _refuse_to_overwrite(files: ModelFiles, subject: int) -> None:
    """Let a simulated subject replace a simulated one, and nothing else."""
    try:
        provenance = load_metadata(files.metadata(subject)).get("provenance", {})
        simulated = bool(provenance.get("simulated", False))
    except MetadataNotFoundError:
        simulated = not files.weights_npy(subject).exists()
    if not simulated:
        raise InvalidParameterError(
            f"subject {subject} is there already, and it is not a simulated one",
            got=str(files.root),
            do="choose another berg_dir, or another subject",
        )


def _show_images(
    n_images: tuple[int, int, int],
    n_components: int,
    extract: Extractor,
    own: np.random.Generator,
    shared: np.random.Generator,
    show_progress: bool,
) -> tuple[ScalerParams, PCAParams, StimulusScores]:
    """Draw training, test and synthetic images, and fit scaler and components to the first."""
    n_train, n_test, n_synthetic = n_images
    with tqdm(
        total=n_train + _with_spares(n_test) + _with_spares(n_synthetic),
        desc="Images through AlexNet",
        unit="image",
        disable=not show_progress,
    ) as bar:
        train = _features(natural_images(n_train, own), extract, bar)
        test = _features(natural_images(_with_spares(n_test), shared, "test"), extract, bar)
        out = _features(synthetic_images(_with_spares(n_synthetic), shared), extract, bar)
    logger.info("fitting %d principal components of %d features", n_components, train.shape[1])
    scaler = fit_scaler(train)
    pca = fit_pca(train, scaler, n_components)
    spread = np.sqrt(pca.explained_variance_)
    repeats = np.repeat(list(SYNTHETIC_DESIGN), list(SYNTHETIC_DESIGN.values()))
    trials = np.repeat(shared.permutation(n_synthetic), repeats)
    return (
        scaler,
        pca,
        StimulusScores(
            train=project(train, scaler, pca).astype(np.float32),
            test=_most_typical(project(test, scaler, pca), spread, n_test),
            synthetic=_most_typical(project(out, scaler, pca), spread, n_synthetic),
            synthetic_trials=shared.permutation(trials),
            whitening=spread[:_N_READOUT_SCORES].astype(np.float32),
        ),
    )


def _alexnet_features() -> Extractor:
    """Return a function that sends images through the network exactly as inference does."""
    import torch

    from berg.alexnet import flatten_features, load_alexnet
    from berg.devices import full_precision
    from berg.stimuli import preprocess

    network = load_alexnet("cpu")

    def extract(images: Images) -> Float32s:
        with torch.inference_mode(), full_precision():
            activations = network(preprocess(torch.from_numpy(images)))
            features: Float32s = flatten_features(activations).numpy()
        return features

    return extract


def _features(images: Images, extract: Extractor, bar: tqdm[Any]) -> Float32s:
    """Extract features in batches into one array."""
    features: Float32s | None = None
    for start in range(0, len(images), _BATCH):
        batch = extract(images[start : start + _BATCH])
        if features is None:
            features = np.empty((len(images), batch.shape[1]), dtype=np.float32)
        features[start : start + len(batch)] = batch
        bar.update(len(batch))
    if features is None:
        raise InvalidParameterError("a simulated subject needs images", got="none")
    return features


def _with_spares(n_images: int) -> int:
    return n_images + int(np.ceil(_SPARE_SHARE * n_images))


def _most_typical(scores: Floats, spread: Floats, n_images: int) -> Float32s:
    """Keep the images whose scores are the closest to those of training, in their order."""
    power = np.square(scores / spread).mean(axis=1)
    kept = np.sort(np.argsort(power, kind="stable")[:n_images])
    return scores[kept].astype(np.float32)


def _roi_sizes(card: ModelCard, hemi: Hemi, level: int) -> dict[str, int]:
    """Sizes of the card's regions, a quarter for every level below fsaverage."""
    scale = 4 ** (FULL_LEVEL - level)
    return {name: -(-sizes[hemi] // scale) for name, sizes in card.rois.items()}


def _metadata(
    rois: Mapping[Hemi, Patches],
    truths: Mapping[Hemi, GroundTruth],
    results: Mapping[Hemi, SimulatedHemisphere],
    n_train: int,
    n_test: int,
) -> dict[str, dict[str, Any]]:
    """Arrange maps and regions under the keys of the card."""
    fmri: dict[str, Any] = {}
    models: dict[str, Any] = {
        "train_img_num": np.arange(n_train),
        "val_img_num": np.arange(0),
        "test_img_num": np.arange(n_train, n_train + n_test),
    }
    for hemi in HEMIS:
        result = results[hemi]
        fmri[f"{hemi}_ncsnr"] = truths[hemi].ncsnr
        fmri[f"{hemi}_ncsnr_nsdsynthetic"] = result.synthetic_ncsnr.astype(np.float32)
        fmri[f"{hemi}_fsaverage_rois"] = dict(rois[hemi])
        for dataset, scores in (("nsdcore", result.core), ("nsdsynthetic", result.synthetic)):
            for key, values in (
                ("correlation", scores.correlation),
                ("r2", scores.r2),
                ("noise_ceiling", scores.noise_ceiling),
                ("explained_variance", scores.explained_variance_percent),
            ):
                models[f"{hemi}_{key}_{dataset}"] = values.astype(np.float32)
    return {"fmri": fmri, "encoding_models": models}


def _median_ceiling(
    rois: Mapping[Hemi, Patches], results: Mapping[Hemi, SimulatedHemisphere]
) -> float:
    inside = [results[hemi].core.noise_ceiling[rois[hemi]["nsdgeneral"]] for hemi in HEMIS]
    return round(float(np.median(np.concatenate(inside))), 3)


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
