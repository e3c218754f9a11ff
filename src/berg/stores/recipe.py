"""The recipe of a store: all that its content follows from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from berg.errors import FileFormatError, InvalidParameterError

FORMAT_VERSION = 1

# Images of a chunk, the unit that is computed and written at once: multiples of the 128 images
# that go through the network together. Of one subject, 1,024 images' scores are 1 MB, and 128
# images' responses of the whole surface 168 MB as float32.
DEFAULT_CHUNK: Mapping[str, int] = {"scores": 1024, "float32": 128, "float16": 128}


@dataclass(frozen=True)
class Recipe:
    """All that the content of a store follows from.

    Two stores of one recipe, made on one kind of machine, are the same bytes.

    Parameters
    ----------
    model_id : str
    subjects : tuple of int
        Counted from 1, each once.
    rois : tuple of str
        Regions of interest whose vertices the responses are of; empty for the whole surface.
    dtype : {"scores", "float32", "float16"}
        What is stored: the scores alone, or with them the responses in this dtype.
    n_images : int
        At least 1.
    images_sha256 : str
        Fingerprint of the images: their names, order, sizes and times of change.
    chunk_images : int
        Images of a chunk, at least 1.
    weights_sha256 : tuple of str
        Fingerprint of the weights of each of `subjects`.
    network_sha256 : str
        Fingerprint of the network.
    berg_version : str
        Of the berg that makes the store.
    precision : {"float32", "bfloat16"}
        In which the network computes.
    format_version : int
        Of the store's layout on disk.

    Raises
    ------
    InvalidParameterError
        If a value is not accepted.
    """

    model_id: str
    subjects: tuple[int, ...]
    rois: tuple[str, ...]
    dtype: str
    n_images: int
    images_sha256: str
    chunk_images: int
    weights_sha256: tuple[str, ...]
    network_sha256: str
    berg_version: str
    precision: str = "float32"
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.dtype not in DEFAULT_CHUNK:
            raise InvalidParameterError(
                "a store cannot hold this dtype",
                got=repr(self.dtype),
                accepted=", ".join(DEFAULT_CHUNK),
                do="leave it out to store the scores, from which all responses follow",
            )
        for name in ("n_images", "chunk_images"):
            if getattr(self, name) < 1:
                raise InvalidParameterError(
                    f"{name} of a store is not positive",
                    got=str(getattr(self, name)),
                    accepted="1 or more",
                )
        if not self.subjects or len(set(self.subjects)) < len(self.subjects):
            raise InvalidParameterError(
                "subjects of a store are not one or more, each once",
                got=_listed(self.subjects) or "none",
                accepted="for example 1, 2, 5",
            )
        if len(self.weights_sha256) != len(self.subjects):
            raise InvalidParameterError(
                "a store has one fingerprint of weights for each subject",
                got=f"{len(self.weights_sha256)} fingerprints, {len(self.subjects)} subjects",
            )

    @property
    def n_chunks(self) -> int:
        """Number of chunks; the last may have fewer images."""
        return -(-self.n_images // self.chunk_images)

    def chunk(self, i: int) -> slice:
        """Return which images a chunk has.

        Parameters
        ----------
        i : int
            Number of the chunk, from 0.

        Returns
        -------
        slice
            Its start and stop among all images.

        Raises
        ------
        InvalidParameterError
            If there is no such chunk.
        """
        if not 0 <= i < self.n_chunks:
            raise InvalidParameterError(
                f"the store has no chunk {i}", accepted=f"0 to {self.n_chunks - 1}"
            )
        start = i * self.chunk_images
        return slice(start, min(start + self.chunk_images, self.n_images))

    def weights_of(self, subject: int) -> str:
        """Return the fingerprint of a subject's weights.

        Raises
        ------
        InvalidParameterError
            If the store does not have the subject.
        """
        if subject not in self.subjects:
            raise InvalidParameterError(
                f"the store does not have subject {subject!r}",
                accepted=_listed(self.subjects),
            )
        return self.weights_sha256[self.subjects.index(subject)]

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as strings, numbers and lists."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, entries: object) -> Recipe:
        """Read what `to_json` gave.

        Parameters
        ----------
        entries : dict

        Returns
        -------
        Recipe

        Raises
        ------
        FileFormatError
            If it is of a newer version, or is not a recipe.
        """
        version = entries.get("format_version") if isinstance(entries, dict) else None
        if isinstance(version, int) and version != FORMAT_VERSION:
            raise FileFormatError(
                "the store is in a format that this version of berg does not read",
                got=f"format {version}",
                accepted=f"format {FORMAT_VERSION}",
                do="use the berg that made it, or a newer one",
            )
        try:
            if not isinstance(entries, dict):
                raise TypeError(f"{type(entries).__name__} instead of a dict")
            return cls(**{name: _typed(name, value) for name, value in entries.items()})
        except (TypeError, InvalidParameterError) as err:
            raise FileFormatError(
                "the store's recipe cannot be read",
                got=str(err).replace("\n", ";"),
                accepted=", ".join(field.name for field in fields(cls)),
                do="make the store again under another name",
            ) from err

    def differences(self, asked: Recipe) -> list[str]:
        """Say how another recipe differs from this one, the store's.

        Parameters
        ----------
        asked : Recipe

        Returns
        -------
        list of str
            One sentence for each difference; empty if there is none.

        Examples
        --------
        >>> from dataclasses import replace
        >>> recipe = Recipe("m", (1, 2), (), "scores", 10, "a", 4, ("b", "c"), "d", "1.0")
        >>> recipe.differences(replace(recipe, subjects=(1, 3), chunk_images=5))
        ['subjects: the store has 1, 2; asked for 1, 3', 'chunk: the store has 4; asked for 5']
        """
        return list(self._differences(asked))

    def _differences(self, asked: Recipe) -> Iterator[str]:
        for name, title in _PLAIN.items():
            mine, other = getattr(self, name), getattr(asked, name)
            if mine != other:
                mine, other = (_listed(value) or "the whole surface" for value in (mine, other))
                yield f"{title}: the store has {mine}; asked for {other}"
        if self.images_sha256 != asked.images_sha256:
            yield (
                "images: other names, order, sizes or times of change than the store's; names "
                "count as they are given, so run it from the same folder with the same paths"
            )
        for subject in sorted({*self.subjects} & {*asked.subjects}):
            mine, other = self.weights_of(subject), asked.weights_of(subject)
            if mine != other:
                yield (
                    f"weights of subject {subject}: the store was made with {_short(mine)}; "
                    f"berg_dir has {_short(other)}"
                )
        if self.network_sha256 != asked.network_sha256:
            yield (
                f"network: the store was made with {_short(self.network_sha256)}; "
                f"this berg has {_short(asked.network_sha256)}"
            )


_PLAIN = {
    "model_id": "model",
    "subjects": "subjects",
    "rois": "regions",
    "dtype": "dtype",
    "n_images": "number of images",
    "chunk_images": "chunk",
    "berg_version": "version of berg",
    "precision": "precision",
    "format_version": "format of the store",
}
_TUPLES = {"subjects": int, "rois": str, "weights_sha256": str}
_INTS = ("n_images", "chunk_images", "format_version")


def _typed(name: str, value: object) -> Any:
    """Return a value read from JSON as the recipe has it; raise TypeError if it is another."""
    kind = _TUPLES.get(name, int if name in _INTS else str)
    values = value if name in _TUPLES else [value]
    if not isinstance(values, list) or any(
        not isinstance(entry, kind) or isinstance(entry, bool) for entry in values
    ):
        raise TypeError(f"{name} is {value!r}")
    return tuple(values) if name in _TUPLES else value


def _listed(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)


def _short(sha256: str) -> str:
    return f"{sha256[:16]}…"
