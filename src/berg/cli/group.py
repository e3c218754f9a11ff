"""The `berg` command itself, how it shows errors, and the options that commands share."""

from __future__ import annotations

import atexit
import gc
import logging
import re
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from berg import __version__
from berg.errors import BERGError, BERGWarning

berg_dir_option = click.option(
    "--berg-dir",
    type=click.Path(path_type=Path),
    help="Directory of the models. Default: $BERG_DIR, else the platform's data directory.",
)
subject_option = click.option("--subject", type=int, required=True, help="NSD subject, 1 to 8.")
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or mps."
)
quiet_option = click.option("--quiet", is_flag=True, help="No progress bar.")


def ask(question: str) -> None:
    """Go on if the person at the terminal agrees; elsewhere ``--yes`` must have said so."""
    if not can_ask():
        raise click.UsageError("nobody can be asked here: answer beforehand with --yes")
    click.confirm(question, abort=True)


def can_ask() -> bool:
    """Whether somebody is at a terminal."""
    return sys.stdin.isatty()


@contextmanager
def importing() -> Iterator[None]:
    """Import PyTorch, and with it what needs it, without looking for garbage in all of that.

    It is in use, and to find so takes 0.3 s during the imports and 0.08 s afterwards (measured,
    Python 3.11). What comes later is looked through as ever.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class SubjectsCommand(click.Command):
    """A command whose options take several values: ``--subject 1 2 5-8``, ``--roi V1v V1d``.

    They may also be written with commas, or the option repeated.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat such an option before each of its values, as click wants it."""
        spread: list[str] = []
        rest = deque(args)
        while rest and rest[0] != "--":  # after which all are sources
            arg = rest.popleft()
            option, equals, value = arg.partition("=")
            if option not in _SEVERAL or not (equals or rest):
                spread.append(arg)
                continue
            belongs, split = _SEVERAL[option]
            values = [value if equals else rest.popleft()]
            while rest and belongs(rest[0]):
                values.append(rest.popleft())
            for value in split(" ".join(values)) or [""]:
                spread += [option, value]
        return super().parse_args(ctx, [*spread, *rest])


def _split_subjects(text: str) -> list[str]:
    return re.sub(r"\s*([-,])\s*", r"\1", text).split()


def _split_rois(text: str) -> list[str]:
    return re.split(r"[\s,]+", text.strip(", "))


def _is_roi(text: str) -> bool:
    """Tell whether an argument can only be a region: a source of this name does not exist."""
    from berg.catalog import load_cards

    known = {name for card in load_cards().values() for name in (*card.rois, *card.roi_aliases)}
    return known.issuperset(_split_rois(text)) and not Path(text).exists()


def _is_outlined(text: str) -> bool:
    """Tell whether an argument can only be what `berg plot` outlines."""
    from berg.surface.roi_patches import ROI_COLLECTIONS

    known = {
        "none",
        *ROI_COLLECTIONS,
        *(name for names in ROI_COLLECTIONS.values() for name in names),
    }
    return known.issuperset(_split_rois(text))


class _Subjects(click.ParamType[tuple[int, ...]]):
    name = "subjects"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        if not _SUBJECTS.fullmatch(value):
            self.fail(f"{value!r} is not a subject, nor several like 1-8 or 1,2,5", param, ctx)
        numbers: list[int] = []
        for span in value.split(","):
            first, _, last = span.partition("-")
            if any(len(end.lstrip("0")) > _MOST_DIGITS for end in (first, last)):
                self.fail(f"{span!r} is out of range: subjects are 1 to 8", param, ctx)
            if int(last or first) < int(first):
                self.fail(f"{span!r} falls: write the smaller subject first", param, ctx)
            numbers += range(int(first), int(last or first) + 1)
        return tuple(numbers)


_MOST_DIGITS = 2  # of a subject's number: a slip like 1-80000000 must not be counted up
_SUBJECT_NAMES = ("--subject", "--subjects")
_SUBJECTS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_NUMBERS = re.compile(r"[,-]?\d[\d\s,-]*|[,-]")
# For each option with several values: what belongs to it beside the first that follows it, and
# how all of that falls into values.
_SEVERAL: dict[str, tuple[Callable[[str], object], Callable[[str], list[str]]]] = {
    **dict.fromkeys(_SUBJECT_NAMES, (_NUMBERS.fullmatch, _split_subjects)),
    "--roi": (_is_roi, _split_rois),
    "--rois": (_is_outlined, _split_rois),
    "--format": (re.compile(r"(png|svg|pdf)(,(png|svg|pdf))*").fullmatch, _split_rois),
}

_add_subjects = partial(
    click.option,
    *_SUBJECT_NAMES,
    "subjects",
    type=_Subjects(),
    multiple=True,
    callback=lambda ctx, param, values: tuple(dict.fromkeys(n for part in values for n in part)),
    metavar="N ...",
)
subjects_option = _add_subjects(
    required=True, help="NSD subjects, 1 to 8: one or several, as 1 2 5-8."
)
optional_subjects_option = _add_subjects(
    help="NSD subjects, 1 to 8: one of a store; of a model by default all that there are."
)


class _Commands(click.Group):
    """Shows our errors and warnings as text; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        # At its end Python would look for garbage in all that was imported: 0.3 s with PyTorch.
        atexit.register(gc.freeze)
        with _stop_in_order(), warnings.catch_warnings():
            default = warnings.showwarning
            warnings.showwarning = partial(_show_warning, default)
            warnings.simplefilter("always", BERGWarning)
            try:
                return super().invoke(ctx)
            except BERGError as error:
                raise click.ClickException(str(error)) from error


@contextmanager
def _stop_in_order() -> Iterator[None]:
    """Take SIGTERM, by which SLURM ends a job, for Ctrl-C: what is begun is ended in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _show_warning(
    default: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    *where: Any,
    **more: Any,
) -> None:
    if issubclass(category, BERGWarning):
        click.secho(f"Warning: {message}", err=True, fg="yellow")
    else:
        default(message, category, *where, **more)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="berg")
@click.option("-v", "--verbose", is_flag=True, help="Log what is done.")
def main(verbose: bool) -> None:
    """In silico fMRI: what the brain's response to an image would be.

    New here? `berg demo` needs no download and ends with a page to look at.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s"
    )
