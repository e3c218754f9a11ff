"""The pickle-free form of a subject's weights: folded, memory-mapped, checked for age.

`weights_subject-XX.safetensors` lies beside `weights_subject-XX.npy` and is made from it. It
holds the arrays of `EncoderWeights`, and in its header which file it was made from and a checksum
of the arrays.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from berg import __version__
from berg.alexnet import LAYERS, Layer
from berg.atomic import replace_atomically
from berg.encoder import columns_channels_last
from berg.errors import FileFormatError, ModelLoadError, ResourceError
from berg.files import sha256_of
from berg.weight_checks import WeightChecks, WeightSizes
from berg.weights import EncoderWeights, RowIndices, load_npy

logger = logging.getLogger(__name__)

FORMAT = "berg folded weights"
FORMAT_VERSION = "1"
AXES = {
    "projection": ("n_components", "n_features"),  # features channel last within each layer
    "offset": ("n_components",),
    "lh_coef": ("n_vertices", "n_components"),
    "lh_intercept": ("n_vertices",),
    "rh_coef": ("n_vertices", "n_components"),
    "rh_intercept": ("n_vertices",),
}
_INFO = {"model_id", "subject", "simulated", "source_sha256", "source_bytes", "source_mtime_ns"}
_ARRAYS_SHA256 = "arrays_sha256"  # which files of before it was recorded lack
_CONVERT_AGAIN = "run `berg convert --force` for this subject, or delete the file"


@dataclass(frozen=True)
class WeightsSource:
    """Which file a model's weights were read from, as it was then.

    Parameters
    ----------
    path : Path
        ``weights_subject-XX.safetensors`` or ``.npy``.
    sha256 : str or None
        Of the ``.npy``, where the converted file records it; else it is computed when first
        asked for, which takes about half a second.
    simulated : bool or None
        Whether the converted file says that the subject is simulated; None if unknown.
    stat : tuple of int
        Size and modification time of the file.
    """

    path: Path
    sha256: str | None
    simulated: bool | None
    stat: tuple[int, int]

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the ``.npy`` that the weights are from.

        Raises
        ------
        ModelLoadError
            If the file is another one than when it was read.
        """
        if self.sha256 is not None:
            return self.sha256
        if not self.path.exists() or _stat(self.path) != self.stat:
            raise ModelLoadError(
                f"{self.path} was replaced or removed after the model was loaded from it",
                got="another file, whose fingerprint is not that of the loaded weights",
                accepted="the file as it was",
                do="load the model again",
            )
        return _sha256_while(self.path, self.stat)


@cache
def _sha256_while(path: Path, stat: tuple[int, int]) -> str:
    """Return the SHA-256 of a file, read once for as long as its size and time stay."""
    return sha256_of(path)


def load_weights(
    npy_path: str | os.PathLike[str],
    *,
    model_id: str,
    subject: int,
    expected: WeightSizes,
    lh_rows: RowIndices | None = None,
    rh_rows: RowIndices | None = None,
) -> tuple[EncoderWeights, WeightsSource]:
    """Load a subject's weights from the `.safetensors` beside the `.npy` if there is one.

    Parameters
    ----------
    npy_path : path-like
        `weights_subject-XX.npy`. It need not exist if the `.safetensors` does.
    model_id : str
    subject : int
        What a `.safetensors` must say that it is of.
    expected : WeightSizes
        The sizes of the model's card.
    lh_rows, rh_rows : int array of shape (n_selected_vertices,), optional
        Vertices to read, in the order of the result. None reads all.

    Returns
    -------
    weights : EncoderWeights
    source : WeightsSource

    Raises
    ------
    FileNotFoundError
        If neither file exists.
    ModelLoadError
        If the `.safetensors` was not made from the `.npy` that is there now.
    FileFormatError
        As `load_npy` and `load_safetensors`; or if the `.safetensors` is of another model or
        subject.
    """
    npy = Path(npy_path)
    path = npy.with_suffix(".safetensors")
    if not path.exists():
        source = WeightsSource(npy, None, None, _stat(npy))
        return load_npy(npy, lh_rows=lh_rows, rh_rows=rh_rows, expected=expected), source
    info = read_info(path)
    if (info["model_id"], info["subject"]) != (model_id, str(subject)):
        raise FileFormatError(
            f"{path} is of another model or subject",
            got=f"{info['model_id']!r}, subject {info['subject']!r}",
            accepted=f"{model_id!r}, subject {subject}",
            do=_CONVERT_AGAIN,
        )
    if npy.exists():
        check_fresh(npy, path)
    source = WeightsSource(
        path,
        info["source_sha256"],
        {"true": True, "false": False}.get(info["simulated"]),
        _stat(path),
    )
    return load_safetensors(path, lh_rows=lh_rows, rh_rows=rh_rows, expected=expected), source


