"""Z-scores of one session's trials, vertex by vertex.

The mean and the standard deviation (ddof 0) are those of the trials that exist. A trial that is
NaN or infinite is missing, and so is every trial of a vertex that is constant in its session,
which has no z-score.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]

# Below this standard deviation, relative to the mean, float32 sums cannot tell a constant from
# a variable: rounding alone moves the mean of 750 trials by up to 5e-5 of itself.
_SUSPECT_RELATIVE_SD = 1e-4
_SUSPECT_VARIANCE = 1e-30  # float32 squares lose their digits to underflow soon below it


def zscore(trials: npt.NDArray[np.floating]) -> Float64s:
    """Z-score each vertex over the trials that exist, in float64.

    Parameters
    ----------
    trials : (n_trials, n_vertices) float32 or float64
        One session's trials.

    Returns
    -------
    (n_trials, n_vertices) float64
        NaN where a trial is missing.

    Examples
    --------
    >>> zscore(np.array([[1.0, 7], [3, 7], [np.nan, 7]]))
    array([[-1., nan],
           [ 1., nan],
           [nan, nan]])
    """
    z = trials.astype(np.float64)
    missing = ~np.isfinite(z)
    if missing.any():
        highest = np.where(missing, -np.inf, z).max(axis=0)
        lowest = np.where(missing, np.inf, z).min(axis=0)
        n_present = np.maximum(len(z) - missing.sum(axis=0), 1)
        z[missing] = 0.0
        z -= z.sum(axis=0) / n_present
        z[missing] = 0.0
    else:
        highest, lowest, n_present = z.max(axis=0), z.min(axis=0), np.array(len(z))
        z -= z.mean(axis=0)
    sd = np.sqrt(np.einsum("tv,tv->v", z, z) / n_present)
    constant = highest <= lowest
    z /= np.where(constant, 1.0, sd)
    z[missing] = np.nan
    z[:, constant] = np.nan
    return z


def zscore_into(out: Float32s, trials: Float32s) -> Counts:
    """Z-score each vertex as `zscore` does, but in float32 wherever that is as good.

    Parameters
    ----------
    out : (n_trials, n_vertices) float32
        Takes the z-scores; zero where a trial is missing.
    trials : (n_trials, n_vertices) float32
        One session's trials.

    Returns
    -------
    (n_vertices,) int32
        Missing trials.
    """
    n_missing = np.zeros(trials.shape[1], np.int32)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite ends as a suspect
        mean = trials.mean(axis=0)
        np.subtract(trials, mean, out=out)
        out -= out.mean(axis=0)  # what the first mean, of numbers far from zero, was rounded by
        variance = np.einsum("tv,tv->v", out, out) / np.float32(len(out))
        regular = variance > np.maximum((_SUSPECT_RELATIVE_SD * mean) ** 2, _SUSPECT_VARIANCE)
        regular &= np.isfinite(variance)
        out *= np.divide(1, np.sqrt(variance), out=np.zeros_like(variance), where=regular)
    if not regular.all():
        np.copyto(out, 0.0, where=~regular)
        lacking = ~np.isfinite(trials).any(axis=0)  # the usual case, and ten times as quick
        n_missing[lacking] = len(trials)
        suspects = np.flatnonzero(~regular & ~lacking)
        z = zscore(trials[:, suspects])
        n_missing[suspects] = np.isnan(z).sum(axis=0)
        out[:, suspects] = np.nan_to_num(z, copy=False, nan=0.0)
    return n_missing
