"""The part of a task that is not the task: what happens around it, on a worker."""

from __future__ import annotations

import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import berg
from berg.errors import BERGError, BERGWarning, ResourceError

_topic_of_user: ContextVar[str] = ContextVar("_topic_of_user")

# A worker with several threads is given several tasks; each of ours has all threads in turn.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What a task gave. Our errors travel as values: Dask shortens those that it carries.

    Attributes
    ----------
    result : object
        None if there is an error.
    error : BERGError or None
    warnings : list of str
        BERGWarnings, in order.
    """

    result: Any = None
    error: BERGError | None = None
    warnings: list[str] = field(default_factory=list)


def tell(line: str) -> None:
    """Tell the user a line from within a task; it reaches the `tell` of `connect`.

    Parameters
    ----------
    line : str
    """
    from distributed import get_worker

    get_worker().log_event(_topic_of_user.get(), line)


def call(
    function: Callable[..., Any], arguments: tuple[Any, ...], topic: str, version: str
) -> Outcome:
    """Do a task, on a worker.

    Parameters
    ----------
    function : callable
    arguments : tuple
    topic : str
        Of the events that carry lines to the user.
    version : str
        Of the user's berg.

    Returns
    -------
    Outcome
    """
    import torch
    from distributed import get_worker

    worker = get_worker()
    if berg.__version__ != version:  # it came after `Cluster.check_same_berg`
        return Outcome(error=other_berg(worker.address, berg.__version__, version))
    texts: list[str] = []
    with _one_at_a_time, _keep_warnings(texts):
        torch.set_num_threads(worker.state.nthreads)
        _topic_of_user.set(topic)
        try:
            return Outcome(function(*arguments), warnings=texts)
        except BERGError as err:
            err.args = (f"{err}\n  on:       {worker.address}",)
            # Neither a traceback nor a cause is carried between processes.
            err.add_note(traceback.format_exc())
            return Outcome(error=err, warnings=texts)


@contextmanager
def _keep_warnings(texts: list[str]) -> Iterator[None]:
    """Add our warnings to `texts`; show others as ever."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def keep(
            message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any
        ) -> None:
            if issubclass(category, BERGWarning):
                texts.append(str(message))
            else:
                show(message, category, *args, **kwargs)

        warnings.showwarning = keep
        warnings.simplefilter("always", BERGWarning)
        yield


def other_berg(worker: str, theirs: str, ours: str) -> ResourceError:
    """Return the error of a worker that has another version of berg."""
    return ResourceError(
        "a worker has another version of berg",
        got=f"{theirs} on {worker}",
        accepted=f"{ours}, as here",
        do="start the workers in the same Python environment as this command",
    )
