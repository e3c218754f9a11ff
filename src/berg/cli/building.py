"""Commands that build models: train, test, and a simulated dataset to try them on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from berg.catalog import DEFAULT_MODEL_ID
from berg.cli.group import (
    SubjectsCommand,
    berg_dir_option,
    device_option,
    main,
    quiet_option,
    subjects_option,
)

if TYPE_CHECKING:
    from berg.roi_accuracy import RegionAccuracy

_nsd_dir_option = click.option(
    "--nsd-dir",
    type=click.Path(path_type=Path),
    envvar="NSD_DIR",
    required=True,
    help="Your copy of the Natural Scenes Dataset (or $NSD_DIR).",
)
_DATASETS = ("nsdcore", "nsdsynthetic")
_N_SESSIONS = click.IntRange(min=1)
_tell = partial(click.echo, err=True)


@main.command(cls=SubjectsCommand)
@click.argument("model_id", default=DEFAULT_MODEL_ID)
@subjects_option
@_nsd_dir_option
@click.option("--sessions", type=_N_SESSIONS, help="Use only the first sessions.")
@click.option("--ridge", is_flag=True, help="One ridge penalty a vertex, by the validation images.")
@device_option
@click.option(
    "--overwrite", is_flag=True, help="Replace a model that is there already, or was downloaded."
)
@click.option(
    "--workers",
    "n_workers",
    type=click.IntRange(min=1),
    help="Processes to start on this machine: subjects at the same time.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers train.")
@quiet_option
@berg_dir_option
def train(
    model_id: str,
    subjects: Sequence[int],
    nsd_dir: Path,
    sessions: int | None,
    ridge: bool,
    device: str,
    overwrite: bool,
    n_workers: int | None,
    scheduler: str | None,
    quiet: bool,
    berg_dir: Path | None,
) -> None:
    """Train encoding models on measured responses.

    Interrupted and started again, it goes on from the last finished stage.
    """
    from berg import training

    if n_workers is None and scheduler is None:
        run = partial(training.train, show_progress=not quiet)
    else:
        run = partial(training.train_in_parallel, n_workers=n_workers, scheduler=scheduler)
    trained = run(
        nsd_dir,
        subjects,
        model_id=model_id,
        berg_dir=berg_dir,
        n_sessions=sessions,
        ridge=ridge,
        device=device,
        overwrite=overwrite,
        tell=_tell,
    )
    for done in trained:
        if done.seconds:
            _show_seconds(f"subject {done.subject} is trained", done.seconds)
        for path in (done.weights_npy, done.metadata_npy, *done.predictions.values()):
            click.echo(path)


@main.command(cls=SubjectsCommand)
@click.argument("model_id", default=DEFAULT_MODEL_ID)
@subjects_option
@_nsd_dir_option
@click.option(
    "--sessions",
    type=_N_SESSIONS,
    help="Take test images from the first sessions only; known for models trained here.",
)
@device_option
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the accuracy in metadata that came with a downloaded model.",
)
@quiet_option
@berg_dir_option
def test(
    model_id: str,
    subjects: Sequence[int],
    nsd_dir: Path,
    sessions: int | None,
    device: str,
    overwrite: bool,
    quiet: bool,
    berg_dir: Path | None,
) -> None:
    """Test encoding models, in and out of distribution; accuracy goes into the metadata."""
    from berg.metadata import load_metadata
    from berg.roi_accuracy import summarise_by_roi
    from berg.training import evaluate

    tested = evaluate(
        nsd_dir,
        subjects,
        model_id=model_id,
        berg_dir=berg_dir,
        n_sessions=sessions,
        device=device,
        overwrite=overwrite,
        show_progress=not quiet,
        tell=_tell,
    )
    for done in tested:
        _show_seconds(f"subject {done.subject} is tested", done.seconds)
        _show_regions(summarise_by_roi(load_metadata(done.metadata_npy)))
        for dataset in _DATASETS:
            percent = done.median_explained_variance(dataset)
            click.echo(
                f"subject {done.subject}, {dataset}: median explained variance {percent:.1f} % "
                "of the noise ceiling, where that is at least 0.1"
            )
        click.echo(done.metadata_npy)


@main.group()
def nsd() -> None:
    """Work with the Natural Scenes Dataset."""


@nsd.command(cls=SubjectsCommand)
@click.argument("directory", type=click.Path(path_type=Path))
@subjects_option
@click.option("--sessions", type=_N_SESSIONS, default=4, show_default=True, help="NSD has 40.")
@click.option("--train-images", type=int, default=800, show_default=True)
@click.option("--test-images", type=int, default=120, show_default=True)
@click.option("--val-images", type=int, default=60, show_default=True)
@click.option(
    "--level",
    type=click.IntRange(3, 7),
    default=7,
    show_default=True,
    help="Resolution of the brain: 7 is fsaverage; 4 has 2,562 vertices and smaller images.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@quiet_option
def simulate(
    directory: Path,
    subjects: Sequence[int],
    sessions: int,
    train_images: int,
    test_images: int,
    val_images: int,
    level: int,
    seed: int,
    quiet: bool,
) -> None:
    """Write a simulated dataset into DIRECTORY, in the files and formats of the real one.

    Brains and images are made up, with a known ground truth beside them.
    """
    from berg.simulation.nsd_tree import simulate_nsd

    simulate_nsd(
        directory,
        subjects,
        n_sessions=sessions,
        n_train=train_images,
        n_test=test_images,
        n_val=val_images,
        level=level,
        seed=seed,
        show_progress=not quiet,
    )
    click.echo(directory)


def _show_regions(rows: Sequence[RegionAccuracy]) -> None:
    """Print how well each region is predicted, in and out of distribution."""
    click.echo(f"{'':<16}" + "".join(f"{dataset:>20}" for dataset in _DATASETS))
    click.echo(f"{'region':<16}" + "".join(f"{'vertices':>12}{'median':>8}" for _ in _DATASETS))
    for row in rows:
        cells = (
            f"{row.n_scored[dataset]:>12}{_percent(row.explained_variance_percent[dataset]):>8}"
            for dataset in _DATASETS
        )
        click.echo(f"{row.roi:<16}" + "".join(cells))


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f} %"


def _show_seconds(title: str, seconds: Mapping[str, float]) -> None:
    click.echo(f"{title}: {sum(seconds.values()):.1f} s", err=True)
    for name, taken in seconds.items():
        click.echo(f"  {name:<22}{taken:8.1f} s", err=True)
