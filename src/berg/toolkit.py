"""`BERG`, the facade that users know: catalog, loading, encoding, metadata."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from berg import catalog
from berg.errors import InvalidParameterError, InvalidParameterTypeError
from berg.installed import InstalledSubject, find_subject
from berg.layout import as_berg_dir
from berg.locks import hold
from berg.metadata import is_simulated
from berg.selection import Regions, Selection, select_vertices

if TYPE_CHECKING:
    from berg.downloads.wanted import Kind
    from berg.encoding import HemisphereArrays
    from berg.interfaces import BaseModelInterface
    from berg.model import EncodingModel
    from berg.model_set import EncodingModels
    from berg.responses import Readout


class BERG:
    """The Brain Encoding Response Generator.

    Parameters
    ----------
    berg_dir : str or path-like, optional
        Directory with the models' weights and metadata, in the layout of the existing
        toolkit. Default: the environment variable ``BERG_DIR``, else the platform's data
        directory.
    download : bool, default False
        Whether to fetch what berg_dir lacks of a subject's model from its public bucket, about
        560 MB a subject, when the model or its metadata are asked for. Nothing that is there is
        replaced. To say True is to agree to the terms of the models' authors, whose address
        `describe` shows.

    Examples
    --------
    >>> berg = BERG()
    >>> berg.list_models()
    ['fmri-nsd_fsaverage-alexnet_untrained']
    """

    def __init__(
        self, berg_dir: str | os.PathLike[str] | None = None, *, download: bool = False
    ) -> None:
        self.berg_dir = as_berg_dir(berg_dir)
        self._download = download

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
        precision: str = "float32",
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
        precision : {"float32", "bfloat16"}, default "float32"
            Of the network; everything after it computes in float32. What bfloat16 gains and what
            it costs is in ``docs/speed.md``.

        Returns
        -------
        EncodingModel

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model, the subject, the device, the selection or the precision is not accepted.
        WeightsNotFoundError, MetadataNotFoundError
            If berg_dir lacks the files; the message says how to get them.
        ModelLoadError
            If a file cannot be used: damaged, of other shapes, of another model, or unsafe.
        ResourceError
            If this machine lacks the device.
        BERGError
            With ``download=True``, as `berg.download`.
        """
        installed = self._find_model(model_id, subject)
        # What computes is imported only now, because it loads torch.
        from berg.loading import load_models

        return load_models([installed], device, selection, precision)[0]

    def get_encoding_models(
        self,
        model_id: str,
        subjects: Iterable[int],
        device: str = "auto",
        selection: dict[str, Any] | None = None,
        *,
        precision: str = "float32",
    ) -> EncodingModels:
        """Load the encoding models of several subjects, which share one network.

        The untrained network is the same for all subjects: images go through it once, however
        many subjects respond to them.

        Parameters
        ----------
        model_id : str
        subjects : iterable of int
            NSD subjects, 1 to 8.
        device, selection, precision
            As for `get_encoding_model`; a region is each subject's own.

        Returns
        -------
        EncodingModels

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model, a subject, the device, the selection or the precision is not accepted.
        WeightsNotFoundError, MetadataNotFoundError
            If berg_dir lacks the files of a subject; the message says how to get them.
        ModelLoadError
            If a file cannot be used: damaged, of other shapes, of another model, or unsafe.
        ResourceError
            If this machine lacks the device.
        """
        found = self._find_all(model_id, subjects)
        from berg.loading import load_models
        from berg.model_set import EncodingModels

        return EncodingModels(load_models(found, device, selection, precision))

    def get_projections(
        self,
        model_id: str,
        subjects: Iterable[int],
        device: str = "auto",
        *,
        precision: str = "float32",
    ) -> EncodingModels:
        """Load models of several subjects for their scores alone, with no vertex selected.

        They take 206 MB a subject, mapped from the converted weights, in place of 535 MB.

        Parameters
        ----------
        model_id, subjects, device, precision
            As for `get_encoding_models`.

        Returns
        -------
        EncodingModels

        Raises
        ------
        BERGError
            As `get_encoding_models`.
        """
        found = self._find_all(model_id, subjects)
        from berg.loading import load_projections
        from berg.model_set import EncodingModels

        return EncodingModels(load_projections(found, device, precision))

    def select_vertices(
        self, model_id: str, subject: int, selection: dict[str, Any] | None = None
    ) -> Selection:
        """Resolve a selection to a subject's vertex indices, without loading the model.

        Parameters
        ----------
        model_id : str
        subject : int
            NSD subject, 1 to 8.
        selection : dict, optional
            As for `get_encoding_model`.

        Returns
        -------
        Selection

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model, the subject or the selection is not accepted.
        MetadataNotFoundError
            If regions are asked for and there are no metadata.
        """
        return select_vertices(selection, self._find(model_id, subject).regions)

    def load_readout(self, model_id: str, subject: int, vertices: Selection) -> tuple[Readout, str]:
        """Load the regressions of some vertices, and tell which weights they are of.

        Parameters
        ----------
        model_id : str
        subject : int
            NSD subject, 1 to 8.
        vertices : Selection

        Returns
        -------
        readout : Readout
        sha256 : str
            Of the weights' ``.npy``.

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model or the subject is not accepted.
        WeightsNotFoundError
            If there are no weights; the message says how to get them.
        ModelLoadError
            If they cannot be used.
        """
        from berg.loading import load_readout

        return load_readout(self._find(model_id, subject), vertices)

    def regions(self, model_id: str, subject: int) -> Regions:
        """Return the regions of interest of a subject, without loading the model.

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model or the subject is not accepted.
        """
        return self._find(model_id, subject).regions

    @overload
    def encode(
        self,
        model: BaseModelInterface,
        stimulus: np.ndarray,
        return_metadata: Literal[False] = False,
        show_progress: bool = True,
    ) -> HemisphereArrays: ...

    @overload
    def encode(
        self,
        model: BaseModelInterface,
        stimulus: np.ndarray,
        return_metadata: Literal[True],
        show_progress: bool = True,
    ) -> tuple[HemisphereArrays, dict[str, Any]]: ...

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
        BERGError
            With ``download=True``, as `berg.download`.
        """
        installed = self._find(model_id, subject)
        if self._download and not installed.has_metadata:
            installed = self._fetch(installed, "metadata")
        return installed.load_metadata()

    def has_metadata(self, model_id: str, subject: int) -> bool:
        """Whether berg_dir has the metadata of a subject.

        Raises
        ------
        ModelNotFoundError, InvalidParameterError
            If the model or the subject is not accepted.
        """
        return self._find(model_id, subject).has_metadata

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
        installed = self._find(model_id, subject)
        from berg.converted import check_fresh, convert

        npy = installed.find_weights()
        path = npy.with_suffix(".safetensors")

        def is_there() -> bool:
            if not path.is_file() or force:
                return False
            if npy.is_file():
                check_fresh(npy, path)
            return True

        if is_there():  # asked before the lock, which needs a folder that can be written to
            return path, False
        with hold(path, wait=True):  # of several processes one converts, and the others wait
            if is_there():
                return path, False
            if not npy.is_file():
                raise installed.weights_not_found()
            metadata = installed.load_metadata() if installed.has_metadata else None
            made = convert(
                npy,
                model_id=model_id,
                subject=installed.subject,
                simulated=None if metadata is None else is_simulated(metadata),
                expected=installed.sizes,
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
        self._find(model_id, subject).find_weights()

    def _find(self, model_id: object, subject: object) -> InstalledSubject:
        return find_subject(self.berg_dir, model_id, subject)

    def _find_model(self, model_id: str, subject: object) -> InstalledSubject:
        """Find a subject's weights; raise if they are missing, or fetch what is."""
        installed = self._find(model_id, subject)
        if self._download:
            absent: list[Kind] = []
            if not installed.has_metadata:
                absent.append("metadata")
            if not installed.has_weights:
                absent.append("weights")
            if absent:
                installed = self._fetch(installed, *absent)
        installed.find_weights()
        return installed

    def _fetch(self, installed: InstalledSubject, *absent: Kind) -> InstalledSubject:
        """Fetch what is absent of a subject."""
        from berg.downloads import fetch_absent

        model_id, subject = installed.card.model_id, installed.subject
        fetch_absent(model_id, subject, self.berg_dir, absent)
        return self._find(model_id, subject)

    def _find_all(self, model_id: str, subjects: Iterable[int]) -> list[InstalledSubject]:
        """Find several subjects; raise before any is loaded if the weights of one are missing."""
        if isinstance(subjects, int | str) or not isinstance(subjects, Iterable):
            raise InvalidParameterTypeError(
                "subjects are not a list of numbers",
                got=f"{type(subjects).__name__}: {subjects!r}",
                accepted="an iterable of integers",
                do="for example subjects=[1, 2], or subjects=range(1, 9) for all of them",
            )
        numbers = [self._find(model_id, subject).subject for subject in subjects]
        if not numbers:
            raise InvalidParameterError(
                "no subject is given", got="an empty list", accepted="one subject or more"
            )
        return [self._find_model(model_id, subject) for subject in numbers]
