"""`berg encode --store`: many images of several subjects into a store, by one process or many."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from tqdm.auto import tqdm

from berg.catalog import DEFAULT_MODEL_ID
from berg.cluster import Cluster, connect
from berg.devices import pick_device
from berg.errors import BERGError, ImageFileError, InvalidParameterError, warn
from berg.locks import hold
from berg.sources import find_images
from berg.stores.encoding import (
    EncodedChunk,
    Job,
    count_images,
    encode_chunk,
    encode_chunks,
    load_models,
)
from berg.stores.order import Order, look_up
from berg.stores.plan import RunPlan, check_disk, check_memory
from berg.stores.recipe import Recipe
from berg.stores.store import Store
from berg.toolkit import BERG

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreRun:
    """What a run found and did.

    Attributes
    ----------
    path : Path
        The store.
    plan : RunPlan
    n_encoded : int
        Images that this run went through, with the unreadable ones.
    unreadable : tuple of str
        A line for each image of these that could not be read.
    n_cropped, n_small : int
        Images of these that were not square, and that were smaller than the network's input.
    """

    path: Path
    plan: RunPlan
    n_encoded: int = 0
    unreadable: tuple[str, ...] = ()
    n_cropped: int = 0
    n_small: int = 0


def encode_to_store(
    sources: Sequence[str | os.PathLike[str]],
    store_path: str | os.PathLike[str],
    subjects: Iterable[int],
    *,
    model_id: str = DEFAULT_MODEL_ID,
    rois: Iterable[str] = (),
    dtype: str = "scores",
    chunk_images: int | None = None,
    device: str = "auto",
    precision: str = "float32",
    berg_dir: str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
    n_workers: int | None = None,
    scheduler: str | None = None,
    dry_run: bool = False,
    show_progress: bool = True,
    tell: Callable[[str], object] = logger.info,
) -> StoreRun:
    """Encode images into a store, or go on with one that is not complete.

    Stopped or killed at any moment and called again, it redoes at most one chunk for each process
    that computes, and ends with the same bytes.

    Parameters
    ----------
    sources : sequence of path-like
        What `berg.sources.find_images` takes: folders, lists, arrays, HDF5, shards.
    store_path : path-like
        Of the store; its name commonly ends in ``.zarr``.
    subjects : iterable of int
        Counted from 1; their order does not matter. Images go through the network once for all.
    model_id : str
    rois : iterable of str
        Regions of interest, whose union is taken; empty for the whole surface.
    dtype : {"scores", "float32", "float16"}
        What is stored: scores, 1 KB an image and subject, from which all responses follow; or
        with them the responses, in this dtype.
    chunk_images : int, optional
        Images that are computed and written together. By default 1,024, with responses 128.
    device : str
        For the network: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``. Each worker of a scheduler
        decides on its own what ``"auto"`` is.
    precision : {"float32", "bfloat16"}
        Of the network.
    berg_dir : path-like, optional
        None takes ``$BERG_DIR`` or the platform's data directory.
    skip_bad : bool
        Whether images that cannot be read are marked as such, with NaN for scores, and do not
        stop the run.
    n_workers : int, optional
        Processes to start on this machine. By default this one computes.
    scheduler : str, optional
        Address of a Dask scheduler whose workers compute, in place of `n_workers`.
    dry_run : bool
        Whether to stop after the plan; nothing is written.
    show_progress : bool
        Whether to show a progress bar.
    tell : callable
        Called with what a user should read: what will be needed, what is kept.

    Returns
    -------
    StoreRun

    Raises
    ------
    ImageFileError
        If a source or an image cannot be read. All chunks that are done are kept. With `skip_bad`,
        if not one image of the first chunk can be read, and none was encoded before.
    InvalidParameterError
        If a parameter is not accepted, or the store was begun with other ones.
    WeightsNotFoundError, MetadataNotFoundError, ModelLoadError
        If the models cannot be loaded.
    FileFormatError
        If there is something other than a store, or the weights give what is not finite.
    ResourceError
        If memory or disk is short, there is no such device, another process is at work on the
        store, it is removed meanwhile, there is no scheduler, or its workers are lost. All chunks
        that are done are kept.

    Warns
    -----
    BERGWarning
        If several processes of this machine share a GPU.
    """
    if n_workers is not None and scheduler is not None:
        raise InvalidParameterError(
            "workers are either started here or those of a scheduler",
            got=f"n_workers={n_workers} and scheduler={scheduler!r}",
            accepted="one of the two",
            do="leave one out",
        )
    path = _follow_link(Path(store_path).absolute())
    if scheduler is None:
        device = _pick_device(device, n_workers)
    images = find_images(sources)
    order = look_up(
        images,
        BERG(berg_dir),
        model_id,
        subjects,
        rois,
        dtype,
        chunk_images,
        precision=precision,
        convert=not dry_run,
        tell=tell,
    )
    for subject, provenance in order.provenance.items():
        if provenance["simulated"]:
            tell(f"Subject {subject} is SIMULATED: not measured in a brain.")
    n_processes = n_workers or int(scheduler is not None)  # of a scheduler's, one is planned for
    plan = order.plan(order.open_store(path), n_processes)
    tell(str(plan))
    if dry_run:
        _check(plan, path, scheduler)
        return StoreRun(path, plan)
    if plan.n_done == plan.n_chunks:  # perhaps on a disk that cannot be written to: no lock
        tell(f"{path} is complete already")
        return StoreRun(path, plan)
    with hold(path):
        store = order.open_store(path)  # as the process that held it before has left it
        plan = order.plan(store, n_processes)
        _check(plan, path, scheduler)
        run = _Run(path, order, plan, store, device, skip_bad, n_workers, scheduler, tell)
        return _encode(run, show_progress)


@dataclass(frozen=True)
class _Run:
    """A run that was found to fit, and what its parts need to know."""

    path: Path
    order: Order
    plan: RunPlan
    found: Store | None
    device: str
    skip_bad: bool
    n_workers: int | None
    scheduler: str | None
    tell: Callable[[str], object]

    @property
    def pending(self) -> list[int]:
        """Chunks that are not done."""
        if self.found is None:
            return list(range(self.order.recipe.n_chunks))
        return self.found.pending()

    def begin(self) -> Store:
        """Return the store to write to; made only when all that could be refused was not."""
        store = self.found or self.order.create_store(self.path)
        store.remove_partial_files()
        return store


def _follow_link(path: Path) -> Path:
    """Return where a store lies, so that it has one lock whatever it is called."""
    if path.is_symlink() and not path.exists():
        raise InvalidParameterError(
            f"{path} is a link that leads nowhere",
            got=f"a link to {os.readlink(path)}",
            accepted="a store, or a path without a file or folder",
            do="see that its disk is there, or remove the link",
        )
    return path.resolve() if path.is_symlink() else path


def _pick_device(name: str, n_workers: int | None) -> str:
    """Decide what computes, for all processes of this machine."""
    device = pick_device(name)
    if device.type != "cpu" and (n_workers or 1) > 1:
        warn(
            f"{n_workers} workers share the device {device}: each holds network and weights in its "
            "memory, and one is about as fast. Leave --workers out, or give --device cpu"
        )
    return str(device)


def _check(plan: RunPlan, path: Path, scheduler: str | None) -> None:
    """Refuse what cannot fit; the memory of a scheduler's workers is known once it answers."""
    check_disk(plan, path)
    if scheduler is None:
        check_memory(plan)


