"""What the vertices of a simulated NSD tree respond to, computed from its stored images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from berg.fitting import fit_components, project
from berg.layout import NSDFiles
from berg.simulation.ground_truth import N_READOUT_SCORES, compress
from berg.simulation.natural_images import Images
from berg.simulation.nsd_tree.design import TreeDesign
from berg.simulation.nsd_tree.pictures import read_images
from berg.simulation.nsd_tree.truth import Float32s
from berg.simulation.subject import SYNTHETIC_DESIGN, Extractor
from berg.stimuli import gamma_corrected

N_SYNTHETIC = sum(SYNTHETIC_DESIGN.values())
N_COLOUR = 64  # of them were made for the subject

# The components that vertices read are those of a subject's first training images: their
# features are 820 MB, the most that is in memory at a time.
_N_REFERENCE = 1000
# Few images span few directions that mean anything for others.
_IMAGES_PER_SCORE = 4
# Beyond it neurons saturate, so that an image unlike all others does not decide a map alone.
# Few images come near: in training a linear model must be able to learn these responses.
_SATURATION_SD = 4.0


@dataclass(frozen=True)
class SubjectDrives:
    """What a subject's vertices read out of each image.

    Attributes
    ----------
    core : (n_images, n_drives) float32
        Of the subject's images, by column of the design.
    synthetic : (284, n_drives) float32
    amplitudes : (n_drives,) float64
        Typical weight of each drive in a readout.
    """

    core: Float32s
    synthetic: Float32s
    amplitudes: npt.NDArray[np.float64]


def count_images(design: TreeDesign) -> int:
    """Return how many images go through the network for one subject."""
    return int(design.subject_images.shape[1]) + N_SYNTHETIC


def compute_drives(
    files: NSDFiles, design: TreeDesign, subject: int, extract: Extractor, bar: tqdm[Any]
) -> SubjectDrives:
    """Compute a subject's drives: compressed principal-component scores of its images' features.

    Parameters
    ----------
    files : NSDFiles
        Whose stimuli are written; those of NSD-synthetic go through their gamma.
    design : TreeDesign
    subject : int
    extract : callable
        Maps uint8 images (n, 3, height, width) to float32 features (n, n_features).
    bar : tqdm
        Advanced by the images done.

    Returns
    -------
    SubjectDrives
        Over the reference images, up to 1,000 of training, scores have variance 1 before they
        are compressed.
    """
    ids = design.subject_images[subject - 1]
    train, shared = np.split(np.arange(len(ids)), [design.n_shared])[::-1]

    def features(batches: Iterable[Images]) -> Iterable[Float32s]:
        for batch in batches:
            yield extract(batch)
            bar.update(len(batch))

    reference = train[:_N_REFERENCE]
    known = _stacked(features(read_images(files.stimuli, ids[reference])), len(reference))
    n_drives = max(1, min(N_READOUT_SCORES, len(reference) // _IMAGES_PER_SCORE))
    fitted = fit_components(known, n_drives)
    del known
    spread = np.sqrt(fitted.pca.explained_variance_)

    def drives(x: Float32s) -> Float32s:
        return whitened(project(x, fitted.scaler, fitted.pca))

    def whitened(scores: npt.NDArray[np.floating]) -> Float32s:
        return compress(scores / spread, _SATURATION_SD).astype(np.float32)

    core = np.empty((len(ids), n_drives), np.float32)
    core[reference] = whitened(fitted.scores)
    for columns in (train[_N_REFERENCE:], shared):
        if len(columns):
            batches = features(read_images(files.stimuli, ids[columns]))
            core[columns] = np.concatenate([drives(x) for x in batches])
    synthetic = [
        drives(x)
        for path, count in (
            (files.synthetic_stimuli, N_SYNTHETIC - N_COLOUR),
            (files.synthetic_colour_stimuli(subject), N_COLOUR),
        )
        for x in features(map(gamma_corrected, read_images(path, np.arange(count))))
    ]
    # Between the scores' own spread and none: the first ones lead, without deciding all.
    amplitudes = np.sqrt(spread) / np.linalg.norm(np.sqrt(spread))
    return SubjectDrives(core, np.concatenate(synthetic), amplitudes)


def _stacked(batches: Iterable[Float32s], count: int) -> Float32s:
    """Put batches into one array, without a second copy of all of them."""
    stacked: Float32s | None = None
    start = 0
    for batch in batches:
        if stacked is None:
            stacked = np.empty((count, batch.shape[1]), np.float32)
        stacked[start : start + len(batch)] = batch
        start += len(batch)
    return np.empty((0, 0), np.float32) if stacked is None else stacked
