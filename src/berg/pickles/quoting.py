"""What a file holds, made fit to print: it may bring line breaks, terminal codes, or megabytes."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from itertools import islice

_PLAIN = re.compile(r"[\w.+-]+", re.ASCII)  # as in "lh_ncsnr", "FBA-2", "numpy.ndarray"


def shown(value: object, longest: int = 80) -> str:
    r"""Return a value of a file as one short line.

    Parameters
    ----------
    value : object
    longest : int
        Characters to show of it.

    Returns
    -------
    str
        A plain word as it is, anything else by its `repr`, with the middle or the end left out.

    Examples
    --------
    >>> shown("lh_ncsnr"), shown((9, 2)), shown("x\n  do: this")
    ('lh_ncsnr', '(9, 2)', "'x\\n  do: this'")
    """
    if isinstance(value, str) and len(value) <= longest and _PLAIN.fullmatch(value):
        return str(value)
    form = reprlib.Repr()
    form.maxlevel, form.maxstring, form.maxother = 2, longest, longest
    text = form.repr(value).replace("\n", " ")  # NumPy breaks the lines of its arrays
    return text if len(text) <= longest else text[:longest] + "…"


def listed(names: Iterable[object]) -> str:
    """Return the first dozen of a file's names as one line, ``"nothing"`` if there are none."""
    return ", ".join(map(shown, islice(names, 12))) or "nothing"
