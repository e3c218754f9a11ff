"""`python -m benchmarks.profiled encode ...`: the `berg` command, with the time of its parts.

The command runs as it is; what is timed is wrapped when its module has been imported. A part's
seconds are its own, without those of parts inside it. The last line on standard error is JSON:
the moments of the first and the last line here (`time.perf_counter`), and seconds of each part.
"""

from __future__ import annotations

import atexit
import builtins
import functools
import json
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from importlib import import_module

START = time.perf_counter()
IMPORTS_OF_PYTORCH, IMPORTS = "imports: PyTorch and NumPy", "imports: berg and all else"
# What is timed, and as which part; of generators each step is.
FUNCTIONS = {
    "berg.networks:load_parameters": "network read and proved",
    "berg.loading:load_models": "network and model put together",
    "berg.loading:load_weights": "weights mapped, selected rows read",
    "berg.toolkit:BERG.get_encoding_model": "regions and metadata",
    "berg.model:EncodingModel.is_simulated": "regions and metadata",
    "berg.model:EncodingModel.scores": "projection",
    "berg.model:EncodingModel.read_out": "regression",
    "berg.responses:save_responses": "file written",
    "berg.loading:select_vertices": "regions and metadata",
    "berg.sources:find_images": "image found, decoded, resized",
}
GENERATORS = {
    "berg.sources:read_batches": "image found, decoded, resized",
    "berg.model:EncodingModel.activations": "network",
}

seconds: defaultdict[str, float] = defaultdict(float)
_parts: list[str] = []  # that are going on, the innermost last
_since = START


@contextmanager
def part(name: str):
    _switch()
    _parts.append(name)
    try:
        yield
    finally:
        _switch()
        _parts.pop()


def _switch() -> None:
    """Give the time since the last switch to the part that was going on."""
    global _since
    now = time.perf_counter()
    seconds[_parts[-1] if _parts else "other"] += now - _since
    _since = now


def timed(function, name: str):
    if isinstance(function, functools.cached_property):
        function.func = timed(function.func, name)
        return function

    @functools.wraps(function)
    def wrapper(*args, **more):
        with part(name):
            return function(*args, **more)

    return wrapper


def timed_generator(function, name: str):
    @functools.wraps(function)
    def wrapper(*args, **more):
        steps = iter(function(*args, **more))
        while True:
            with part(name):
                step = next(steps, None)
            if step is None:
                return
            yield step

    return wrapper


def watch_imports() -> None:
    """Time imports, and wrap what is to be timed as soon as an import has brought it."""
    plain_import = builtins.__import__
    waiting = {
        **{target: (timed, name) for target, name in FUNCTIONS.items()},
        **{target: (timed_generator, name) for target, name in GENERATORS.items()},
    }

    def wrap_what_is_there() -> None:
        for target in list(waiting):
            module, _, path = target.partition(":")
            if module not in sys.modules:
                continue
            *parents, last = path.split(".")
            holder = functools.reduce(getattr, parents, sys.modules[module])
            wrap, name = waiting.pop(target)
            setattr(holder, last, wrap(vars(holder)[last], name))

    def watched(module, *args):
        name = IMPORTS_OF_PYTORCH if module.split(".")[0] in ("torch", "numpy") else IMPORTS
        inside = _parts[-1] if _parts else None
        if inside in (name, IMPORTS_OF_PYTORCH):
            return plain_import(module, *args)
        with part(name):
            found = plain_import(module, *args)
        if inside != IMPORTS:  # an import that is not part of another one
            wrap_what_is_there()
        return found

    builtins.__import__ = watched


def tell() -> None:
    _switch()
    moments = {"start": START, "end": time.perf_counter()}
    print("\n" + json.dumps({**moments, "seconds": seconds}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    atexit.register(tell)  # first, and so called last
    watch_imports()
    with part(IMPORTS):
        main = import_module("berg.cli").main
    main(prog_name="berg")
