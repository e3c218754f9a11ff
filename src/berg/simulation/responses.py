"""Responses of a simulated subject to images, and the model that is fitted to them.

A block of vertices at a time: truth, noise, fit, prediction, score. No array ever holds the
trials of a whole hemisphere. The noise of an average is drawn as such; single trials are drawn
for the synthetic images alone, where the noise ceiling is estimated from them.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from berg.fitting import fit_regression
from berg.scoring import Scores, average_repeats, ncsnr_from_trials, score_responses
from berg.simulation.ground_truth import GroundTruth, drives
from berg.weights import RegressionParams

Floats = npt.NDArray[np.floating]
Float32s = npt.NDArray[np.float32]

N_REPEATS = 3  # trials of every natural image, as most of NSD's were shown three times

_VERTEX_BLOCK = 16_384  # below 200 MB for each block in work
_N_WORKERS = min(4, os.cpu_count() or 1)  # blocks in work; NumPy frees the interpreter


@dataclass(frozen=True)
class StimulusScores:
    """Scores of the three sets of images, and the design of the synthetic one.

    Attributes
    ----------
    train, test, synthetic : (n_images, n_components) float32
    synthetic_trials : (n_trials,) int
        Synthetic image of each trial, 0-based.
    whitening : (n_readout_scores,) float32
        The first scores over these have variance 1 in training: the vertices read these.
    """

    train: Float32s
    test: Float32s
    synthetic: Float32s
    synthetic_trials: npt.NDArray[np.integer]
    whitening: Float32s

    def drives(self, scores: Float32s) -> Floats:
        """Return what the simulated vertices read out of images with these scores."""
        return drives(scores[:, : len(self.whitening)] / self.whitening)


@dataclass(frozen=True)
class SimulatedHemisphere:
    """The model fitted to one hemisphere and its accuracy.

    Attributes
    ----------
    regression : RegressionParams
    core, synthetic : Scores
        Accuracy on the test images and on the synthetic ones.
    synthetic_ncsnr : (n_vertices,) float64
        Estimated from the synthetic images' single trials.
    """

    regression: RegressionParams
    core: Scores
    synthetic: Scores
    synthetic_ncsnr: Floats


def simulate_hemisphere(
    truth: GroundTruth, stimuli: StimulusScores, seed: np.random.SeedSequence, bar: tqdm[Any]
) -> SimulatedHemisphere:
    """Draw one hemisphere's responses, fit a model to them and score it.

    Parameters
    ----------
    truth : GroundTruth
    stimuli : StimulusScores
    seed : numpy.random.SeedSequence
        Of the noise. Each block of vertices has a child of its own, so that the result does
        not depend on which is done first.
    bar : tqdm
        Advanced by the vertices done.

    Returns
    -------
    SimulatedHemisphere
    """
    starts = range(0, len(truth.ncsnr), _VERTEX_BLOCK)

    def work(start: int, own: np.random.SeedSequence) -> SimulatedHemisphere:
        block = slice(start, start + _VERTEX_BLOCK)
        part = GroundTruth(truth.readout[block], truth.ncsnr[block])
        done = _simulate_block(part, stimuli, np.random.default_rng(own))
        bar.update(len(part.ncsnr))
        return done

    with ThreadPoolExecutor(_N_WORKERS) as pool:
        parts = list(pool.map(work, starts, seed.spawn(len(starts))))
    return SimulatedHemisphere(
        RegressionParams(
            coef_=np.concatenate([part.regression.coef_ for part in parts]),
            intercept_=np.concatenate([part.regression.intercept_ for part in parts]),
            n_features_in_=stimuli.train.shape[1],
        ),
        _join([part.core for part in parts]),
        _join([part.synthetic for part in parts]),
        np.concatenate([part.synthetic_ncsnr for part in parts]),
    )


def _simulate_block(
    truth: GroundTruth, stimuli: StimulusScores, rng: np.random.Generator
) -> SimulatedHemisphere:
    gains = (truth.readout * truth.signal_sd[:, None]).T

    def measure(signal: Floats, n_repeats: int) -> Float32s:
        noise = rng.standard_normal(signal.shape, dtype=np.float32)
        noise *= truth.noise_sd / np.float32(np.sqrt(n_repeats))
        noise += signal
        return noise

    train = measure(stimuli.drives(stimuli.train) @ gains, N_REPEATS)
    regression = fit_regression(stimuli.train, train)
    test = measure(stimuli.drives(stimuli.test) @ gains, N_REPEATS)
    core = score_responses(
        test, _predict(regression, stimuli.test), ncsnr=truth.ncsnr, repeats=N_REPEATS
    )

    image = stimuli.synthetic_trials
    trials = measure((stimuli.drives(stimuli.synthetic) @ gains)[image], n_repeats=1)
    trials -= trials.mean(axis=0)  # z-scored within the one session, as NSD's betas are
    trials /= trials.std(axis=0)
    ncsnr = ncsnr_from_trials(trials, image)
    synthetic = score_responses(
        average_repeats(trials, image).means,
        _predict(regression, stimuli.synthetic),
        ncsnr=ncsnr,
        repeats=np.bincount(image),
    )
    return SimulatedHemisphere(regression, core, synthetic, ncsnr)


def _predict(regression: RegressionParams, scores: Float32s) -> Float32s:
    coef, intercept = (a.astype(np.float32) for a in (regression.coef_, regression.intercept_))
    predicted: Float32s = scores @ coef.T + intercept
    return predicted


def _join(scores: list[Scores]) -> Scores:
    names = [field.name for field in fields(Scores)]
    return Scores(*(np.concatenate([getattr(part, name) for part in scores]) for name in names))
