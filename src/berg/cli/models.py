"""Commands about models: demo, list, describe, cite, metadata, convert."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from berg.catalog import DEFAULT_MODEL_ID
from berg.cli.group import (
    SubjectsCommand,
    berg_dir_option,
    main,
    subject_option,
    subjects_option,
)


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for the page, the picture, the photographs and the responses.",
)
def demo(out: Path) -> None:
    """Encode photographs with a simulated subject, and write a page to look at."""
    from berg.demo import run_demo

    run_demo(out, echo=click.echo)


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
@click.option("--bibtex", is_flag=True, help="Print entries for BibTeX.")
def cite(model_id: str, bibtex: bool) -> None:
    """Print what to cite when a model is used."""
    from berg.catalog import find_card
    from berg.citing import as_bibtex, as_text, list_citations

    for citation in list_citations(find_card(model_id)):
        if bibtex:
            click.echo(f"% {citation['for']}\n{as_bibtex(citation)}\n")
        else:
            click.secho(f"{citation['for']}:", bold=True)
            click.echo(f"  {as_text(citation)}\n")


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
