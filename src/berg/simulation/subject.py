"""A simulated subject: a berg_dir in the real layout, made without any download.

Only the brain is made up. Its responses are drawn from a known ground truth; the stimuli, the
network, the fit, the noise ceilings and the accuracy on held-out images are what they would
be for a real subject. The metadata say throughout that the subject is simulated.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from berg.catalog import DEFAULT_MODEL_ID, ModelCard, find_card
from berg.errors import InvalidParameterError, InvalidParameterTypeError
from berg.files import sha256_of
from berg.fitting import fit_components, project
from berg.layout import as_berg_dir
from berg.metadata import save_metadata
from berg.simulation.ground_truth import (
    N_READOUT_SCORES,
    GroundTruth,
    draw_ground_truth,
    draw_region_readouts,
)
from berg.simulation.natural_images import (
    Images,
    check_photographs,
    natural_images,
    synthetic_images,
)
from berg.simulation.records import HEMIS, IMAGES_PER_SUBJECT, describe
from berg.simulation.replacing import put_in_place_together
from berg.simulation.responses import SimulatedHemisphere, StimulusScores, simulate_hemisphere
from berg.surface.fsaverage import FULL_LEVEL, Hemi, n_vertices
from berg.surface.roi_patches import Patches, roi_patches
from berg.weights import PCAParams, ScalerParams, save_npy

logger = logging.getLogger(__name__)

Float32s = npt.NDArray[np.float32]
Extractor = Callable[[Images], Float32s]

# NSD-synthetic: this many images were shown this many times, 744 trials in all.
SYNTHETIC_DESIGN = {2: 236, 4: 32, 8: 8, 10: 8}

_BATCH = 50  # images through the network at a time

# Every use of chance has a stream of its own (see `stream`): of these numbers the first is 0
# for what subjects share, and otherwise the subject.
_TEST_IMAGES, _SYNTHETIC_IMAGES, _SYNTHETIC_TRIALS = (0, 0), (0, 1), (0, 2)
_TRAIN_IMAGES, _REGION_READOUTS, _REGIONS, _TRUTH, _NOISE = range(5)


def simulate_subject(
    berg_dir: str | os.PathLike[str],
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
    readouts of their AlexNet scores, in part beyond a linear model's reach, gives responses, with
    noise at stated ceilings. From these the encoding model is really fitted, and its accuracy
    really measured on held-out images and on an out-of-distribution set with NSD-synthetic's
    design. Every image that is drawn is kept.

    Parameters
    ----------
    berg_dir : path-like
        Root of the layout; created if need be.
    subject : int
        1 to 8. Subjects differ in brain and training images. With the same seed they share the
        test images, and equal ``test_img_num`` are the same image.
    n_train, n_test : int
        Training and test images, each seen three times. More training images than components.
        A longer set starts with the shorter.
    level : int
        Resolution of the brain: 7 is fsaverage, lower ones are for tests.
    seed : int
        Not negative. Everything random follows from it and from the subject.
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
        If the subject is none of the model's, files of it are there already that are not known
        to be simulated, there are too few images for the components, or the level or the seed
        is none.
    MissingExtraError
        If nilearn or scikit-learn is missing.
    ResourceError
        If the files cannot be written.

    Notes
    -----
    All this is found out before the first image goes through the network. Both files are
    written under other names and then put in place one right after the other, the metadata
    last: who finds them finds a whole subject. Simulated weights are known by their SHA-256 in
    the provenance of the metadata; nothing else is ever replaced.
    """
    if berg_dir is None:  # which would be the user's own, among real subjects
        raise InvalidParameterTypeError(
            "a simulated subject needs a berg_dir", got="None", accepted="a str or pathlib.Path"
        )
    root = as_berg_dir(berg_dir)
    card = find_card(DEFAULT_MODEL_ID)
    subject = card.check_subject(subject)
    n_components = card.n_components if n_components is None else n_components
    _check_sizes(n_train, n_test, n_components, seed)
    check_photographs()
    rois: dict[Hemi, Patches] = {
        hemi: roi_patches(
            hemi,
            roi_sizes(card, hemi, level),
            np.random.default_rng(stream(seed, subject, _REGIONS, side)),
            level,
        )
        for side, hemi in enumerate(HEMIS)
    }
    with put_in_place_together(card.files(root), subject) as staged:
        extract = alexnet_features() if extract is None else extract
        scaler, pca, stimuli = _show_images(
            (n_train, n_test), n_components, extract, seed, subject, show_progress
        )
        truths, results = _simulate_brain(card, rois, stimuli, seed, subject, level, show_progress)
        weights = staged.weights_npy(subject)
        save_npy(weights, scaler, pca, *(results[hemi].regression for hemi in HEMIS))
        made_with = {
            "seed": int(seed),
            "n_synthetic": len(stimuli.synthetic),
            "n_components": n_components,
            "level": level,
            "weights_sha256": sha256_of(weights),
        }
        metadata = describe(rois, truths, results, subject, (n_train, n_test), made_with)
        save_metadata(staged.metadata(subject), metadata)
    return root