def load_safetensors(
    path: str | os.PathLike[str],
    *,
    expected: WeightSizes,
    lh_rows: RowIndices | None = None,
    rh_rows: RowIndices | None = None,
) -> EncoderWeights:
    """Map the projection and read the selected vertices' weights.

    Parameters
    ----------
    path : path-like
        A file that `convert` wrote.
    expected, lh_rows, rh_rows
        As for `load_weights`.

    Returns
    -------
    EncoderWeights
        Its projection is a private map of the file: no memory of its own, nothing read until
        used, and writing to it never reaches the file.

    Raises
    ------
    FileFormatError
        If the file is not one that `convert` writes, is truncated, is another model's, or has
        an array of the wrong shape; or if a value that is read is NaN or infinite. The
        projection was looked through when it was converted, and is not again.
    """
    path = Path(path)
    checks = WeightChecks(os.fspath(path), FileFormatError)
    with _open(path) as file:
        missing = set(AXES) - set(file.keys())
        if missing:
            raise FileFormatError(
                f"{path} is damaged: it lacks {', '.join(sorted(missing))}",
                got=f"{len(file.keys())} arrays",
                accepted=", ".join(AXES),
                do=_CONVERT_AGAIN,
            )
        arrays: dict[str, NDArray[np.float32]] = {}
        for name, axes in AXES.items():
            tensor = file.get_tensor(name)  # mapped, not read
            if tensor.dtype != torch.float32:
                raise FileFormatError(
                    f"{path} is damaged: {name} is not float32",
                    got=str(tensor.dtype),
                    accepted="float32",
                    do=_CONVERT_AGAIN,
                )
            shape = tuple(getattr(expected, axis) for axis in axes)
            checks.check_shape(name, tuple(tensor.shape), shape)
            rows = {"lh": lh_rows, "rh": rh_rows}.get(name[:2])
            if rows is not None:
                tensor = tensor[torch.tensor(rows)]
            arrays[name] = tensor.numpy()
            if name != "projection":
                checks.check_finite(name, arrays[name], rows)
    return EncoderWeights(**arrays, channels_last=True)


def convert(
    npy_path: str | os.PathLike[str],
    *,
    model_id: str,
    subject: int,
    expected: WeightSizes,
    simulated: bool | None = None,
    layers: Sequence[Layer] = LAYERS,
) -> Path:
    """Write the pickle-free form of a subject's weights beside the `.npy`, whole or not at all.

    Parameters
    ----------
    npy_path : path-like
        `weights_subject-XX.npy`.
    model_id : str
    subject : int
    expected : WeightSizes
        The sizes of the model's card.
    simulated : bool, optional
        Whether the weights are those of a simulated subject; None if it is not known.
    layers : sequence of Layer
        Layers that the features come from, in order.

    Returns
    -------
    Path
        Of the file written; an older one is replaced.

    Raises
    ------
    FileFormatError
        As `load_npy`. Nothing is written.
    ResourceError
        If the file cannot be written.
    """
    npy_path = Path(npy_path)
    path = npy_path.with_suffix(".safetensors")
    before = npy_path.stat()
    sha256 = sha256_of(npy_path)
    weights = load_npy(npy_path, expected=expected)
    arrays = {name: np.ascontiguousarray(getattr(weights, name)) for name in AXES}
    arrays["projection"] = columns_channels_last(weights.projection, layers)
    info = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model_id": model_id,
        "subject": str(subject),
        "simulated": {True: "true", False: "false", None: "unknown"}[simulated],
        "feature_order": "channel last within each layer",
        "source_sha256": sha256,
        "source_bytes": str(before.st_size),
        "source_mtime_ns": str(before.st_mtime_ns),
        _ARRAYS_SHA256: _digest(arrays[name] for name in AXES),
        "berg_version": __version__,
    }
    with replace_atomically(path) as temporary:
        try:
            save_file(arrays, temporary, info)
        except SafetensorError as error:  # how the library reports a full disk
            raise ResourceError(
                f"{path} cannot be written",
                got=str(error),
                do="make space, or choose a berg_dir that you may write to",
            ) from error
    return path


