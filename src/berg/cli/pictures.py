"""The command that draws how accurate models are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from berg.catalog import DEFAULT_MODEL_ID
from berg.cli.group import SubjectsCommand, berg_dir_option, main, subjects_option


@main.command(cls=SubjectsCommand)
@click.argument("model_id", default=DEFAULT_MODEL_ID)
@subjects_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("accuracy"),
    show_default=True,
    help="Folder for the figures.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=("png", "svg"),
    show_default=True,
    metavar="FORMAT ...",
    help="png, svg or pdf, or several of them.",
)
@click.option(
    "--rois",
    multiple=True,
    metavar="NAME ...",
    help="Regions to outline, or NSD's collections of them, as streams; none for no region. "
    "Default: prf-visualrois and the floc- collections.",
)
@click.option(
    "--mesh",
    default="fsaverage5",
    show_default=True,
    help="Surface to draw on: fsaverage5, subdivided, or fsaverage with its own finer folds.",
)
@click.option(
    "--mesh-dir",
    type=click.Path(path_type=Path),
    help="Folder with fsaverage's own surfaces. Default: $BERG_FSAVERAGE_DIR, else FreeSurfer's or "
    "nilearn's, else a download by nilearn.",
)
@click.option("--overwrite", is_flag=True, help="Replace figures that are there already.")
@berg_dir_option
def plot(
    model_id: str,
    subjects: Sequence[int],
    out: Path,
    formats: Sequence[str],
    rois: Sequence[str],
    mesh: str,
    mesh_dir: Path | None,
    overwrite: bool,
    berg_dir: Path | None,
) -> None:
    """Draw how accurate a model is: on the cortex, and by region.

    For each subject, and the average of several: r², noise ceiling and explained variance, on the
    inflated and the flat cortex, for NSD-core and NSD-synthetic.
    """
    from berg.installed import find_subject
    from berg.layout import as_berg_dir
    from berg.plotting import DEFAULT_ROIS, save_accuracy_figures

    folder = as_berg_dir(berg_dir)
    metadata = {
        subject: find_subject(folder, model_id, subject).load_metadata() for subject in subjects
    }
    save_accuracy_figures(
        metadata,
        out,
        model=model_id,
        formats=formats,
        rois=[name for name in rois or DEFAULT_ROIS if name != "none"],
        mesh=mesh,
        mesh_dir=mesh_dir,
        overwrite=overwrite,
        tell=click.echo,
    )
