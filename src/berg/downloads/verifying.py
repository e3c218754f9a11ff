"""`berg.verify`: whether the files of a berg_dir are those that were downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from berg.catalog import load_cards
from berg.downloads.checksums import hash_file
from berg.downloads.manifest import Record, load_manifest
from berg.errors import FileFormatError, InvalidParameterError, ResourceError
from berg.files import find_unreadable, size_of
from berg.layout import MANIFEST_NAME, METADATA_FOLDER, WEIGHTS_FOLDER, as_berg_dir

Status = Literal["ok", "damaged", "missing", "no record"]
_Outcome = tuple[Status, str]  # and the detail


@dataclass(frozen=True)
class VerifiedFile:
    """What became of one file's check.

    Parameters
    ----------
    folder : Path
        Of the model.
    path : Path
    status : {"ok", "damaged", "missing", "no record"}
        ``"no record"`` is no fault: there is nothing to compare the file with, as berg did not
        download it, or converted it before it kept checksums.
    detail : str
        In a few words; empty for ``"ok"``.
    """

    folder: Path
    path: Path
    status: Status
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether something should be done about it."""
        return self.status in ("damaged", "missing")


def verify(
    berg_dir: str | os.PathLike[str] | None = None, *, show_progress: bool = True
) -> list[VerifiedFile]:
    """Compare the files of a berg_dir with what was recorded when they were downloaded.

    No network is needed. Converted weights (``.safetensors``) are compared with the checksum that
    they carry, and with the ``.npy`` that they were made from; where they are good, that one may
    be gone.

    Parameters
    ----------
    berg_dir : path-like, optional
        Default: the environment variable ``BERG_DIR``, else the platform's data directory.
    show_progress : bool, default True
        Whether to show a progress bar; 540 MB take about a second.

    Returns
    -------
    list of VerifiedFile
        Sorted by path within each model; nothing is changed on disk.

    Raises
    ------
    InvalidParameterError
        If there is no such directory.
    FileFormatError
        If a manifest is damaged.
    ResourceError
        If a file cannot be read, or a folder not be looked into.
    """
    root = as_berg_dir(berg_dir)
    _check_readable([root])
    if not root.is_dir():
        raise InvalidParameterError(
            "there is no such berg_dir",
            got=os.fspath(root),
            accepted="a directory with models",
            do="point --berg-dir or $BERG_DIR at it; `berg download` makes one",
        )
    folders = _model_folders(root)
    manifests = {folder: load_manifest(folder) for folder in folders}
    recorded = [folder / name for folder, known in manifests.items() for name in known]
    total = sum(size_of(path) or 0 for path in recorded)
    with tqdm(
        total=total,
        desc="Verifying",
        unit="B",
        unit_scale=True,
        disable=not (show_progress and total),
    ) as bar:
        checked: list[VerifiedFile] = []
        for folder, known in manifests.items():
            files = {folder / name: entry for name, entry in known.items()}
            outcomes = {path: _check(path, entry, bar.update) for path, entry in files.items()}
            outcomes.update(_check_others(folder, files))
            outcomes.update(_stand_ins(outcomes))
            checked += (VerifiedFile(folder, path, *outcomes[path]) for path in sorted(outcomes))
    return checked


def _model_folders(root: Path) -> list[Path]:
    """Return the folders with a manifest, and those of the models that berg knows."""
    with_manifest = {path.parent for path in (root / "encoding_models").rglob(MANIFEST_NAME)}
    known = {card.files(root).root for card in load_cards().values()}
    inside = (".", WEIGHTS_FOLDER, METADATA_FOLDER)
    _check_readable(folder / name for folder in with_manifest | known for name in inside)
    return sorted(folder for folder in with_manifest | known if folder.is_dir())


def _check_readable(folders: Iterable[Path]) -> None:
    if unreadable := find_unreadable(folders):
        raise ResourceError(
            f"{unreadable[0]} cannot be read",
            got="no permission to look into it",
            accepted="folders that you may read",
            do="check its permissions and those of the folders above it",
        )


def _check(path: Path, known: Record, count: Callable[[int], object]) -> _Outcome:
    """Compare a file with its record."""
    n_bytes = size_of(path)
    if n_bytes is None:
        return "missing", "it was downloaded, and is gone"
    if n_bytes != known.n_bytes:
        count(n_bytes)
        return "damaged", f"{n_bytes:,} bytes, not {known.n_bytes:,}"
    sha256 = hash_file(path, count=count).sha256
    if sha256 != known.sha256:
        return "damaged", f"SHA-256 {sha256[:16]}…, not {known.sha256[:16]}…"
    return "ok", ""


def _check_others(folder: Path, recorded: dict[Path, Record]) -> Iterator[tuple[Path, _Outcome]]:
    """Look at weights and metadata without a record, and at converted weights."""
    for name in (WEIGHTS_FOLDER, METADATA_FOLDER):
        for path in (folder / name).glob("*_subject-*.npy"):
            if path not in recorded and not path.name.startswith("."):
                yield path, ("no record", "not downloaded by berg, or trained here")
    for path in (folder / WEIGHTS_FOLDER).glob("weights_subject-*.safetensors"):
        yield path, _check_converted(path, recorded.get(path.with_suffix(".npy")))


def _check_converted(path: Path, npy_record: Record | None) -> _Outcome:
    """Look whether converted weights are whole, and belong to the `.npy`."""
    from berg.converted import arrays_are_whole, read_info  # loads torch

    try:
        made_from = read_info(path)["source_sha256"]
        is_whole = arrays_are_whole(path)
    except FileFormatError as err:
        return "damaged", str(err).splitlines()[0].removeprefix(f"{path} ")
    if is_whole is False:
        return "damaged", "not what was converted: run `berg convert --force`, or delete it"
    npy = path.with_suffix(".npy")
    if npy_record is not None:
        sha256 = npy_record.sha256
    elif npy.is_file():
        sha256 = hash_file(npy).sha256
    else:
        return "no record", "the .npy that it was made from is not there"
    if made_from != sha256:
        return "damaged", "not made from the .npy: run `berg convert --force`, or delete it"
    if is_whole is None:
        return "no record", "from before checksums: `berg convert --force` makes it with one"
    return "ok", f"made from {npy.name}"


def _stand_ins(outcomes: dict[Path, _Outcome]) -> Iterator[tuple[Path, _Outcome]]:
    """Find weights that are gone, and are not missed: those that were converted are there."""
    for path, (status, _) in outcomes.items():
        converted = path.with_suffix(".safetensors")
        is_there = converted in outcomes and outcomes[converted][0] != "damaged"
        if status == "missing" and is_there:
            yield path, ("ok", f"removed; {converted.name} was made from it")
