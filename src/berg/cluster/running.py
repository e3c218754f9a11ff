"""Workers, and tasks given to them: a few at a time, and again where a worker was killed."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import berg
from berg.cluster.tasks import Outcome, call, other_berg
from berg.errors import BERGError, ResourceError, warn

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # between two looks at how many workers there are
_IN_FLIGHT = 2  # tasks per worker: the next one is there when the last one ends
_PACKAGES = ("berg", "numpy", "torch")


@dataclass(frozen=True)
class WorkerInfo:
    """One process that does tasks.

    Attributes
    ----------
    address : str
        ``tcp://host:port``.
    host : str
    memory_limit_bytes : int or None
        What it may take before Dask restarts it; None without such a limit.
    n_threads : int
        Threads of a task's arithmetic. A worker does one task at a time.
    """

    address: str
    host: str
    memory_limit_bytes: int | None
    n_threads: int


@dataclass(frozen=True)
class Failure:
    """A task that failed, in the place of its result.

    Attributes
    ----------
    task : tuple
        The arguments that it was called with.
    error : BERGError
    """

    task: tuple[Any, ...]
    error: BERGError


class Cluster:
    """Workers that tasks can be given to; made by `berg.cluster.connect`.

    Parameters
    ----------
    client : distributed.Client
    address : str
        Of the scheduler.
    tell : callable
        Called with what a user should read, such as the lines that tasks tell.
    more_workers : str
        Where others come from when all are gone, as a user reads it.
    """

    def __init__(
        self, client: Any, address: str, tell: Callable[[str], object], more_workers: str
    ) -> None:
        self._client = client
        self._address = address
        self._tell = tell
        self._more_workers = more_workers
        self._topic = f"berg-{client.id}"
        self._warned: set[str] = set()
        client.subscribe_topic(self._topic, lambda event: tell(event[1]))

    @property
    def workers(self) -> list[WorkerInfo]:
        """The workers that are there now, by address."""
        with self._watch():
            found = self._client.scheduler_info(n_workers=-1)["workers"]
        return [
            WorkerInfo(address, info["host"], info["memory_limit"] or None, info["nthreads"])
            for address, info in sorted(found.items())
        ]

    def wait_for_workers(self) -> None:
        """Wait until there is a worker: on a cluster, jobs may stand in a queue for hours."""
        patience: float | None = 2 * _LOOK_SECONDS
        while not self.workers:
            try:
                self._client.wait_for_workers(1, timeout=patience)
            except TimeoutError:
                self._tell(f"{self._address} has no workers yet; waiting. {self._more_workers}")
                patience = None
        self._tell(f"{_count(len(self.workers))} at {self._address}")

    def check_same_berg(self) -> None:
        """Refuse workers that have another berg; log other differences that may show in results.

        Raises
        ------
        ResourceError
            If a worker has no berg, or another version of it.
        """
        with self._watch():
            versions = self._client.get_versions(packages=list(_PACKAGES))
        here = versions["client"]["packages"]
        for address, about in sorted(versions["workers"].items()):
            there = about["packages"]
            if there["berg"] != here["berg"]:
                raise other_berg(address, there["berg"] or "none", here["berg"])
            differing = [
                f"{name} {there[name]} (here {here[name]})"
                for name in ("python", *_PACKAGES)
                if there[name] != here[name]
            ]
            if differing:
                logger.warning("worker %s has %s", address, ", ".join(differing))

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[tuple[Any, ...]],
        *,
        name: Callable[..., str] | None = None,
        keep_going: bool = False,
    ) -> Iterator[Any]:
        """Do tasks on the workers; give each result as it comes.

        Tasks are drawn from `tasks` as workers become free, two per worker ahead. A task whose
        worker is killed runs again on another, so that it may find what it had begun. Without any
        worker, it waits. When the generator is closed or fails, what has not begun is cancelled;
        a task that has begun ends on its worker.

        Parameters
        ----------
        function : callable
            Importable on the workers. Its BERGWarnings are issued here, each text once; what it
            gives to `berg.cluster.tell` is told here.
        tasks : iterable of tuple
            Arguments of each call.
        name : callable, optional
            Called with a task's arguments: what errors call it.
        keep_going : bool
            Whether a BERGError of a task is given as a `Failure` instead of being raised, so that
            the others are done.

        Yields
        ------
        object
            Results in the order of completion.

        Raises
        ------
        BERGError
            As the task raised it.
        ResourceError
            If a task's workers are killed again and again, or the scheduler is lost.
        """
        client, waiting = self._client, iter(tasks)
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        running: dict[Any, tuple[Any, ...]] = {}
        look_at, any_workers, n_wanted = 0.0, True, 0
        try:
            while True:
                if done.empty() and time.monotonic() >= look_at:
                    n_workers = len(self.workers)
                    if any_workers and not n_workers:
                        self._tell(f"{self._address} has no workers now. {self._more_workers}")
                    any_workers = bool(n_workers)
                    n_wanted = _IN_FLIGHT * max(1, n_workers)  # one for whom others are started
                    look_at = time.monotonic() + _LOOK_SECONDS
                while len(running) < n_wanted and (task := next(waiting, None)) is not None:
                    with self._watch():
                        future = client.submit(
                            *(call, function, task, self._topic, berg.__version__), pure=False
                        )
                    running[future] = task
                    future.add_done_callback(done.put)
                if not running:
                    return
                try:
                    future = done.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                task = running.pop(future)
                outcome = self._outcome(
                    future, name(*task) if name else f"{function.__name__}{task}"
                )
                future.release()
                for text in outcome.warnings:
                    if text not in self._warned:
                        self._warned.add(text)
                        warn(text)
                if outcome.error is None:
                    yield outcome.result
                elif keep_going:
                    yield Failure(task, outcome.error)
                else:
                    raise outcome.error
        finally:
            if running and client.status == "running":
                client.cancel(list(running))

    def _outcome(self, future: Any, task: str) -> Outcome:
        from distributed import KilledWorker

        try:
            with self._watch():
                outcome: Outcome = future.result()
        except KilledWorker as err:
            return Outcome(
                error=ResourceError(
                    f"workers were killed again and again while they had this task: {task}",
                    got=f"{_count(err.allowed_failures + 1)} lost",
                    accepted="workers that live for as long as a task takes",
                    do="give workers more memory (the commonest reason) or more time, or start "
                    "fewer of them on a machine; what is finished is kept",
                )
            )
        return outcome

    @contextmanager
    def _watch(self) -> Iterator[None]:
        """Turn what `distributed` raises where its scheduler is gone into one error."""
        from distributed.client import ClosedClientError
        from distributed.comm.core import CommClosedError

        try:
            yield
        except (CancelledError, ClosedClientError, CommClosedError, TimeoutError) as err:
            raise ResourceError(
                "the connection to the scheduler was lost",
                got=self._address,
                do="start it and its workers again, and then the same command; what is finished "
                "is kept",
            ) from err


def _count(n_workers: int) -> str:
    return f"{n_workers} worker{'s' if n_workers != 1 else ''}"