def check_fresh(npy_path: str | os.PathLike[str], safetensors_path: str | os.PathLike[str]) -> None:
    """Raise if the `.safetensors` was not made from the `.npy` that is there now.

    A stale file would give wrong responses that look normal. It is recognised by the size of
    the `.npy` and, where its modification time is not the recorded one, by its SHA-256 (which
    takes about half a second for 540 MB; converting again spares it).

    Parameters
    ----------
    npy_path, safetensors_path : path-like

    Raises
    ------
    ModelLoadError
        If it is stale.
    """
    npy_path, path = Path(npy_path), Path(safetensors_path)
    recorded, now = read_info(path), npy_path.stat()
    got = f"{now.st_size:,} bytes in {npy_path.name}"
    accepted = f"{int(recorded['source_bytes']):,} bytes, as when it was converted"
    if now.st_size == int(recorded["source_bytes"]):
        if now.st_mtime_ns == int(recorded["source_mtime_ns"]):
            return
        logger.info("%s has another modification time than when converted; comparing", npy_path)
        sha256 = sha256_of(npy_path)
        if sha256 == recorded["source_sha256"]:
            return
        got = f"SHA-256 {sha256[:16]}… of {npy_path.name}"
        accepted = f"{recorded['source_sha256'][:16]}…, as when it was converted"
    raise ModelLoadError(
        f"{path} is stale: it was not made from the weights that now lie beside it",
        got=got,
        accepted=accepted,
        do=_CONVERT_AGAIN,
    )


def read_info(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return what the header of a converted file says of its origin.

    Returns
    -------
    dict of str to str
        model_id, subject, simulated, source_sha256, source_bytes, source_mtime_ns,
        arrays_sha256, feature_order, berg_version, format, format_version.

    Raises
    ------
    FileFormatError
        If the file is not one that `convert` writes, or of another version.
    """
    with _open(Path(path)) as file:
        return dict(file.metadata())


def arrays_are_whole(path: str | os.PathLike[str]) -> bool | None:
    """Read all arrays of a converted file and compare them with the checksum of its header.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool or None
        None for a file that has no checksum: it was converted before there was one.

    Raises
    ------
    FileFormatError
        As `read_info`, or if an array is missing.
    """
    with _open(Path(path)) as file:
        recorded = file.metadata().get(_ARRAYS_SHA256)
        if recorded is None:
            return None
        is_whole: bool = _digest(file.get_tensor(name).numpy() for name in AXES) == recorded
        return is_whole


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a converted file and check its header."""
    try:
        with safe_open(path, framework="pt") as file:
            _check_format(path, file.metadata() or {})
            yield file
    except SafetensorError as error:
        raise FileFormatError(
            f"{path} is damaged or truncated",
            got=str(error),
            accepted="a file that `berg convert` wrote",
            do=_CONVERT_AGAIN,
        ) from error


def _check_format(path: Path, info: dict[str, str]) -> None:
    found = (info.get("format"), info.get("format_version"))
    if found == (FORMAT, FORMAT_VERSION) and info.keys() >= _INFO:
        return
    problem = (
        "is in a format that this version of berg does not read"
        if found[0] == FORMAT and found[1] != FORMAT_VERSION
        else "is not a file that `berg convert` wrote"
    )
    raise FileFormatError(
        f"{path} {problem}",
        got=" ".join(map(str, found)),
        accepted=f"{FORMAT} {FORMAT_VERSION}",
        do=_CONVERT_AGAIN,
    )


def _digest(arrays: Iterable[NDArray[np.float32]]) -> str:
    """SHA-256 of arrays' bytes in C order, as they are saved, one array after the other."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _stat(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
