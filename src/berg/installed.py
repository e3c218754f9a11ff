"""What a berg_dir holds of one subject of a model, and what to do where it does not."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from berg import catalog
from berg.errors import FileFormatError, MetadataNotFoundError, WeightsNotFoundError
from berg.files import size_of
from berg.layout import default_berg_dir
from berg.metadata import load_metadata, load_rois, simulated_n_vertices
from berg.selection import Regions, RoiIndices
from berg.weight_checks import WeightSizes


@dataclass(frozen=True)
class InstalledSubject:
    """The files of one subject's model in a berg_dir; `find_subject` makes one.

    Parameters
    ----------
    card : ModelCard
        With a small simulated brain's own size.
    subject : int
        Counted from 1.
    berg_dir : Path
    """

    card: catalog.ModelCard
    subject: int
    berg_dir: Path

    @property
    def sizes(self) -> WeightSizes:
        """The sizes that its weights must have."""
        return WeightSizes(self.card.n_features, self.card.n_components, self.card.n_vertices)

    @property
    def has_metadata(self) -> bool:
        """Whether there is a metadata file; ResourceError if its folder may not be read."""
        return size_of(self.card.files(self.berg_dir).metadata(self.subject)) is not None

    @property
    def has_weights(self) -> bool:
        """Whether there are weights, in either form; ResourceError as of `has_metadata`."""
        files = self.card.files(self.berg_dir)
        forms = files.weights_npy(self.subject), files.weights_safetensors(self.subject)
        return any(size_of(path) is not None for path in forms)

    def find_weights(self) -> Path:
        """Return the path of the weights' `.npy` if either of their forms is there.

        Raises
        ------
        WeightsNotFoundError
            If neither is; the message says how to get them.
        """
        if not self.has_weights:
            raise self.weights_not_found()
        return self.card.files(self.berg_dir).weights_npy(self.subject)

    def weights_not_found(self) -> WeightsNotFoundError:
        """Return the error that says how to get the weights."""
        npy = self.card.files(self.berg_dir).weights_npy(self.subject)
        return WeightsNotFoundError(
            f"there are no weights of subject {self.subject} for {self.card.model_id}",
            got=self._what_is_there(npy),
            do=self._how_to_get(),
        )

    def load_metadata(self) -> dict[str, Any]:
        """Read the metadata.

        Raises
        ------
        MetadataNotFoundError
            If there is no metadata file.
        FileFormatError
            If the file cannot be read.
        """
        return load_metadata(self._find_metadata(), n_vertices=self.card.n_vertices)

    @property
    def regions(self) -> Regions:
        """The subject's regions of interest, read from the metadata when first asked for."""
        return Regions(self.card, self.subject, self._load_rois)

    def _load_rois(self) -> RoiIndices:
        return load_rois(self._find_metadata(), n_vertices=self.card.n_vertices)

    def _find_metadata(self) -> Path:
        path = self.card.files(self.berg_dir).metadata(self.subject)
        if not self.has_metadata:
            raise MetadataNotFoundError(
                f"there are no metadata of subject {self.subject} for {self.card.model_id}",
                got=self._what_is_there(path),
                do=self._how_to_get(),
            )
        return path

    def _what_is_there(self, path: Path) -> str:
        """Say which part of the way to a missing file exists."""
        if not self.berg_dir.is_dir():
            found = "is not a directory" if self.berg_dir.exists() else "does not exist"
            return f"{self.berg_dir} {found}"
        if not path.parent.is_dir():
            return f"{self.berg_dir} has no folder {path.parent.relative_to(self.berg_dir)}"
        entries = (entry.name for entry in path.parent.glob("*_subject-*"))
        present = sorted(name for name in entries if not name.startswith("."))  # no locks
        return f"{path.parent} has {', '.join(present) or 'no files of any subject'}"

    def _how_to_get(self) -> str:
        return (
            f"{download_command(self.card.model_id, [self.subject], self.berg_dir)}\n"
            f"            (terms: {self.card.facts['terms']};\n"
            "            BERG(berg_dir, download=True) fetches what is missing by itself)\n"
            "            or point BERG(berg_dir=...) or --berg-dir at the directory that has "
            "them;\n"
            "            `berg demo` makes a simulated subject without a download, and\n"
            "            `berg train` a model from your copy of the Natural Scenes Dataset"
        )


def download_command(
    model_id: str, subjects: Sequence[int], berg_dir: Path, options: Sequence[str] = ()
) -> str:
    """Return the command that downloads subjects, as one would type it.

    Parameters
    ----------
    model_id : str
    subjects : sequence of int
    berg_dir : Path
        Left out of the command where it is the default one.
    options : sequence of str
        Further words.

    Returns
    -------
    str
    """
    words = ["berg", "download", model_id, "--subject", *map(str, subjects)]
    if berg_dir != default_berg_dir():
        words += ["--berg-dir", os.fspath(berg_dir)]
    return shlex.join([*words, *options])


def find_subject(berg_dir: Path, model_id: object, subject: object) -> InstalledSubject:
    """Return the files of a subject, whether they are there or not.

    Parameters
    ----------
    berg_dir : Path
    model_id : str
    subject : int

    Returns
    -------
    InstalledSubject

    Raises
    ------
    ModelNotFoundError, InvalidParameterError
        If there is no such model or subject.
    """
    card = catalog.find_card(model_id)
    number = card.check_subject(subject)
    with suppress(FileFormatError):  # damaged metadata stop only those who need them
        if n_vertices := simulated_n_vertices(card.files(berg_dir).metadata(number)):
            card = replace(card, n_vertices=n_vertices)
    return InstalledSubject(card, number, berg_dir)
