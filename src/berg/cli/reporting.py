"""The command that writes one page to look at: report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from berg.cli.group import SubjectsCommand, berg_dir_option, main, optional_subjects_option


@main.command(cls=SubjectsCommand)
@click.argument("what", metavar="RESPONSES.npz|STORE.zarr|MODEL")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page, one HTML file. A file of this name is replaced.",
)
@click.option(
    "--images",
    "n_images",
    type=click.IntRange(1, 100),
    help="How many images to show, from the first: 10 by default.",
)
@click.option(
    "--image",
    "names",
    multiple=True,
    metavar="NAME",
    help="An image to show, by its name or its place from 0; repeat it for several.",
)
@click.option(
    "--images-from",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="SOURCE",
    help="Where the photographs are: folder, list, array or shard as for `encode`. By default "
    "their names are followed from the folder of the responses, and from here.",
)
@optional_subjects_option
@berg_dir_option
def report(
    what: str,
    out: Path,
    n_images: int | None,
    names: Sequence[str],
    images_from: Sequence[Path],
    subjects: Sequence[int],
    berg_dir: Path | None,
) -> None:
    """Write one page to look at, which opens offline in any browser.

    Of responses: photographs beside their cortical maps, a brain that turns, means by region. Of a
    model: its card, its accuracy by region and on the brain, its training.
    """
    from berg.reports import write_report
    from berg.resources import show_bytes

    if n_images is not None and names:
        raise click.UsageError("--images and --image exclude each other: leave one out")
    options: dict[str, Any] = {}
    if n_images is not None:
        options["images"] = n_images
    if names:
        options["images"] = list(names)
    path = write_report(
        what,
        out,
        images_from=images_from,
        subject=subjects or None,
        berg_dir=berg_dir,
        **options,
    )
    click.echo(
        f"{click.format_filename(path)}: {show_bytes(path.stat().st_size)}; open it in a browser"
    )
