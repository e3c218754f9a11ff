"""`BERG`, the facade that users know: catalog, loading, encoding, metadata."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from berg import catalog
from berg.errors import (
    FileFormatError,
    InvalidParameterTypeError,
    MetadataNotFoundError,
    WeightsNotFoundError,
)
from berg.layout import as_berg_dir
from berg.metadata import is_simulated, load_metadata, load_rois, simulated_n_vertices
from berg.selection import RoiIndices, select_vertices
from berg.weight_checks import WeightSizes

if TYPE_CHECKING:
    from berg.interfaces import BaseModelInterface
    from berg.model import EncodingModel, Responses


class BERG:
    """The Brain Encoding Response Generator.

    Parameters
    ----------
    berg_dir : str or path-like, optional
        Directory with the models' weights and metadata, in the layout of the existing
        toolkit. Default: the environment variable ``BERG_DIR``, else the platform's data
        directory.

    Examples
    --------
    >>> berg = BERG()
    >>> berg.list_models()
    ['fmri-nsd_fsaverage-alexnet_untrained']
    """

    def __init__(self, berg_dir: str | os.PathLike[str] | None = None) -> None:
        self.berg_dir = as_berg_dir(berg_dir)

    def __repr__(self) -> str:
        return f"BERG(berg_dir={str(self.berg_dir)!r})"

    def list_models(self) -> list[str]:
        """Return the ids of all models, sorted."""
        return list(catalog.load_cards())

    def get_model_catalog(self, print_format: bool = False) -> dict[str, list[str]]:
        """Return the training datasets that there are models for, by modality.

        Parameters
        ----------
        print_format : bool, default False
            Whether to print the catalog too.

        Returns
        -------
        dict of str to list of str
        """
        by_modality = catalog.group_by_modality()
        if print_format:
            for modality, datasets in by_modality.items():
                print(modality, *(f"  {dataset}" for dataset in datasets), sep="\n")  # noqa: T201
        return by_modality

    def describe(self, model_id: str) -> dict[str, Any]:
        """Print the card of a model and return it as a dict.

        Raises
        ------
        ModelNotFoundError
            If there is no such model.
        """
        card = catalog.find_card(model_id)
        print(card)  # noqa: T201 - the card says that describe prints
        return catalog.describe_card(card)

    def get_encoding_model(
        self,
        model_id: str,
        device: str = "auto",
        selection: dict[str, Any] | None = None,
        *,
        subject: int,
    ) -> EncodingModel:
        """Load an encoding model.

        Parameters
        ----------
        model_id : str
            For example ``"fmri-nsd_fsaverage-alexnet_untrained"``.
        device : {"auto", "cpu", "cuda", "mps"}, default "auto"
            Where to compute; ``"auto"`` is CUDA where there is one, else the CPU.
        selection : dict, optional
            Which vertices to generate responses for; all of them by default. Keys:
            ``"roi"``, the name of a region of interest or a list of names, whose union is
            taken; ``"lh_vertices"`` and ``"rh_vertices"``, vectors of 163,842 zeros and
            ones. A region overrides the vectors; a hemisphere without a vector is whole; a
            vector of zeros leaves its hemisphere out.
        subject : int
            NSD subject, 1 to 8.

        Returns
        -------
        EncodingModel

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model, the subject, the device or the selection is not accepted.
        WeightsNotFoundError, MetadataNotFoundError
            If berg_dir lacks the files; the message says how to get them.
        ModelLoadError
            If a file cannot be used: damaged, of other shapes, of another model, or unsafe.
        ResourceError
            If this machine lacks the device.
        """
        card, number = self._find_card(model_id, subject)
        # What computes is imported only now, because it loads torch.
        from berg.alexnet import load_alexnet
        from berg.converted import load_weights
        from berg.devices import pick_device
        from berg.encoder import LinearEncoder
        from berg.model import EncodingModel

        target = pick_device(device)
        npy = self._find_weights(card, number)
        chosen = select_vertices(selection, card, number, lambda: self._load_rois(card, number))
        lh_rows, rh_rows = (
            None if len(rows) == card.n_vertices else rows for rows in (chosen.lh, chosen.rh)
        )
        weights, source = load_weights(
            npy,
            model_id=model_id,
            subject=number,
            expected=_sizes(card),
            lh_rows=lh_rows,
            rh_rows=rh_rows,
        )
        return EncodingModel(
            card,
            number,
            chosen,
            network=load_alexnet(target),
            encoder=LinearEncoder(weights, target),
            load_metadata=lambda: self.get_model_metadata(model_id, number),
            source=source,
        )

    @overload
    def encode(
        self,
        model: BaseModelInterface,
        stimulus: np.ndarray,
        return_metadata: Literal[False] = False,
        show_progress: bool = True,
    ) -> Responses: ...

    @overload
    def encode(
        self,
        model: BaseModelInterface,
        stimulus: np.ndarray,
        return_metadata: Literal[True],
        show_progress: bool = True,
    ) -> tuple[Responses, dict[str, Any]]: ...

    def encode(
        self,
        model: BaseModelInterface,
        stimulus: np.ndarray,
        return_metadata: bool = False,
        show_progress: bool = True,
    ) -> Any:
        """Generate in silico fMRI responses to images.

        Parameters
        ----------
        model : BaseModelInterface
            As `get_encoding_model` returns it.
        stimulus : numpy.ndarray of int, shape (n_images, 3, height, width)
            Square RGB images with values in 0-255; at least 224×224 recommended.
        return_metadata : bool, default False
            Whether to return the model's metadata too.
        show_progress : bool, default True
            Whether to show a progress bar.

        Returns
        -------
        responses : tuple of two numpy.ndarray of float32
            Of shapes (n_images, n_lh_vertices) and (n_images, n_rh_vertices), in z-scored
            units. `model.lh_vertices` and `model.rh_vertices` name the columns.
        metadata : dict
            Only with `return_metadata`.

        Raises
        ------
        StimulusError
            If the stimulus is not a batch of square RGB images.
        MetadataNotFoundError
            If metadata are asked for and there are none.
        """
        if not hasattr(model, "generate_response"):
            raise InvalidParameterTypeError(
                "model is not an encoding model",
                got=f"{type(model).__name__}",
                accepted="what get_encoding_model returns",
                do="model = berg.get_encoding_model(model_id, subject=1)",
            )
        # Before the images, so that missing metadata do not cost the whole encoding.
        metadata = model.get_metadata() if return_metadata else None
        responses = model.generate_response(stimulus, show_progress=show_progress)
        return (responses, metadata) if return_metadata else responses

    def get_model_metadata(self, model_id: str, subject: int) -> dict[str, Any]:
        """Load the metadata of a model without the model.

        Parameters
        ----------
        model_id : str
        subject : int
            NSD subject, 1 to 8.

        Returns
        -------
        dict
            ``"fmri"``: ncsnr maps and ROI vertex indices; ``"encoding_models"``: image
            numbers of the partitions and accuracy maps. Maps are float32 of shape
            (163842,).

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model or the subject is not accepted.
        MetadataNotFoundError
            If there is no metadata file.
        FileFormatError
            If the file cannot be read.
        """
        card, number = self._find_card(model_id, subject)
        return load_metadata(self._find_metadata(card, number), n_vertices=card.n_vertices)

    def has_metadata(self, model_id: str, subject: int) -> bool:
        """Whether berg_dir has the metadata of a subject.

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model or the subject is not accepted.
        """
        card = catalog.find_card(model_id)
        return card.files(self.berg_dir).metadata(card.check_subject(subject)).is_file()

    def convert_weights(
        self, model_id: str, *, subject: int, force: bool = False
    ) -> tuple[Path, bool]:
        """Write a subject's weights in the pickle-free form that loads faster.

        Parameters
        ----------
        model_id : str
        subject : int
            NSD subject, 1 to 8.
        force : bool, default False
            Whether to convert again where the converted file is there already.

        Returns
        -------
        path : Path
            ``weights_subject-XX.safetensors`` beside the ``.npy``, which stays.
        written : bool
            False if it was there already, made from the same ``.npy``.

        Raises
        ------
        WeightsNotFoundError
            If there is no ``.npy`` of the subject.
        ModelLoadError
            If the ``.npy`` cannot be used, or the converted file is there already and was made
            from another one.
        ResourceError
            If the file cannot be written.
        """
        card, number = self._find_card(model_id, subject)
        from berg.converted import check_fresh, convert

        npy = self._find_weights(card, number)
        path = npy.with_suffix(".safetensors")
        if path.is_file() and not force:
            if npy.is_file():
                check_fresh(npy, path)
            return path, False
        if not npy.is_file():
            raise self._weights_not_found(card, number)
        made = convert(
            npy,
            model_id=model_id,
            subject=number,
            simulated=is_simulated(self.get_model_metadata(model_id, number))
            if self.has_metadata(model_id, number)
            else None,
            expected=_sizes(card),
        )
        return made, True

    def check_weights(self, model_id: str, subject: int) -> None:
        """Raise if berg_dir lacks the weights of a subject, in either form.

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model or the subject is not accepted.
        WeightsNotFoundError
            If there are none; the message says how to get them.
        """
        card, number = self._find_card(model_id, subject)
        self._find_weights(card, number)

    def _find_card(self, model_id: object, subject: object) -> tuple[catalog.ModelCard, int]:
        """Return the card, with a small simulated brain's own size, and the subject's number."""
        card = catalog.find_card(model_id)
        number = card.check_subject(subject)
        with suppress(FileFormatError):  # damaged metadata stop only those who need them
            if n_vertices := simulated_n_vertices(card.files(self.berg_dir).metadata(number)):
                card = replace(card, n_vertices=n_vertices)
        return card, number

    def _find_weights(self, card: catalog.ModelCard, subject: int) -> Path:
        """Return the `.npy` path of a subject's weights if either of their forms is there."""
        files = card.files(self.berg_dir)
        npy = files.weights_npy(subject)
        if not (npy.is_file() or files.weights_safetensors(subject).is_file()):
            raise self._weights_not_found(card, subject)
        return npy

    def _weights_not_found(self, card: catalog.ModelCard, subject: int) -> WeightsNotFoundError:
        npy = card.files(self.berg_dir).weights_npy(subject)
        return WeightsNotFoundError(
            f"there are no weights of subject {subject} for {card.model_id}",
            got=self._what_is_there(npy),
            do=_how_to_get(card, npy, self.berg_dir),
        )

    def _find_metadata(self, card: catalog.ModelCard, subject: int) -> Path:
        path = card.files(self.berg_dir).metadata(subject)
        if not path.is_file():
            raise MetadataNotFoundError(
                f"there are no metadata of subject {subject} for {card.model_id}",
                got=self._what_is_there(path),
                do=_how_to_get(card, path, self.berg_dir),
            )
        return path

    def _load_rois(self, card: catalog.ModelCard, subject: int) -> RoiIndices:
        return load_rois(self._find_metadata(card, subject), n_vertices=card.n_vertices)

    def _what_is_there(self, path: Path) -> str:
        """Say which part of the way to a missing file exists."""
        if not self.berg_dir.is_dir():
            found = "is not a directory" if self.berg_dir.exists() else "does not exist"
            return f"{self.berg_dir} {found}"
        if not path.parent.is_dir():
            return f"{self.berg_dir} has no folder {path.parent.relative_to(self.berg_dir)}"
        present = sorted(entry.name for entry in path.parent.glob("*_subject-*"))
        return f"{path.parent} has {', '.join(present) or 'no files of any subject'}"


def _how_to_get(card: catalog.ModelCard, path: Path, berg_dir: Path) -> str:
    key = path.relative_to(berg_dir).as_posix()
    return (
        f"aws s3 cp --no-sign-request s3://{card.facts['bucket']}/{key} "
        f"{shlex.quote(str(path))}\n"
        f"            (terms: {card.facts['terms']})\n"
        "            or point BERG(berg_dir=...) or --berg-dir at the directory that has them;\n"
        "            `berg demo` makes a simulated subject without a download, and\n"
        "            `berg train` a model from your copy of the Natural Scenes Dataset"
    )


def _sizes(card: catalog.ModelCard) -> WeightSizes:
    return WeightSizes(card.n_features, card.n_components, card.n_vertices)
