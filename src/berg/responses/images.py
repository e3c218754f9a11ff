"""Which images are meant: by their places, by a mask, by their names."""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence, Sequence
from functools import cached_property

import numpy as np

from berg.errors import (
    InvalidIndexError,
    InvalidParameterError,
    InvalidParameterTypeError,
    did_you_mean,
)
from berg.responses.rows import Rows, check_rows, pick

# To compare a name with another takes 20 µs: a near miss is looked for among so many.
_MOST_COMPARED = 2000

# A store keeps this many names in a file, which is read whole. Names that lie further apart are
# read one by one; otherwise all between the first and the last are.
_CHUNK = 1024


class ImageNames:
    """Names of images, and the places of images by name.

    Images without names are called by their places at the start: "0", "1", "2". Selected images
    keep their names. Names are read from what they were given in when they are needed first.

    Parameters
    ----------
    given : sequence of str, or None
        One name an image; None where images have none.
    rows : range or numpy.ndarray of int64
        Rows of `given` that the images are.
    """

    def __init__(self, given: Sequence[str] | None, rows: Rows) -> None:
        self._given = given
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def all(self) -> tuple[str, ...]:
        """The images' names in order."""
        rows, given = self._rows, self._given
        if given is None or not len(rows):
            return tuple(map(str, rows))
        ends = (rows[0], rows[-1]) if isinstance(rows, range) else (rows.min(), rows.max())
        first, last = int(min(ends)), int(max(ends))
        if last - first > _CHUNK * len(rows):
            return tuple(str(given[int(row)]) for row in rows)
        read = given[first : last + 1]
        return tuple(str(read[row - first]) for row in rows)

    def take(self, rows: Rows) -> ImageNames:
        """Return the names of some of the images."""
        return ImageNames(self._given, pick(self._rows, rows))

    def find(self, images: object) -> Rows:
        """Return the places of the images that are meant.

        Parameters
        ----------
        images : slice, int, str, or sequence or array of int, bool or str
            Places (0-based, negative ones from the end), a mask with an entry an image, or
            names. An int or a name means one image.

        Returns
        -------
        range or numpy.ndarray of int64

        Raises
        ------
        InvalidIndexError
            If a place is out of bounds, or this is nothing that images are selected by.
        InvalidParameterError
            If an image has no such name, or several have.
        """
        if isinstance(images, tuple):
            raise InvalidIndexError(
                "images are selected by one index, not by a tuple",
                got=repr(images)[:200],
                accepted="a slice, an int, a name, a list of ints or names, or a mask",
                do="for several images: [[0, 5]]; for images and vertices: responses.lh[0, 5]",
            )
        if isinstance(images, np.ndarray) and images.ndim == 0:
            images = images[()]
        if isinstance(images, str):
            return np.array([self._place(images)])
        if isinstance(images, list | np.ndarray):
            listed = images
            if isinstance(images, np.ndarray) and images.dtype.kind in "UOT":
                listed = images.ravel().tolist()
            if len(listed) and all(isinstance(name, str) for name in listed):
                return np.array([self._place(name) for name in listed])
        return check_rows(images, len(self), "images")

    def _place(self, name: str) -> int:
        places = self._numbered(name) if self._given is None else self._by_name.get(name, ())
        if len(places) > 1:
            raise InvalidParameterError(
                f"{len(places)} images are called {name!r}",
                got=f"images {', '.join(map(str, places[:5]))}"
                + (", …" if len(places) > 5 else ""),
                accepted="the name of one image",
                do=f"select them by their places: responses[[{places[0]}, {places[1]}]]",
            )
        if not len(places):
            near = did_you_mean(name, dict.fromkeys(self.all)) if self._few else ""
            raise InvalidParameterError(
                f"no image is called {name!r}.{near}",
                got=repr(name),
                accepted=self._described(),
                do="responses.names has the images' names",
            )
        return int(places[0])

    @property
    def _few(self) -> bool:
        return len(self) <= _MOST_COMPARED

    def _described(self) -> str:
        if not len(self):
            return "nothing: there are no images"
        first = ", ".join(map(repr, self.take(range(min(len(self), 5))).all))
        return f"one of {len(self)} names: {first}" + (", …" if len(self) > 5 else "")

    def _numbered(self, name: str) -> Sequence[int]:
        if not name.isdecimal() or str(int(name)) != name:
            return ()
        row = int(name)
        if isinstance(self._rows, range):
            return [self._rows.index(row)] if row in self._rows else ()
        return [int(place) for place in np.flatnonzero(self._rows == row)]

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self.all):
            places.setdefault(name, []).append(place)
        return places


def check_names(names: Iterable[str] | None, n_images: int) -> Sequence[str] | None:
    """Return names of so many images.

    Those of lists, tuples, arrays, dicts (their keys) and generators are copied. Another sequence
    is kept as it is, and read when names are needed: that of a store.

    Raises
    ------
    InvalidParameterTypeError
        If they are a single string, not in an order, or not all strings.
    InvalidParameterError
        If there are more or fewer.
    """
    accepted = f"a list of {n_images} names, strings"
    if isinstance(names, str):
        raise InvalidParameterTypeError(
            "names are a string, not a sequence of strings",
            got=repr(names)[:200],
            accepted=accepted,
            do=f"for a single image: names=[{names[:50]!r}]",
        )
    if names is None:
        return None
    is_list = isinstance(names, Iterable) and getattr(names, "ndim", 1) > 0
    if not is_list or isinstance(names, set | frozenset):
        raise InvalidParameterTypeError(
            "names are in no order" if is_list else "names are not a sequence of strings",
            got=f"{type(names).__name__}: {names!r}"[:200],
            accepted=accepted,
            do="leave names out to call the images by their places",
        )
    is_builtin = isinstance(names, MutableSequence | tuple | range | bytes)
    if isinstance(names, Sequence) and not is_builtin:
        given: Sequence[str] = names
    else:
        given = tuple(names)
        for place, name in enumerate(given):
            if not isinstance(name, str):
                raise InvalidParameterTypeError(
                    "a name of an image is not a string",
                    got=f"{type(name).__name__}: {name!r}, of image {place}"[:200],
                    accepted=accepted,
                    do="names=[str(name) for name in names], also for numbers: "
                    "responses[3] is the image in place 3, responses['3'] the one of that name",
                )
        given = tuple(map(str, given))  # plain ones, of NumPy's
    if len(given) != n_images:
        raise InvalidParameterError(
            f"{len(given)} names are given for {n_images} images",
            got=f"{len(given)} names",
            accepted=f"{n_images} names, one an image",
            do="leave names out to call the images by their places",
        )
    return given
