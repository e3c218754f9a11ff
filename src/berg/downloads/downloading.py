"""`berg.download`: files of the public bucket in a berg_dir, verified, whole or not at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from berg.catalog import find_card
from berg.downloads.checksums import FileHashes, RemoteFile
from berg.downloads.fetching import fetch_verified
from berg.downloads.manifest import Record, check_writable, forget, load_manifest, record
from berg.downloads.pace import Pace
from berg.downloads.parts import discard_part, remove_file
from berg.downloads.plan import DownloadPlan, PlannedFile, files_differ, plan_download
from berg.downloads.present import Present, conversion_is_stale, examine
from berg.downloads.wanted import Kind
from berg.errors import ResourceError
from berg.files import size_of
from berg.locks import hold
from berg.resources import show_bytes

logger = logging.getLogger(__name__)

Tell = Callable[[str], object]


def download(
    model_id: str,
    subjects: int | Iterable[int],
    berg_dir: str | os.PathLike[str] | None = None,
    *,
    endpoint_url: str | None = None,
    force: bool = False,
    show_progress: bool = True,
    tell: Tell = logger.info,
) -> list[Path]:
    """Download weights, metadata and pictures of accuracy of subjects.

    Calling this is agreeing to the terms of the models' authors, whose address is
    ``BERG().describe(model_id)["terms"]``. No account is needed.

    Every file is compared with the bucket's size and checksum before it gets its name. What is
    there already is compared too, and not fetched again. Stopped at any moment, the same call
    goes on from where it was.

    Parameters
    ----------
    model_id : str
    subjects : int or iterable of int
        NSD subjects, 1 to 8; about 560 MB each.
    berg_dir : path-like, optional
        Default: the environment variable ``BERG_DIR``, else the platform's data directory.
    endpoint_url : str, optional
        Of a mirror that speaks S3. Default: the environment variable ``BERG_ENDPOINT_URL``, else
        AWS.
    force : bool, default False
        Whether files that are there and are not the bucket's are replaced.
    show_progress : bool, default True
        Whether to show a progress bar.
    tell : callable
        Called with what a user should read: what will be fetched, how large it is, the terms.

    Returns
    -------
    list of Path
        Of all files of the subjects, those that were there among them.

    Raises
    ------
    ModelNotFoundError, InvalidParameterError
        If there is no such model or subject, or `endpoint_url` is no address.
    FilesDifferError
        If weights or metadata are there that are not the bucket's: of a model trained here, a
        simulated subject, an older version, or damaged.
    OfflineError
        If the environment variable ``BERG_OFFLINE`` is set.
    RemoteFileNotFoundError, DownloadError
        If the bucket lacks a file, does not give it, or cannot be reached.
    ChecksumError
        If what arrives is not what the bucket has, twice.
    ResourceError
        If there is too little space, or the files cannot be written.
    FileFormatError
        If the manifest of earlier downloads is damaged.
    """
    plan = plan_download(
        model_id,
        subjects,
        berg_dir,
        endpoint_url=endpoint_url,
        force=force,
        show_progress=show_progress,
    )
    for line in plan.lines():
        tell(line)
    return carry_out(plan, show_progress=show_progress, tell=tell)


def fetch_absent(
    model_id: str,
    subject: int,
    berg_dir: Path,
    kinds: Iterable[Kind],
    *,
    pace: Pace | None = None,
) -> None:
    """Fetch what a berg_dir lacks of a subject's model, and replace nothing.

    Parameters
    ----------
    model_id, subject, berg_dir
        As for `download`.
    kinds : iterable of {"weights", "metadata"}
        What is absent. What is there of the rest must be the bucket's too, so that files of two
        models are not mixed.
    pace : Pace, optional

    Raises
    ------
    BERGError
        As `download`.
    """
    absent: set[Kind] = {*kinds, "metadata"}
    files = find_card(model_id).files(berg_dir)
    forms = files.weights_npy(subject), files.weights_safetensors(subject)
    asked: set[Kind] = absent | {"weights"} if any(map(os.path.isfile, forms)) else absent
    plan = plan_download(model_id, subject, berg_dir, kinds=asked, pace=pace)
    # Weights that are there as .safetensors alone are compared, and not fetched for that.
    wanted = (file for file in plan.planned if file.present or file.wanted.kind in absent)
    plan = replace(plan, planned=tuple(wanted))
    terms = plan.card.facts["terms"]
    logger.info("%s: %s to fetch; terms: %s", model_id, show_bytes(plan.missing_bytes), terms)
    carry_out(plan)


def carry_out(
    plan: DownloadPlan, *, show_progress: bool = True, tell: Tell = logger.info
) -> list[Path]:
    """Do what a plan says.

    Parameters
    ----------
    plan : DownloadPlan
    show_progress, tell
        As for `download`.

    Returns
    -------
    list of Path

    Raises
    ------
    BERGError
        As `download`.
    """
    plan.check()
    to_fetch = plan.to_fetch
    _settle_present(plan, tell)
    if to_fetch:
        check_writable(plan.files.root)
    with (
        _say_how_to_go_on(plan, tell),
        tqdm(
            total=sum(file.remote.n_bytes for file in to_fetch),
            initial=sum(file.n_done for file in to_fetch),
            desc="Downloading",
            unit="B",
            unit_scale=True,
            disable=not (show_progress and to_fetch),
        ) as bar,
    ):

        def say(line: str) -> None:
            with bar.external_write_mode():
                tell(line)

        for file in to_fetch:
            _fetch_file(_Placing(plan, file, say), bar.update)
    return [file.path for file in plan.planned]


@dataclass(frozen=True)
class _Placing:
    """A file on its way to its place."""

    plan: DownloadPlan
    file: PlannedFile
    tell: Tell

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def root(self) -> Path:
        return self.plan.files.root

    @property
    def known(self) -> Record | None:
        """What the manifest has of it now."""
        return load_manifest(self.root).get(self.path.relative_to(self.root).as_posix())


def _settle_present(plan: DownloadPlan, tell: Tell) -> None:
    """Enter what is there already, if that can be written: the files are good without it."""
    for file in plan.planned:
        if file.present is not None and file.present.hashes is not None and not file.differs:
            try:
                _settle(_Placing(plan, file, tell), file.remote, file.present.hashes)
            except ResourceError as err:
                tell(f"the files that are there cannot be entered into the manifest: {err}")
                return


def _fetch_file(placing: _Placing, count: Callable[[int], object]) -> None:
    """Fetch one file, or find that another process has."""
    plan, file, path = placing.plan, placing.file, placing.path
    # One process fetches, and the others wait; pictures are small: one lock for their folder.
    locked = path.parent if file.wanted.kind == "plot" else path
    with hold(locked, wait=True, tell=placing.tell):
        if size_of(path) is not None:
            present = examine(file.wanted, file.remote, placing.known, plan.files, lambda n: None)
            if present is not None and present.difference is None and present.hashes is not None:
                count(file.remote.n_bytes - file.n_done)
                _settle(placing, file.remote, present.hashes)
                return
            if not plan.force:
                raise files_differ([(path, present)], plan)
        remote, hashes, part = fetch_verified(plan.bucket, file.remote, path, file.n_done, count)
        if file.wanted.kind == "weights" and conversion_is_stale(path, hashes.sha256):
            _replace_conversion(placing)
        _put_in_place(placing, part)
        _settle(placing, remote, hashes)


def _put_in_place(placing: _Placing, part: Path) -> None:
    """Give the verified file its name."""
    # What the manifest has of an older file must not outlive it, whenever this is stopped.
    forget(placing.root, placing.path)
    try:
        os.replace(part, placing.path)
    except OSError as err:
        raise ResourceError(
            f"{placing.path} cannot be written",
            got=str(err),
            accepted="a folder that you may write to",
            do="move away what is there, or choose another --berg-dir",
        ) from err


def _replace_conversion(placing: _Placing) -> None:
    """Remove what was converted from weights that are now replaced; only where that was asked."""
    converted = placing.path.with_suffix(".safetensors")
    if not placing.plan.force:
        difference = f"beside {converted.name}, which was made from other weights"
        raise files_differ([(placing.path, Present(None, difference))], placing.plan)
    remove_file(converted)
    placing.tell(
        f"{converted} is removed: it was made from the weights that are replaced; "
        "`berg convert` makes it again"
    )


def _settle(placing: _Placing, remote: RemoteFile, hashes: FileHashes) -> None:
    """Enter a file that is the bucket's into the manifest, and remove what is left of its way."""
    known, bucket = placing.known, placing.plan.bucket
    if known is None or (known.sha256, known.etag) != (hashes.sha256, remote.etag):
        url = bucket.url(remote.key)
        entry = Record.of(remote, hashes, url, bucket.endpoint_url)
        record(placing.root, placing.path, entry)
    discard_part(placing.path)
    if placing.file.wanted.kind == "weights" and conversion_is_stale(placing.path, hashes.sha256):
        placing.tell(
            f"{placing.path.with_suffix('.safetensors')} was not made from the weights beside it: "
            "run `berg convert --force` for this subject, or delete it"
        )


@contextmanager
def _say_how_to_go_on(plan: DownloadPlan, tell: Tell) -> Iterator[None]:
    """Tell, when a download is stopped by a person, how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"stopped; the same command goes on from where it was: {plan.command}")
        raise
