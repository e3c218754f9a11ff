"""Commands that encode images, `encode`, and say what became of them, `store`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from berg.catalog import DEFAULT_MODEL_ID
from berg.cli.group import (
    SubjectsCommand,
    berg_dir_option,
    device_option,
    importing,
    main,
    quiet_option,
    subjects_option,
)

if TYPE_CHECKING:
    import torch

    from berg.sources import Batch

_DEFAULT_OUT = Path("responses.npz")
_MOST_LISTED = 20  # unreadable images of a long run; `berg store` lists all
_tell = partial(click.echo, err=True)


@main.command(cls=SubjectsCommand)
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "model_id", default=DEFAULT_MODEL_ID, show_default=True)
@subjects_option
@click.option(
    "--roi", "rois", multiple=True, help="Region of interest; repeat it for a union of several."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    show_default=str(_DEFAULT_OUT),
    help="Where to save: responses, vertices, names and provenance, as .npz.",
)
@click.option(
    "--store",
    "store_path",
    type=click.Path(path_type=Path),
    help="Folder for a long run, or for several subjects, in place of --out: DIR.zarr. The same "
    "command goes on with one that is not complete.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    help="Store responses too. By default scores alone, 1 KB an image, from which all follow.",
)
@click.option(
    "--chunk",
    "chunk_images",
    type=click.IntRange(min=1),
    help="Images that are stored together: 1024, with responses 128.",
)
@click.option(
    "--workers", "n_workers", type=click.IntRange(min=1), help="Processes to start on this machine."
)
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers compute.")
@click.option("--dry-run", is_flag=True, help="Say what a store will take, and stop.")
@device_option
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    help="Of the network: float32, or bfloat16, which is less exact.",
)
@click.option(
    "--skip-bad", is_flag=True, help="Go on past unreadable images; list them at the end."
)
@quiet_option
@berg_dir_option
def encode(
    sources: Sequence[Path],
    model_id: str,
    subjects: Sequence[int],
    rois: Sequence[str],
    out: Path | None,
    store_path: Path | None,
    dtype: str | None,
    chunk_images: int | None,
    n_workers: int | None,
    scheduler: str | None,
    dry_run: bool,
    device: str,
    precision: str,
    skip_bad: bool,
    quiet: bool,
    berg_dir: Path | None,
) -> None:
    """Encode image files, folders and lists (.txt) of them, .npy and HDF5 arrays, .tar shards.

    Images that are not square are cut to their central square. A dataset in an HDF5 file is
    FILE:DATASET. Name sources before the subjects, or write one that is a number as ./5.
    """
    shared: dict[str, Any] = {
        "model_id": model_id,
        "rois": rois,
        "device": device,
        "precision": precision,
        "skip_bad": skip_bad,
        "berg_dir": berg_dir,
        "show_progress": not quiet,
    }
    if store_path is None:
        needing = {
            f"several subjects ({', '.join(map(str, subjects))})": len(subjects) > 1,
            "--dtype": dtype is not None,
            "--chunk": chunk_images is not None,
            "--workers": n_workers is not None,
            "--scheduler": scheduler is not None,
            "--dry-run": dry_run,
        }
        for what, is_given in needing.items():
            if is_given:
                raise click.UsageError(f"{what}: only with --store DIR.zarr")
        _encode_to_npz(sources, subjects[0], out or _DEFAULT_OUT, **shared)
        return
    for first, second, both in (
        ("--store", "--out", out is not None),
        ("--workers", "--scheduler", n_workers is not None and scheduler is not None),
    ):
        if both:
            raise click.UsageError(f"{first} and {second} exclude each other: leave one out")
    _encode_to_store(
        sources,
        subjects,
        store_path,
        dtype=dtype or "scores",
        chunk_images=chunk_images,
        n_workers=n_workers,
        scheduler=scheduler,
        dry_run=dry_run,
        **shared,
    )


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
def store(path: Path) -> None:
    """Say what is in a store, how much of it is done, and which images could not be read."""
    from berg.resources import show_bytes
    from berg.sources import show_name
    from berg.stores.reading import describe_store

    summary = describe_store(path)
    recipe = summary.recipe
    simulated = ", SIMULATED" if summary.simulated else ""
    for title, value in (
        ("model", recipe.model_id),
        ("subjects", ", ".join(map(str, recipe.subjects)) + simulated),
        ("regions", ", ".join(recipe.rois) or "the whole surface"),
        ("holds", _describe_content(recipe.dtype)),
        ("images", f"{summary.n_done_images:,} of {recipe.n_images:,} done"),
        ("chunks", f"{summary.n_done_chunks:,} of {recipe.n_chunks:,} done"),
        ("on disk", show_bytes(summary.n_bytes)),
        ("made with", f"berg {recipe.berg_version}, {recipe.precision}"),
        ("unreadable", f"{len(summary.unreadable):,} image{'s'[: len(summary.unreadable) != 1]}"),
    ):
        click.echo(f"{title:<12}{value}")
    for name in summary.unreadable:
        click.echo(f"- {show_name(name)}")


def _encode_to_npz(
    sources: Sequence[Path],
    subject: int,
    out: Path,
    *,
    model_id: str,
    rois: Sequence[str],
    device: str,
    precision: str,
    skip_bad: bool,
    berg_dir: Path | None,
    show_progress: bool,
) -> None:
    """Encode all images at once into one file."""
    from berg.network_file import begin_reading

    begin_reading()  # while PyTorch is imported
    with importing():
        from berg.encoding import BATCH_SIZE
        from berg.responses import SavedResponses, check_output_path, save_responses
        from berg.sources import check_any_is_good, find_images, read_batches
        from berg.toolkit import BERG

    check_output_path(out)
    images = find_images(sources)
    selection = {"roi": list(rois)} if rois else None
    model = BERG(berg_dir).get_encoding_model(
        model_id, device, selection, subject=subject, precision=precision
    )
    if model.is_simulated:
        click.secho(f"Subject {subject} is SIMULATED: not measured in a brain.", err=True)
    provenance = model.provenance()  # of the files as they are now
    groups = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
    seen: list[Batch] = []
    batches = read_batches(groups, device=model.resize_device, skip_bad=skip_bad)
    lh, rh = model.encode_prepared(_good_pixels(batches, seen), len(images), show_progress)
    names = tuple(
        name
        for batch in seen
        for name, is_good in zip(batch.names, batch.is_good, strict=True)
        if is_good
    )
    errors = [str(error).splitlines()[0] for batch in seen for error in batch.errors]
    check_any_is_good(len(names), [error for batch in seen for error in batch.errors])
    save_responses(
        out, SavedResponses(lh, rh, model.lh_vertices, model.rh_vertices, names, provenance)
    )
    _show_changed(
        len(lh),
        n_cropped=sum(len(batch.cropped) for batch in seen),
        n_small=sum(len(batch.small) for batch in seen),
    )
    click.echo(
        f"{out}: images {len(lh)}, vertices {lh.shape[1]} left and {rh.shape[1]} right, z units"
    )
    if errors:
        _show_unreadable("left out, unreadable", errors, len(images), len(errors))


def _good_pixels(batches: Iterator[Batch], seen: list[Batch]) -> Iterator[torch.Tensor]:
    """Give the good images of batches, and note all but the pixels."""
    from dataclasses import replace

    import torch

    for batch in batches:
        seen.append(replace(batch, pixels=batch.pixels[:0]))
        if batch.is_good.any():
            yield batch.pixels[torch.from_numpy(batch.is_good)]


def _encode_to_store(
    sources: Sequence[Path], subjects: Sequence[int], path: Path, *, dtype: str, **options: Any
) -> None:
    """Encode into a store, and say what is in it."""
    with importing():
        from berg.stores.running import encode_to_store

    run = encode_to_store(sources, path, subjects, dtype=dtype, tell=_tell, **options)
    if options["dry_run"]:
        return
    _show_changed(run.n_encoded, n_cropped=run.n_cropped, n_small=run.n_small)
    listed = sorted(set(subjects))
    click.echo(
        f"{path}: images {run.plan.n_images}, subjects {', '.join(map(str, listed))}, "
        f"{_describe_content(dtype)}"
    )
    which = f", subject={listed[0]}" if len(listed) > 1 else ""
    if options["berg_dir"]:
        which += f", berg_dir={str(options['berg_dir'])!r}"
    _tell(f"to use it: berg.open_store({str(path)!r}{which})")
    if run.unreadable:
        _show_unreadable("marked, unreadable", run.unreadable, run.n_encoded, _MOST_LISTED)
        if len(run.unreadable) > _MOST_LISTED:
            _tell(f"`berg store {path}` lists all")


def _describe_content(dtype: str) -> str:
    return "scores" if dtype == "scores" else f"scores, and responses as {dtype} in z units"


def _show_changed(n_images: int, *, n_cropped: int, n_small: int) -> None:
    from berg.stimuli import NETWORK_SIDE

    for count, what_was_done in (
        (n_cropped, "not square, cut to the central square"),
        (n_small, f"smaller than {NETWORK_SIDE}×{NETWORK_SIDE} pixels, enlarged"),
    ):
        if count:
            click.echo(f"{count} of {n_images} images: {what_was_done}")


def _show_unreadable(title: str, lines: Sequence[str], n_images: int, n_listed: int) -> None:
    _tell(f"{title}: {len(lines)} of {n_images} images")
    for line in lines[:n_listed]:
        _tell(f"- {line}")
