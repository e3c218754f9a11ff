"""Which image each trial shows, and what is asked of that image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Images whose mean responses are multiplied by rows of numbers, and summed.

    Attributes
    ----------
    images : (n_images,) int64
        Ids of the images.
    rows : (n_images, k) float32
        Their rows: those of a pseudoinverse make the sums regression coefficients.
    """

    images: Int64s
    rows: Float32s


@dataclass(frozen=True)
class ShownImages:
    """The images that are shown at all, numbered from 0 by ascending id.

    Attributes
    ----------
    image : tuple of (n_trials,) int64
        Per session, the number of each trial's image.
    repeats : (n_shown, n_sessions) float32
        Trials of each image in each session.
    rows : tuple of (n_shown, k) float32
        Per group, the row of each image; zero for an image outside of the group.
    members : tuple of (n_shown,) bool
        Per group, whether an image is in it.
    kept : (n_kept,) int64
        The number of each kept image, -1 for one that is never shown.
    """

    image: tuple[Int64s, ...]
    repeats: Float32s
    rows: tuple[Float32s, ...]
    members: tuple[npt.NDArray[np.bool_], ...]
    kept: Int64s

    @property
    def total(self) -> Float32s:
        """Trials of each image in all sessions: (n_shown,)."""
        return np.asarray(self.repeats.sum(axis=1))


def match_images(image: Sequence[Int64s], groups: Sequence[Group], kept: Int64s) -> ShownImages:
    """Look up what is asked of the images among those that the trials show.

    Parameters
    ----------
    image : sequence of (n_trials,) int64
        Per session, the id of each trial's image.
    groups : sequence of Group
        Images with rows.
    kept : (n_kept,) int64
        Ids of further images.

    Returns
    -------
    ShownImages

    Raises
    ------
    InvalidParameterError
        If a group does not have one row per image.
    """
    ids, numbers = np.unique(np.concatenate(image), return_inverse=True)
    per_session = np.split(numbers, np.cumsum([len(session) for session in image[:-1]]))
    counts = [np.bincount(session, minlength=len(ids)) for session in per_session]
    repeats = np.stack(counts, axis=1).astype(np.float32)
    rows, members = [], []
    for group in groups:
        if group.rows.ndim != 2 or group.images.shape != group.rows.shape[:1]:
            raise InvalidParameterError(
                "rows and the images they belong to do not fit together",
                got=f"rows of shape {group.rows.shape}, images of shape {group.images.shape}",
                accepted="(n_images, k) and (n_images,)",
            )
        number = _lookup(ids, group.images)
        summed = np.zeros((len(ids), group.rows.shape[1]), np.float32)
        np.add.at(summed, number[number >= 0], group.rows[number >= 0])
        rows.append(summed)
        members.append(np.isin(np.arange(len(ids)), number))
    return ShownImages(tuple(per_session), repeats, tuple(rows), tuple(members), _lookup(ids, kept))


def _lookup(ids: Int64s, wanted: Int64s) -> Int64s:
    """Find the position of each wanted id among ascending ids: -1 where it is not."""
    position = np.searchsorted(ids, wanted).clip(max=len(ids) - 1)
    return np.where(ids[position] == wanted, position, -1)
