"""The numbered names of shards, written short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod

from berg.errors import ImageFileError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST = 1_000_000


def has_braces(name: str) -> bool:
    """Tell whether a name has a range of numbers in braces."""
    return _RANGE.search(name) is not None


def expand_braces(name: str) -> Iterator[str]:
    """Expand each range of numbers in braces as shells do, which leave quoted names alone.

    Parameters
    ----------
    name : str

    Yields
    ------
    str
        With all numbers as wide as the ends of their range are written; the last range
        counts fastest.

    Raises
    ------
    ImageFileError
        If that gives more than a million names.

    Examples
    --------
    >>> list(expand_braces("shard-{008..011}.tar"))
    ['shard-008.tar', 'shard-009.tar', 'shard-010.tar', 'shard-011.tar']
    >>> list(expand_braces("{1..2}/{0..1}.tar"))
    ['1/0.tar', '1/1.tar', '2/0.tar', '2/1.tar']
    >>> list(expand_braces("cat.jpg"))
    ['cat.jpg']
    """
    sizes = [abs(int(last) - int(first)) + 1 for first, last in _RANGE.findall(name)]
    if prod(sizes) > _MOST:
        raise ImageFileError(
            f"{name} stands for {prod(sizes):,} files",
            got=f"ranges of {' × '.join(map(str, sizes))} numbers",
            accepted=f"{_MOST:,} files at most",
            do="check the numbers in braces",
        )
    return _expand(name)


def _expand(name: str) -> Iterator[str]:
    match = _RANGE.search(name)
    if match is None:
        yield name
        return
    first, last = match.groups()
    step = 1 if int(first) <= int(last) else -1
    # As in a shell, zeros in front of either end widen all.
    padded = any(end != str(int(end)) for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    for number in range(int(first), int(last) + step, step):
        before, after = name[: match.start()], name[match.end() :]
        yield from _expand(f"{before}{number:0{width}d}{after}")
