"""Where workers come from: started on this machine, or those of a scheduler."""

from __future__ import annotations

import asyncio
import importlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from berg.cluster.running import Cluster
from berg.errors import InvalidParameterError, MissingExtraError, ResourceError

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 10  # until a scheduler is given up
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LOG_VARIABLE = "DASK_LOGGING__DISTRIBUTED"  # read when a worker imports Dask
# With levels of their own; tornado's has what Dask's callbacks raise after Ctrl-C.
_LOGS = ("distributed", "distributed.client", "distributed.gc", "tornado.application")

# What Dask sets in our own environment before it starts a process, and leaves there.
_CHANGED_VARIABLES = (
    *_THREAD_VARIABLES,
    *(_LOG_VARIABLE, "MALLOC_TRIM_THRESHOLD_", "PYTHONHASHSEED", "__DASK_PARENT_PID"),
)


@contextmanager
def connect(
    *,
    n_workers: int | None = None,
    scheduler: str | None = None,
    n_threads: int | None = None,
    tell: Callable[[str], object] = logger.info,
) -> Iterator[Cluster]:
    """Start local workers, or take those of a scheduler, until the block ends.

    A script that starts local workers must do so under ``if __name__ == "__main__":``, because
    each worker imports the script.

    Parameters
    ----------
    n_workers : int, optional
        Processes to start on this machine. They end with the block, or with this process.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:port``. Either this or `n_workers` is given.
        Its workers must see the same files under the same names. Without any yet, it waits.
    n_threads : int, optional
        Threads of each local worker. None shares the cores of this machine among them. The
        workers of a scheduler have as many as they were started with (``--nthreads``).
    tell : callable
        Called with what a user should read, possibly from another thread.

    Yields
    ------
    Cluster

    Raises
    ------
    InvalidParameterError
        If a parameter is none of these.
    MissingExtraError
        If Dask is not installed.
    ResourceError
        If local workers cannot be started, nothing answers at the address, or a worker has
        another version of berg.
    """
    if (n_workers is None) == (scheduler is None):
        raise InvalidParameterError(
            "workers are either started on this machine, or those of a scheduler",
            got=f"n_workers={n_workers!r}, scheduler={scheduler!r}",
            accepted="one of the two",
            do="give the one that is meant, and leave the other out",
        )
    _check_count("n_workers", n_workers)
    _check_count("n_threads", n_threads)
    if scheduler is not None and n_threads is not None:
        raise InvalidParameterError(
            "the workers of a scheduler have their own number of threads",
            got=f"n_threads={n_threads!r}, scheduler={scheduler!r}",
            do="start them with --nthreads, and leave n_threads out",
        )
    address = None if scheduler is None else _check_address(scheduler)
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A worker that imports its parent's script: each would start workers of its own.
        raise ResourceError(
            "a script starts workers while it is imported by a worker",
            do='in the script, put its calls under `if __name__ == "__main__":`',
        )
    _import_distributed()
    with _silence_dask():
        if address is not None:
            with _remote(address, tell) as cluster:
                cluster.wait_for_workers()
                cluster.check_same_berg()
                yield cluster
        else:
            with _local(n_workers or 1, n_threads, tell) as cluster:
                yield cluster


