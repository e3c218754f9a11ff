"""What a download will do, before it does anything: to be shown, agreed to, and carried out."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from berg.catalog import ModelCard, find_card
from berg.downloads import pace as paces
from berg.downloads.bucket import Bucket
from berg.downloads.checksums import RemoteFile
from berg.downloads.manifest import load_manifest
from berg.downloads.pace import Pace
from berg.downloads.parts import count_done
from berg.downloads.present import Present, examine
from berg.downloads.threads import run_in_threads
from berg.downloads.wanted import KINDS, Kind, Wanted, key_of, want
from berg.errors import FilesDifferError, InvalidParameterError, ResourceError
from berg.installed import download_command
from berg.layout import ModelFiles, as_berg_dir
from berg.resources import free_disk_bytes, show_bytes

_SPARE_BYTES = 10 * 10**6  # for journals, manifest, and what others write meanwhile


@dataclass(frozen=True)
class PlannedFile:
    """One file of a plan.

    Parameters
    ----------
    wanted : Wanted
    remote : RemoteFile
    present : Present or None
        What lies there.
    n_done : int
        Bytes that came in an interrupted download.
    """

    wanted: Wanted
    remote: RemoteFile
    present: Present | None
    n_done: int

    @property
    def path(self) -> Path:
        """Where it goes."""
        return self.wanted.path

    @property
    def differs(self) -> bool:
        """Whether another file is in the way."""
        return self.present is not None and self.present.difference is not None


@dataclass(frozen=True)
class DownloadPlan:
    """Files to fetch, and files that are there; `plan_download` makes one.

    Parameters
    ----------
    card : ModelCard
    subjects : tuple of int
    files : ModelFiles
    bucket : Bucket
    planned : tuple of PlannedFile
    force : bool
        Whether files that differ from the bucket's are replaced.
    names_endpoint : bool
        Whether the endpoint was given with the call, and is not that of the environment.
    """

    card: ModelCard
    subjects: tuple[int, ...]
    files: ModelFiles
    bucket: Bucket
    planned: tuple[PlannedFile, ...]
    force: bool
    names_endpoint: bool

    @property
    def to_fetch(self) -> tuple[PlannedFile, ...]:
        """What is absent, and with `force` what differs."""
        return tuple(
            file for file in self.planned if file.present is None or (file.differs and self.force)
        )

    @property
    def missing_bytes(self) -> int:
        """Bytes that must still come."""
        return sum(file.remote.n_bytes - file.n_done for file in self.to_fetch)

    def lines(self) -> list[str]:
        """Describe the plan for a person, one line a file."""
        n_subjects = f"subject{'s'[: len(self.subjects) != 1]}"
        lines = [
            f"{self.card.model_id}, {n_subjects} {', '.join(map(str, self.subjects))}",
            f"from {self.bucket.url(key_of(self.files, self.files.root))} "
            f"({self.bucket.endpoint_url})",
            f"to   {self.files.root}",
            "",
        ]
        names = [file.path.relative_to(self.files.root).as_posix() for file in self.planned]
        width = max(map(len, names), default=0)
        for name, file in zip(names, self.planned, strict=True):
            size = show_bytes(file.remote.n_bytes)
            lines.append(f"  {name:<{width}}  {size:>9}  {self._what_happens(file)}")
        if not self.to_fetch:
            return [*lines, "", "Nothing to fetch"]
        free = free_disk_bytes(self.files.root)
        lines += [
            "",
            f"To fetch: {show_bytes(self.missing_bytes)} in {len(self.to_fetch)} "
            f"file{'s'[: len(self.to_fetch) != 1]}; {show_bytes(free)} free on the disk",
            f"By downloading you agree to the terms: {self.card.facts['terms']}",
        ]
        return lines

    def check(self) -> None:
        """Raise before the first byte if the plan cannot be carried out.

        Raises
        ------
        FilesDifferError
            If weights or metadata are in the way that are not the bucket's. (A picture is kept.)
        ResourceError
            If the disk has too little space.
        """
        in_the_way = [file for file in self.planned if file.differs and file.wanted.kind != "plot"]
        if in_the_way and not self.force:
            raise files_differ([(file.path, file.present) for file in in_the_way], self)
        free, needed = free_disk_bytes(self.files.root), self.missing_bytes + _SPARE_BYTES
        if self.to_fetch and free < needed:
            raise ResourceError(
                f"there is too little space for the download in {self.files.berg_dir}",
                got=f"{show_bytes(free)} free",
                accepted=f"{show_bytes(needed)} or more",
                do="make space, ask for fewer subjects, or choose another --berg-dir",
            )

    @property
    def command(self) -> str:
        """The command that does the same."""
        options = ["--endpoint-url", self.bucket.endpoint_url] * self.names_endpoint
        options += ["--force"] * self.force
        return download_command(self.card.model_id, self.subjects, self.files.berg_dir, options)

    def _what_happens(self, file: PlannedFile) -> str:
        if file.differs and file.present is not None:
            kept = "kept" if file.wanted.kind == "plot" else "IN THE WAY"
            return (
                f"{'REPLACED' if self.force else kept}; what is there is {file.present.difference}"
            )
        if file.present is not None:
            return "there already, the same as in the bucket"
        if file.n_done:
            return f"to fetch, {show_bytes(file.n_done)} of it have come before"
        return "to fetch"


def plan_download(
    model_id: str,
    subjects: int | Iterable[int],
    berg_dir: str | os.PathLike[str] | None = None,
    *,
    endpoint_url: str | None = None,
    force: bool = False,
    kinds: Collection[Kind] = KINDS,
    show_progress: bool = True,
    pace: Pace | None = None,
) -> DownloadPlan:
    """Ask the bucket for sizes and checksums, and look at what is there. Nothing is written.

    Parameters
    ----------
    model_id, subjects, berg_dir, endpoint_url, force, show_progress
        As for `berg.download`.
    kinds : collection of {"weights", "metadata", "plot"}
        What to fetch.
    pace : Pace, optional

    Returns
    -------
    DownloadPlan

    Raises
    ------
    BERGError
        As `berg.download`, but for what shows when files are fetched.
    """
    card = find_card(model_id)
    numbers = _check_subjects(card, subjects)
    files = card.files(as_berg_dir(berg_dir))
    known = load_manifest(files.root)
    endpoint = endpoint_url or os.environ.get("BERG_ENDPOINT_URL") or None
    facts = card.facts
    bucket = Bucket(facts["bucket"], facts["region"], endpoint, pace or paces.DEFAULT)
    wanted = want(bucket, files, numbers, kinds)
    remotes: dict[Path, RemoteFile] = {}

    def find(path: Path, stop: threading.Event) -> None:
        remotes[path] = bucket.find(key_of(files, path))

    run_in_threads((partial(find, each.path) for each in wanted), bucket.pace.n_threads)
    there = sum(os.path.getsize(each.path) for each in wanted if os.path.isfile(each.path))
    planned = []
    with tqdm(
        total=there,
        desc="Looking at what is there",
        unit="B",
        unit_scale=True,
        disable=not (show_progress and there),
    ) as bar:
        for each in wanted:
            remote = remotes[each.path]
            name = each.path.relative_to(files.root).as_posix()
            present = examine(each, remote, known.get(name), files, bar.update)
            planned.append(PlannedFile(each, remote, present, count_done(each.path, remote)))
    return DownloadPlan(card, numbers, files, bucket, tuple(planned), force, bool(endpoint_url))


def files_differ(
    found: Sequence[tuple[Path, Present | None]], plan: DownloadPlan
) -> FilesDifferError:
    """Return the error that names files which are in the way, and how to replace them."""
    return FilesDifferError(
        "there are other files than the bucket's, and they are not replaced unasked",
        got="".join(
            f"\n            {path}\n              {present.difference}"
            for path, present in found
            if present is not None
        ).lstrip(),
        accepted="no file, or the bucket's",
        do="choose another --berg-dir, or replace them:\n            "
        f"{replace(plan, force=True).command}",
    )


def _check_subjects(card: ModelCard, subjects: object) -> tuple[int, ...]:
    """Return the subjects, each once."""
    given = subjects if isinstance(subjects, Iterable) and not isinstance(subjects, str) else None
    numbers = [card.check_subject(n) for n in ([subjects] if given is None else given)]
    if not numbers:
        raise InvalidParameterError(
            "no subject is given", got="an empty list", accepted="one subject or more"
        )
    return tuple(dict.fromkeys(numbers))
