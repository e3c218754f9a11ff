"""`berg train` on several workers: one subject each, with the bytes of one after the other."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from berg import cluster
from berg.catalog import DEFAULT_MODEL_ID
from berg.devices import pick_device
from berg.errors import BERGError, BERGWarning, InvalidParameterError, ResourceError
from berg.layout import as_berg_dir
from berg.training.building import TrainedSubject, train, train_subject
from berg.training.preparing import TrainingPlan, prepare

logger = logging.getLogger(__name__)


def train_in_parallel(
    nsd_dir: str | os.PathLike[str],
    subjects: Iterable[int],
    *,
    n_workers: int | None = None,
    scheduler: str | None = None,
    model_id: str = DEFAULT_MODEL_ID,
    berg_dir: str | os.PathLike[str] | None = None,
    n_sessions: int | None = None,
    ridge: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    tell: Callable[[str], object] = logger.info,
) -> list[TrainedSubject]:
    """Train several subjects at the same time; see `berg.training.train`.

    Everything is looked at first, here, for all subjects. Then each is a task of its own. A
    subject that fails does not stop the others: the error is raised when they are done. The
    features of the images that all subjects saw are computed by one, and the others wait. A
    subject whose worker is killed goes on, on another, from its last finished stage. The bytes
    are those of `berg.training.train` with the number of threads that a worker has.

    A script must call this under ``if __name__ == "__main__":``, because each local worker
    imports the script.

    Parameters
    ----------
    nsd_dir : path-like
        With a scheduler, `nsd_dir` and `berg_dir` are where its workers see them, too.
    subjects : iterable of int
    n_workers : int, optional
        Processes to start on this machine. No more are started than there are subjects.
    scheduler : str, optional
        Address of a Dask scheduler whose workers are taken. Either this or `n_workers` is given.
    model_id, berg_dir, n_sessions, ridge, overwrite
        As for `berg.training.train`.
    device : str
        As for `berg.training.train`; ``"auto"`` is decided here, for all workers.
    tell : callable
        Called with what a user should read, possibly from another thread.

    Returns
    -------
    list of TrainedSubject
        In the order of `subjects`.

    Raises
    ------
    BERGError
        As from `berg.training.train`, and from `berg.cluster.connect`. What went wrong with
        subjects on the workers is raised when the others are trained, and names them.
    """
    if (n_workers is None) == (scheduler is None):
        raise InvalidParameterError(
            "workers are either started on this machine, or those of a scheduler",
            got=f"n_workers={n_workers!r}, scheduler={scheduler!r}",
            accepted="one of the two",
            do="give the one that is meant, or train without workers",
        )
    target = pick_device(device)
    # Workers have another working directory, and perhaps another $BERG_DIR.
    nsd_dir, berg_dir = Path(nsd_dir).absolute(), as_berg_dir(berg_dir).absolute()
    plan = prepare(
        nsd_dir,
        subjects,
        model_id=model_id,
        berg_dir=berg_dir,
        n_sessions=n_sessions,
        ridge=ridge,
        device_type=target.type,
        overwrite=overwrite,
        tell=tell,
    )
    n_waiting = len(plan.needs)
    n_at_once = min(n_workers or n_waiting, n_waiting)  # a scheduler may get more workers
    plan.check(n_at_once=n_at_once, memory=scheduler is None)
    trained = {
        work.subject: train_subject(work, target, False, tell)
        for work in plan.works
        if work.subject not in plan.needs
    }
    if n_waiting:
        options = {
            "model_id": model_id,
            "berg_dir": berg_dir,
            "n_sessions": n_sessions,
            "ridge": ridge,
            "device": str(target),
            "overwrite": overwrite,
        }
        tasks = [(subject, nsd_dir, options) for subject in plan.needs]
        # As many as when nothing was done yet: with other threads, the bytes would be others.
        n_started = n_workers and min(n_workers, len(plan.works))
        with cluster.connect(n_workers=n_started, scheduler=scheduler, tell=tell) as workers:
            _check_workers(plan, workers.workers)
            trained |= _train_on(workers, tasks, tell)
    return [trained[work.subject] for work in plan.works]


def _train_on(
    workers: cluster.Cluster,
    tasks: list[tuple[int, Path, dict[str, Any]]],
    tell: Callable[[str], object],
) -> dict[int, TrainedSubject]:
    trained: dict[int, TrainedSubject] = {}
    failed: dict[int, BERGError] = {}
    for result in workers.run(_train_one, tasks, name=_name, keep_going=True):
        if isinstance(result, cluster.Failure):
            subject = result.task[0]
            failed[subject] = result.error
            tell(f"subject {subject} failed")
        else:
            trained[result.subject] = result
            tell(f"subject {result.subject} is trained")
    if failed:
        first = next(iter(failed.values()))
        told = "\n".join(f"subject {subject}: {failed[subject]}" for subject in sorted(failed))
        raise type(first)(told) from first
    return trained


def _train_one(subject: int, nsd_dir: Path, options: dict[str, Any]) -> TrainedSubject:
    """Train one subject, on a worker."""
    cluster.tell(f"subject {subject} begins on {socket.gethostname()}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BERGWarning)  # of the data: the user has them already
        (trained,) = train(nsd_dir, [subject], show_progress=False, **options)
    return trained


def _name(subject: int, *_: object) -> str:
    return f"subject {subject}"


def _check_workers(plan: TrainingPlan, workers: list[cluster.WorkerInfo]) -> None:
    """Refuse workers that Dask would restart in the middle of a subject, for their memory."""
    needed = max(need.memory_bytes for need in plan.needs.values())
    for worker in workers:
        if worker.memory_limit_bytes is not None and worker.memory_limit_bytes < needed:
            raise ResourceError(
                f"the worker {worker.address} has too little memory",
                got=f"{worker.memory_limit_bytes / 1e9:.1f} GB",
                accepted=f"about {needed / 1e9:.1f} GB, which a subject takes",
                do="start workers with more memory (--memory-limit), fewer on a machine",
            )