@contextmanager
def _local(
    n_workers: int, n_threads: int | None, tell: Callable[[str], object]
) -> Iterator[Cluster]:
    import dask
    from dask.system import cpu_count
    from distributed import Client, LocalCluster

    n_threads = n_threads or max(1, cpu_count() // n_workers)
    threads = dict.fromkeys(_THREAD_VARIABLES, str(n_threads))
    before = {name: os.environ.get(name) for name in _CHANGED_VARIABLES}
    config = {
        # A script that imports NumPy does so in each worker before `env` counts.
        "distributed.nanny.pre-spawn-environ": threads | {_LOG_VARIABLE: "critical"},
        "distributed.worker.profile.enabled": False,  # 100 looks a second at our stacks
    }
    try:
        with ExitStack() as leaving:
            try:
                with dask.config.set(config), _interrupts_wait():
                    started = LocalCluster(  # type: ignore[no-untyped-call]
                        n_workers=n_workers,
                        threads_per_worker=n_threads,
                        processes=True,
                        # No dashboard; a free port for the page that there is in its place.
                        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                        # What a run needs is checked before it starts; Dask's own limit would
                        # count weights that are mapped from disk.
                        memory_limit=0,
                        silence_logs=logging.CRITICAL,
                        env=threads,
                    )
                    workers = leaving.enter_context(started)
                    client = leaving.enter_context(
                        Client(workers, set_as_default=False)  # type: ignore[no-untyped-call]
                    )
            except (RuntimeError, OSError) as err:
                raise ResourceError(
                    "local workers could not be started",
                    got=str(err) or type(err).__name__,
                    do="start fewer of them; in a script, put its calls under "
                    '`if __name__ == "__main__":`, because each worker imports the script',
                ) from err
            yield Cluster(client, workers.scheduler_address, tell, "They are started again.")
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait until the block ends; threads and processes begun in it are spared it.

    A terminal sends it to all processes of a command at once: this one ends the workers.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    # Whichever thread starts this helper of Python's first lets signals through again.
    resource_tracker.ensure_running()
    caught: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    # Other threads, such as PyTorch's, still receive the signal, and this one then handles it.
    if waits := threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if waits:
            signal.signal(signal.SIGINT, before)
        if caught:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _remote(address: str, tell: Callable[[str], object]) -> Iterator[Cluster]:
    from distributed import Client

    try:
        with ThreadPoolExecutor(1) as elsewhere:  # in a notebook, this thread has a loop already
            elsewhere.submit(asyncio.run, _greet(address)).result()
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, ImportError) as err:
        raise ResourceError(
            "there is no scheduler at this address",
            got=f"{address}: {err or 'no answer'}",
            accepted="the address that `dask scheduler` prints when it starts",
            do="check that it runs, that the port is right, and that this machine can reach it",
        ) from err
    with client:
        yield Cluster(client, address, tell, f"To add one: dask worker {address}")


async def _greet(address: str) -> None:
    """Raise an OSError unless a scheduler answers: a `Client` waits forever for one who is mute."""
    from distributed.comm.core import connect
    from distributed.security import Security

    arguments = Security().get_connection_args("client")  # type: ignore[no-untyped-call]
    greeting = connect(address, timeout=_CONNECT_SECONDS, **arguments)  # type: ignore[no-untyped-call]
    (await asyncio.wait_for(greeting, _CONNECT_SECONDS + 1)).abort()


def _check_count(label: str, number: object) -> None:
    if number is None or (isinstance(number, int) and number >= 1 and number is not True):
        return
    raise InvalidParameterError(
        f"{label} is not a number of them",
        got=f"{label}={number!r}",
        accepted="a whole number from 1",
        do=f"name how many are wanted, such as {label}=2",
    )


def _check_address(address: str) -> str:
    """Return an address with its protocol."""
    whole = address if "://" in address else f"tcp://{address}"
    try:
        parts = urlsplit(whole)
        good = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port and not parts.path
    except ValueError:  # a port that is no number
        good = False
    if not good:
        raise InvalidParameterError(
            "this is not the address of a scheduler",
            got=repr(address),
            accepted="tcp://host:port, tls://host:port or host:port",
            do="copy the address that `dask scheduler` prints when it starts",
        )
    return whole


def _import_distributed() -> None:
    try:
        importlib.import_module("distributed")
    except ImportError as err:
        raise MissingExtraError(
            "several processes need a package that is not installed",
            got=str(err),
            do='pip install "berg[scale]"',
        ) from err


@contextmanager
def _silence_dask() -> Iterator[None]:
    """Keep Dask's own log off the screen: a killed worker alone fills a page."""
    logs = [logging.getLogger(name) for name in _LOGS]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
