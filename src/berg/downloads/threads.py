"""Work done by a few threads while this one waits, shows progress, and can be interrupted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

Task = Callable[[threading.Event], None]
_GLANCE_SECONDS = 0.1


def run_in_threads(
    tasks: Iterable[Task],
    n_threads: int,
    glance: Callable[[], object] = lambda: None,
) -> None:
    """Do tasks in a few threads; the first error stops all and is raised.

    Parameters
    ----------
    tasks : iterable of callable
        Begun in order; each is called with an event that is set when it is to end.
    n_threads : int
    glance : callable
        Called about ten times a second, by the calling thread.

    Notes
    -----
    After an error or Ctrl-C a thread may still wait for a server, for as long as the timeouts
    allow. Nobody waits for it: it is a daemon, and ends when it sees the event.
    """
    pending = deque(tasks)
    errors: deque[BaseException] = deque()
    stop = threading.Event()

    def work_through() -> None:
        while not stop.is_set():
            try:
                task = pending.popleft()
            except IndexError:
                return
            try:
                task(stop)
            except BaseException as err:  # noqa: BLE001 - raised in the calling thread
                errors.append(err)
                stop.set()

    threads = [
        threading.Thread(target=work_through, name=f"berg download {i}", daemon=True)
        for i in range(min(n_threads, len(pending)))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not stop.is_set():
                thread.join(_GLANCE_SECONDS)
                glance()
    finally:
        stop.set()
    glance()
    if errors:
        raise errors[0]
