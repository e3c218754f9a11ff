"""Commands that use models: demo, encode, list, describe, metadata, convert."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from berg.catalog import DEFAULT_MODEL_ID
from berg.cli.group import (
    SubjectsCommand,
    berg_dir_option,
    device_option,
    main,
    quiet_option,
    subject_option,
    subjects_option,
)


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for the picture and the responses.",
)
def demo(out: Path) -> None:
    """Encode photographs with a simulated subject, and draw the cortex."""
    from berg.demo import run_demo

    run_demo(out, echo=click.echo)


@main.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "model_id", default=DEFAULT_MODEL_ID, show_default=True)
@subject_option
@click.option(
    "--roi", "rois", multiple=True, help="Region of interest; repeat it for a union of several."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("responses.npz"),
    show_default=True,
    help="Where to save: responses, vertices, names and provenance, as .npz.",
)
@device_option
@click.option(
    "--skip-bad", is_flag=True, help="Go on past unreadable images; list them at the end."
)
@quiet_option
@berg_dir_option
def encode(
    sources: Sequence[Path],
    model_id: str,
    subject: int,
    rois: Sequence[str],
    out: Path,
    device: str,
    skip_bad: bool,
    quiet: bool,
    berg_dir: Path | None,
) -> None:
    """Encode image files, folders of them, and .npy arrays.

    Images that are not square are cut to their central square.
    """
    from berg.model import BATCH_SIZE
    from berg.photos import PreparedPhotos, find_photos
    from berg.responses import SavedResponses, check_output_path, save_responses
    from berg.stimuli import NETWORK_SIDE
    from berg.toolkit import BERG

    check_output_path(out)
    photos = find_photos(sources)
    selection = {"roi": list(rois)} if rois else None
    model = BERG(berg_dir).get_encoding_model(model_id, device, selection, subject=subject)
    if model.is_simulated:
        click.secho(f"Subject {subject} is SIMULATED: not measured in a brain.", err=True)
    provenance = model.provenance()  # of the files as they are now
    prepared = PreparedPhotos(photos, BATCH_SIZE, skip_bad, model.resize_device)
    lh, rh = model.encode_prepared(prepared, len(photos), show_progress=not quiet)
    save_responses(
        out,
        SavedResponses(
            lh,
            rh,
            model.lh_vertices,
            model.rh_vertices,
            tuple(prepared.names),
            provenance,
        ),
    )
    for names, what_was_done in (
        (prepared.cropped, "not square, cut to the central square"),
        (prepared.small, f"smaller than {NETWORK_SIDE}×{NETWORK_SIDE} pixels, enlarged"),
    ):
        if names:
            click.echo(f"{len(names)} of {len(lh)} images: {what_was_done}")
    click.echo(
        f"{out}: images {len(lh)}, vertices {lh.shape[1]} left and {rh.shape[1]} right, z units"
    )
    if prepared.bad:
        click.echo(f"left out, unreadable: {len(prepared.bad)} of {len(photos)} images", err=True)
        for error in prepared.bad:
            click.echo(f"- {str(error).splitlines()[0]}", err=True)


@main.command(name="list")
def list_models() -> None:
    """List the models."""
    from berg.catalog import load_cards

    for card in load_cards().values():
        subjects = f"{card.subjects[0]}-{card.subjects[-1]}"
        click.echo(
            f"{card.model_id}  {card.modality}, {card.training_dataset}, subjects {subjects}"
        )


@main.command()
@click.argument("model_id", default=DEFAULT_MODEL_ID)
def describe(model_id: str) -> None:
    """Print the card of a model."""
    from berg.catalog import find_card

    click.echo(find_card(model_id))


@main.command()
@click.argument("model_id", default=DEFAULT_MODEL_ID)
@subject_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON: shapes, medians, ROI sizes.")
@berg_dir_option
def metadata(model_id: str, subject: int, as_json: bool, berg_dir: Path | None) -> None:
    """Summarise the metadata of a subject."""
    from berg.metadata import summarise_metadata
    from berg.toolkit import BERG

    summary = summarise_metadata(BERG(berg_dir).get_model_metadata(model_id, subject))
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    for section, entries in summary.items():
        click.secho(section, bold=True)
        for name, entry in entries.items():
            click.echo(f"  {name:<36}{entry}")


@main.command(cls=SubjectsCommand)
@click.argument("model_id", default=DEFAULT_MODEL_ID)
@subjects_option
@click.option("--force", is_flag=True, help="Convert again where the file is there already.")
@berg_dir_option
def convert(model_id: str, subjects: Sequence[int], force: bool, berg_dir: Path | None) -> None:
    """Write weights in the pickle-free form that loads faster (.safetensors)."""
    from berg.toolkit import BERG

    for subject in subjects:
        path, written = BERG(berg_dir).convert_weights(model_id, subject=subject, force=force)
        click.echo(f"{path}{'' if written else ' is there already (--force converts again)'}")