def _encode(run: _Run, show_progress: bool) -> StoreRun:
    """Encode the chunks that are not done, and count what became of them."""
    recipe, pending = run.order.recipe, run.pending
    n_before = recipe.n_images - sum(count_images(recipe, i) for i in pending)
    n_encoded = n_cropped = n_small = 0
    unreadable: list[str] = []
    encode = _encode_here if run.n_workers is None and run.scheduler is None else _encode_on_workers
    with (
        _say_what_is_kept(run),
        tqdm(
            total=recipe.n_images,
            initial=n_before,
            desc="Encoding",
            unit="image",
            disable=not show_progress,
        ) as bar,
        closing(encode(run, pending, bar)) as chunks,
    ):
        for chunk in chunks:
            n_encoded += chunk.n_images
            n_cropped += chunk.n_cropped
            n_small += chunk.n_small
            unreadable += chunk.unreadable
    return StoreRun(run.path, run.plan, n_encoded, tuple(unreadable), n_cropped, n_small)


def _encode_here(
    run: _Run, pending: Sequence[int], bar: tqdm[NoReturn]
) -> Generator[EncodedChunk, None, None]:
    """Encode the chunks in this process, one after the other."""
    models = load_models(run.order.recipe, run.order.berg_dir, run.device)
    yield from encode_chunks(
        run.begin(),
        models,
        pending,
        run.order.images.__getitem__,
        skip_bad=run.skip_bad,
        count=bar.update,
    )


def _encode_on_workers(
    run: _Run, pending: Sequence[int], bar: tqdm[NoReturn]
) -> Generator[EncodedChunk, None, None]:
    """Have the chunks encoded by workers, in whatever order."""
    recipe, images = run.order.recipe, run.order.images

    def tell(line: str) -> None:
        with bar.external_write_mode():
            run.tell(line)

    # There is no work for more workers than chunks.
    n_workers = None if run.n_workers is None else min(run.n_workers, len(pending))
    with connect(n_workers=n_workers, scheduler=run.scheduler, tell=tell) as cluster:
        if run.scheduler is not None:
            check_memory(run.plan, _limits(cluster))
        job = Job(run.begin().path, run.order.berg_dir, recipe, run.device, run.skip_bad)
        # References of a chunk's images travel, rather than a collection of a million.
        tasks = ((job, i_chunk, images[recipe.chunk(i_chunk)]) for i_chunk in pending)
        for chunk in cluster.run(encode_chunk, tasks, name=partial(_name_task, recipe)):
            bar.update(chunk.n_images)
            yield chunk


def _name_task(recipe: Recipe, job: Job, i_chunk: int, references: Sequence[object]) -> str:
    images = recipe.chunk(i_chunk)
    return f"chunk {i_chunk} of {recipe.n_chunks}, images {images.start} to {images.stop - 1}"


def _limits(cluster: Cluster) -> dict[str, int]:
    return {
        worker.address: worker.memory_limit_bytes
        for worker in cluster.workers
        if worker.memory_limit_bytes is not None
    }


@contextmanager
def _say_what_is_kept(run: _Run) -> Iterator[None]:
    """Tell, when a run is stopped by whatever it be, how much is done and how to go on."""
    try:
        yield
    except BaseException as error:
        with suppress(BERGError, OSError):  # a store that is gone: what is raised says so
            run.tell(f"stopped: {_what_is_kept(run, error)}")
        raise


def _what_is_kept(run: _Run, error: BaseException) -> str:
    if not run.path.exists():
        return f"nothing is kept, there is no {run.path}"
    n_done = int(Store.open(run.path).is_done().sum())
    kept = f"{n_done:,} of {run.plan.n_chunks:,} chunks are kept in {run.path}"
    if isinstance(error, ImageFileError):
        # Without the image, or with a mended one, the images would be others.
        return f"{kept}; to go on from there, leave out what cannot be read: --skip-bad"
    return f"{kept}; the same command goes on from there"
