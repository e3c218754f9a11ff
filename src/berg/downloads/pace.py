"""How a download goes about it: sizes of parts, threads, patience."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Sizes and times of a download; the defaults suit a bucket on the internet.

    Parameters
    ----------
    part_bytes : int
        Of one request. With `n_threads` parts on their way, at most 50 MB are lost when the
        process is killed.
    n_threads : int
        Requests at the same time.
    chunk_bytes : int
        What is read from a connection and written to disk at once; where a connection drops, no
        more than this is fetched again.
    attempts : int
        Failures in a row, without a new byte in between, after which a part is given up.
    first_attempts : int
        The same before anything is fetched, while a person waits for an answer.
    first_wait_seconds, longest_wait_seconds : float
        Before the second attempt, and at most; it doubles in between.
    connect_seconds, read_seconds : float
        How long a server may be silent.
    """

    part_bytes: int = 8 * 2**20
    n_threads: int = 6
    chunk_bytes: int = 256 * 2**10
    attempts: int = 6
    first_attempts: int = 3
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 10.0
    connect_seconds: float = 10.0
    read_seconds: float = 30.0

    def waits(self) -> Iterator[float]:
        """Give the seconds to wait before each further attempt, without end."""
        seconds = self.first_wait_seconds
        while True:
            yield seconds
            seconds = min(2 * seconds, self.longest_wait_seconds)


DEFAULT = Pace()
