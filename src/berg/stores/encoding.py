"""What one process does in a long run: chunks of images through the models, into the store."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

import numpy as np
import torch

from berg.devices import full_precision
from berg.encoding import BATCH_SIZE, Float32s, HemisphereArrays
from berg.errors import (
    BERGWarning,
    ImageFileError,
    ModelLoadError,
    ResourceError,
    StoreNotFoundError,
)
from berg.model import EncodingModel
from berg.model_set import EncodingModels
from berg.sources import Batch, ImageReference, check_any_is_good, read_batches
from berg.stores.chunks import ENCODED, UNREADABLE
from berg.stores.recipe import Recipe
from berg.stores.store import Store
from berg.toolkit import BERG


@dataclass(frozen=True)
class EncodedChunk:
    """What became of the images of a chunk.

    Attributes
    ----------
    i_chunk : int
    n_images : int
    unreadable : tuple of str
        A line for each image that could not be read.
    n_cropped, n_small : int
        Images that were not square, and that were smaller than the network's input.
    """

    i_chunk: int
    n_images: int
    unreadable: tuple[str, ...]
    n_cropped: int
    n_small: int


@dataclass(frozen=True)
class Job:
    """What a worker is told besides its images; the same for all chunks of a run.

    Parameters
    ----------
    store_path, berg_dir : Path
        Absolute, as the worker sees them.
    recipe : Recipe
        The store's.
    device : str
    skip_bad : bool
        Whether images that cannot be read are marked, and do not stop the run.
    """

    store_path: Path
    berg_dir: Path
    recipe: Recipe
    device: str
    skip_bad: bool


def encode_chunks(
    store: Store,
    models: EncodingModels,
    i_chunks: Sequence[int],
    images: Callable[[slice], Sequence[ImageReference]],
    *,
    skip_bad: bool = False,
    count: Callable[[int], object] = lambda n_images: None,
) -> Generator[EncodedChunk, None, None]:
    """Encode chunks one after the other; each is on the disk before the next one is computed.

    Images are read ahead, also across the border of chunks. Memory is bounded by a chunk.

    Parameters
    ----------
    store : Store
    models : EncodingModels
        Of the store's subjects, in its order.
    i_chunks : sequence of int
    images : callable
        Gives the references of the images in a slice of all.
    skip_bad : bool
        Whether images that cannot be read are marked, and do not stop the run.
    count : callable
        Called with the number of images of each batch that is computed.

    Yields
    ------
    EncodedChunk
        When it is written.

    Raises
    ------
    ImageFileError
        If an image cannot be read, and is not to be skipped. The chunks before it are written.
        If not one image of the first chunk can be read, and no other is encoded yet.
    FileFormatError
        If the weights give scores that are not finite.
    ResourceError
        If the store cannot be written, or memory is short.
    """
    recipe = store.recipe

    def groups() -> Iterator[Sequence[ImageReference]]:
        for i_chunk in i_chunks:
            references = images(recipe.chunk(i_chunk))
            # The borders of batches are fixed by the store: another batch rounds differently.
            for start in range(0, len(references), BATCH_SIZE):
                yield references[start : start + BATCH_SIZE]

    batches = read_batches(groups(), device=models.resize_device, skip_bad=skip_bad)
    with closing(batches), _short_of_memory(models.device):
        for i_chunk in i_chunks:
            n_images = count_images(recipe, i_chunk)
            of_chunk = islice(batches, ceil(n_images / BATCH_SIZE))
            yield _encode_chunk(store, models, i_chunk, n_images, of_chunk, count)


def encode_chunk(job: Job, i_chunk: int, references: Sequence[ImageReference]) -> EncodedChunk:
    """Encode one chunk on a worker, which loads the models for the first and keeps them.

    Parameters
    ----------
    job : Job
    i_chunk : int
    references : sequence of ImageReference
        The images of the chunk.

    Returns
    -------
    EncodedChunk

    Raises
    ------
    ModelLoadError
        If the worker's berg_dir has other weights than the store was begun with.
    StoreNotFoundError, InvalidParameterError
        If the worker does not see the store, or sees another one.
    ImageFileError, FileFormatError, ResourceError
        As `encode_chunks`.
    """
    store, models = _loaded_for(job)
    (done,) = encode_chunks(
        store, models, [i_chunk], lambda part: references, skip_bad=job.skip_bad
    )
    return done


def load_models(recipe: Recipe, berg_dir: Path, device: str) -> EncodingModels:
    """Load what a store's recipe asks for: without the regressions where scores are all.

    Parameters
    ----------
    recipe : Recipe
    berg_dir : Path
    device : str

    Returns
    -------
    EncodingModels
        Of the recipe's subjects, in its order.

    Raises
    ------
    ModelLoadError
        If the weights are not those of the recipe, or cannot be used.
    BERGError
        As `berg.BERG.get_encoding_models`.
    """
    berg = BERG(berg_dir)
    with _short_of_memory(device), warnings.catch_warnings():
        # That a region is empty was said when the recipe was made.
        warnings.simplefilter("ignore", BERGWarning)
        if recipe.dtype == "scores":
            models = berg.get_projections(
                recipe.model_id, recipe.subjects, device, precision=recipe.precision
            )
        else:
            selection = {"roi": list(recipe.rois)} if recipe.rois else None
            models = berg.get_encoding_models(
                recipe.model_id, recipe.subjects, device, selection, precision=recipe.precision
            )
    for model, recorded in zip(models, recipe.weights_sha256, strict=True):
        sha256 = model.source.fingerprint()
        if sha256 != recorded:
            raise ModelLoadError(
                f"{model.source.path} is not what the store was begun with",
                got=f"weights with SHA-256 {sha256[:16]}…",
                accepted=f"{recorded[:16]}…",
                do="give workers the same berg_dir, and leave it alone while they run",
            )
    return models


def count_images(recipe: Recipe, i_chunk: int) -> int:
    """Return how many images a chunk has."""
    part = recipe.chunk(i_chunk)
    return int(part.stop - part.start)


def _encode_chunk(
    store: Store,
    models: EncodingModels,
    i_chunk: int,
    n_images: int,
    batches: Iterable[Batch],
    count: Callable[[int], object],
) -> EncodedChunk:
    scores = [np.full((n_images, model.n_components), np.nan, np.float32) for model in models]
    status = np.full(n_images, ENCODED, np.uint8)
    names: list[str] = []
    errors: list[ImageFileError] = []
    n_cropped = n_small = 0
    for batch in batches:
        start = len(names)
        names += batch.names
        good = np.flatnonzero(batch.is_good)
        # The unreadable ones go through the network too, black: in a batch of another size the
        # others would be rounded differently.
        for kept, computed in zip(scores, models.scores(batch.pixels), strict=True):
            kept[start + good] = computed[good]
        status[start : len(names)][~batch.is_good] = UNREADABLE
        errors += batch.errors
        n_cropped += len(batch.cropped)
        n_small += len(batch.small)
        count(len(batch.names))
    if i_chunk == 0 and len(errors) == n_images and not (store.status() == ENCODED).any():
        check_any_is_good(0, errors)  # a disk of other files must not cost a day
    for model, kept in zip(models, scores, strict=True):
        store.write_scores(i_chunk, model.subject, kept)
        if store.recipe.dtype != "scores":
            lh, rh = _respond(model, kept)
            store.write_responses(i_chunk, model.subject, lh, rh)
    store.finish_chunk(i_chunk, names, status)
    unreadable = tuple(str(error).splitlines()[0] for error in errors)
    return EncodedChunk(i_chunk, n_images, unreadable, n_cropped, n_small)


def _respond(model: EncodingModel, scores: Float32s) -> HemisphereArrays:
    """Compute a chunk's responses, in the batches that its scores were computed in."""
    # Written once in order before they are filled in blocks: see `berg.encoding.respond`.
    lh, rh = (
        np.full((len(scores), len(vertices)), np.nan, np.float32)
        for vertices in (model.lh_vertices, model.rh_vertices)
    )
    with torch.inference_mode(), full_precision():
        for start in range(0, len(scores), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            model.read_out(torch.from_numpy(scores[part]).to(model.device), lh[part], rh[part])
    return lh, rh


_lock = threading.Lock()
_loaded: tuple[Job, Store, EncodingModels] | None = None


def _loaded_for(job: Job) -> tuple[Store, EncodingModels]:
    """Return a worker's store and models, loaded for its first chunk of a run."""
    global _loaded
    with _lock:
        if _loaded is None or _loaded[0] != job:
            _loaded = None  # before others are loaded: both at once may not fit
            store = _open_on_worker(job.store_path)
            store.check_recipe(job.recipe)
            _loaded = job, store, load_models(job.recipe, job.berg_dir, job.device)
        return _loaded[1:]


def _open_on_worker(path: Path) -> Store:
    try:
        return Store.open(path)
    except StoreNotFoundError as err:
        raise StoreNotFoundError(
            f"a worker does not see the store {path}",
            got=str(err).partition("\n")[0],
            accepted="a store on a file system that all machines share",
            do="give paths that all machines see under the same names",
        ) from err


@contextmanager
def _short_of_memory(device: object) -> Iterator[None]:
    """Say what helps where PyTorch or NumPy find no memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as err:
        # Of a GPU's memory PyTorch has an error; of the machine's, a text.
        short = isinstance(err, MemoryError | torch.OutOfMemoryError)
        if not short and "can't allocate memory" not in str(err):
            raise
        raise ResourceError(
            f"there is too little memory on the device {device}",
            got=str(err).partition("\n")[0] or type(err).__name__,
            do="use another --device, fewer --workers, fewer subjects at a time, a smaller --chunk "
            "or a --roi; what is done is kept",
        ) from err
