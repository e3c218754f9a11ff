"""From the files of a berg_dir to models that compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from berg.alexnet import AlexNet
from berg.converted import WeightsSource, load_weights
from berg.devices import check_precision, pick_device
from berg.encoder import LinearEncoder
from berg.installed import InstalledSubject
from berg.model import EncodingModel
from berg.networks import load_network
from berg.responses import Readout
from berg.selection import Selection, select_vertices
from berg.weights import EncoderWeights


def load_models(
    found: Sequence[InstalledSubject],
    device: object,
    selection: Mapping[str, Any] | None,
    precision: object = "float32",
) -> list[EncodingModel]:
    """Load the models of subjects on one network.

    Parameters
    ----------
    found : sequence of InstalledSubject
    device : str
    selection : mapping or None
        As `berg.BERG.get_encoding_model` takes it.
    precision : {"float32", "bfloat16"}
        Of the network.

    Returns
    -------
    list of EncodingModel
        One a subject.

    Raises
    ------
    BERGError
        As `berg.BERG.get_encoding_model`.
    """
    target, numbers = pick_device(device), check_precision(precision)
    # Of all subjects before any is loaded, so that a misspelt region is told at once.
    chosen = [select_vertices(selection, installed.regions) for installed in found]
    network = load_network(target, numbers)
    return [
        _load_model(installed, vertices, target, network)
        for installed, vertices in zip(found, chosen, strict=True)
    ]


def load_projections(
    found: Sequence[InstalledSubject], device: object, precision: object = "float32"
) -> list[EncodingModel]:
    """Load the models of subjects with no vertex selected: they give scores alone.

    Parameters
    ----------
    found : sequence of InstalledSubject
    device, precision : str

    Returns
    -------
    list of EncodingModel

    Raises
    ------
    BERGError
        As `load_models`.
    """
    target, numbers = pick_device(device), check_precision(precision)
    network = load_network(target, numbers)
    nothing = Selection(np.arange(0), np.arange(0))
    return [_load_model(installed, nothing, target, network) for installed in found]


def load_readout(installed: InstalledSubject, vertices: Selection) -> tuple[Readout, str]:
    """Load the regressions of some vertices, and tell which weights they are of.

    Parameters
    ----------
    installed : InstalledSubject
    vertices : Selection

    Returns
    -------
    readout : Readout
    sha256 : str
        Of the weights' ``.npy``.

    Raises
    ------
    WeightsNotFoundError
        If there are no weights.
    ModelLoadError
        If they cannot be used.
    """
    weights, source = _load_weights(installed, vertices)
    return _readout(weights, vertices), source.fingerprint()


def _load_model(
    installed: InstalledSubject, vertices: Selection, device: torch.device, network: AlexNet
) -> EncodingModel:
    weights, source = _load_weights(installed, vertices)
    return EncodingModel(
        installed.card,
        installed.subject,
        vertices,
        regions=installed.regions,
        network=network,
        encoder=LinearEncoder(weights, device),
        readout=_readout(weights, vertices),
        load_metadata=installed.load_metadata,
        source=source,
    )


def _load_weights(
    installed: InstalledSubject, vertices: Selection
) -> tuple[EncoderWeights, WeightsSource]:
    """Read the rows of the selected vertices; a whole hemisphere without an index."""
    n_vertices = installed.card.n_vertices
    lh_rows, rh_rows = (
        None if len(rows) == n_vertices else rows for rows in (vertices.lh, vertices.rh)
    )
    return load_weights(
        installed.find_weights(),
        model_id=installed.card.model_id,
        subject=installed.subject,
        expected=installed.sizes,
        lh_rows=lh_rows,
        rh_rows=rh_rows,
    )


def _readout(weights: EncoderWeights, vertices: Selection) -> Readout:
    return Readout(
        lh_coef=weights.lh_coef,
        lh_intercept=weights.lh_intercept,
        rh_coef=weights.rh_coef,
        rh_intercept=weights.rh_intercept,
        lh_vertices=vertices.lh,
        rh_vertices=vertices.rh,
    )