def stream(seed: int, *key: int) -> np.random.SeedSequence:
    """Return the stream of one use of chance; other keys give independent ones."""
    return np.random.SeedSequence(seed, spawn_key=key)


def check_seed(seed: object) -> None:
    """Raise `InvalidParameterError` unless the seed is a whole number from 0 to 2**63 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise InvalidParameterError(
            "not a seed", got=f"seed={seed!r}", accepted="a whole number from 0 to 2**63 - 1"
        )


def draw_synthetic_trials(rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw which image is shown in which trial of NSD-synthetic, by `SYNTHETIC_DESIGN`.

    Returns
    -------
    (744,) int64
        Image of each trial, 0-based.
    """
    repeats = np.repeat(list(SYNTHETIC_DESIGN), list(SYNTHETIC_DESIGN.values()))
    return rng.permutation(np.repeat(rng.permutation(len(repeats)), repeats))


def _check_sizes(n_train: int, n_test: int, n_components: int, seed: int) -> None:
    if (
        not 1 <= n_components < n_train <= IMAGES_PER_SUBJECT
        or not 2 <= n_test <= IMAGES_PER_SUBJECT
    ):
        raise InvalidParameterError(
            "too few images for a simulated subject",
            got=f"n_train={n_train}, n_test={n_test}, n_components={n_components}",
            accepted="more training images than components, and two test images",
        )
    check_seed(seed)


def _show_images(
    n_images: tuple[int, int],
    n_components: int,
    extract: Extractor,
    seed: int,
    subject: int,
    show_progress: bool,
) -> tuple[ScalerParams, PCAParams, StimulusScores]:
    """Draw training, test and synthetic images, and fit scaler and components to the first."""
    n_train, n_test = n_images
    n_synthetic = sum(SYNTHETIC_DESIGN.values())

    def rng(*key: int) -> np.random.Generator:
        return np.random.default_rng(stream(seed, *key))

    with tqdm(
        total=n_train + n_test + n_synthetic,
        desc="Images through AlexNet",
        unit="image",
        disable=not show_progress,
    ) as bar:
        train = _features(natural_images(n_train, rng(subject, _TRAIN_IMAGES)), extract, bar)
        test = _features(natural_images(n_test, rng(*_TEST_IMAGES), "test"), extract, bar)
        synthetic = _features(synthetic_images(n_synthetic, rng(*_SYNTHETIC_IMAGES)), extract, bar)
    logger.info("fitting %d principal components of %d features", n_components, train.shape[1])
    fitted = fit_components(train, n_components, dtype=np.float64)
    scaler, pca = fitted.scaler, fitted.pca
    test, synthetic = (project(x, scaler, pca).astype(np.float32) for x in (test, synthetic))
    trials = draw_synthetic_trials(rng(*_SYNTHETIC_TRIALS))
    spread = np.sqrt(pca.explained_variance_[:N_READOUT_SCORES]).astype(np.float32)
    return scaler, pca, StimulusScores(fitted.scores, test, synthetic, trials, spread)


def _simulate_brain(
    card: ModelCard,
    rois: Mapping[Hemi, Patches],
    stimuli: StimulusScores,
    seed: int,
    subject: int,
    level: int,
    show_progress: bool,
) -> tuple[dict[Hemi, GroundTruth], dict[Hemi, SimulatedHemisphere]]:
    """Draw both hemispheres' ground truth and responses, and fit and score the model."""
    # Between the scores' own spread and none: the first ones lead, without deciding all.
    amplitudes = np.tile(np.sqrt(stimuli.whitening), 2)
    amplitudes /= np.linalg.norm(amplitudes)
    readouts = draw_region_readouts(
        card.rois, amplitudes, np.random.default_rng(stream(seed, subject, _REGION_READOUTS))
    )
    truths: dict[Hemi, GroundTruth] = {}
    results: dict[Hemi, SimulatedHemisphere] = {}
    with tqdm(
        total=2 * n_vertices(level), desc="Vertices", unit="vertex", disable=not show_progress
    ) as bar:
        for side, hemi in enumerate(HEMIS):
            rng = np.random.default_rng(stream(seed, subject, _TRUTH, side))
            reference = stimuli.drives(stimuli.test)
            truths[hemi] = draw_ground_truth(
                rois[hemi], readouts, reference, amplitudes, rng, level
            )
            noise = stream(seed, subject, _NOISE, side)
            results[hemi] = simulate_hemisphere(truths[hemi], stimuli, noise, bar)
    return truths, results


def alexnet_features() -> Extractor:
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


def roi_sizes(card: ModelCard, hemi: Hemi, level: int) -> dict[str, int]:
    """Return the sizes of the card's regions, a quarter for every level below fsaverage."""
    scale = 4 ** (FULL_LEVEL - level)
    return {name: -(-sizes[hemi] // scale) for name, sizes in card.rois.items()}
