"""Commands about disk space: `status`, what is there, and `clean`, which frees what can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from berg.cli.group import ask, berg_dir_option, main

if TYPE_CHECKING:
    from berg.inventory import Freeable, Inventory, SubjectOnDisk


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, sizes in bytes.")
@berg_dir_option
def status(as_json: bool, berg_dir: Path | None) -> None:
    """Say which models are there, in which form, and what takes space."""
    from berg.inventory import take_inventory

    found = take_inventory(berg_dir)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, default=str))
    else:
        _show(found)


@main.command()
@click.option("--training", is_flag=True, help="Also what training prepared, to be made again.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@berg_dir_option
def clean(training: bool, dry_run: bool, yes: bool, berg_dir: Path | None) -> None:
    """Free the space of caches and of what stopped processes left.

    Weights, metadata, predictions, accuracy plots and stores are never deleted.
    """
    from berg.inventory import free, take_inventory
    from berg.resources import show_bytes

    found = take_inventory(berg_dir)
    _show_unreadable(found)
    freeable = [*found.caches, *(found.training if training else ())]
    if not freeable:
        click.echo("There is nothing to free.")
        return
    _show_freeable(freeable)
    if dry_run:
        return
    if not yes:
        ask("Delete these?")
    freed = 0
    for each in freeable:
        if free(each):
            freed += each.bytes
        else:
            click.echo(f"kept, a process is at work on it: {each.paths[0]}", err=True)
    click.echo(f"freed {show_bytes(freed)}")


def _show(found: Inventory) -> None:
    from berg.resources import free_disk_bytes, show_bytes

    there = "" if found.berg_dir.is_dir() else "  (does not exist)"
    click.echo(f"{'berg_dir':<12}{found.berg_dir}{there}")
    click.echo(f"{'cache':<12}{found.cache_dir}")
    click.echo(f"{'free space':<12}{show_bytes(free_disk_bytes(found.berg_dir))}")
    for model_id in dict.fromkeys(each.model_id for each in found.subjects) | found.plots:
        click.secho(f"\n{model_id}", bold=True)
        click.echo(f"  {'subject':<10}{'weights':<40}{'metadata':<12}predictions")
        for each in found.subjects:
            if each.model_id == model_id:
                click.echo(f"  {_describe(each)}")
        if model_id in found.plots:
            n_plots, size = found.plots[model_id]
            click.echo(f"  accuracy plots: {n_plots} files, {show_bytes(size)}")
    if not found.subjects and not found.unreadable:
        click.echo("\nno model is there: `berg download` fetches one, `berg demo` simulates one")
    _show_unreadable(found)
    for title, freeable in (
        ("can be freed by `berg clean`", found.caches),
        ("and by `berg clean --training`", found.training),
    ):
        if freeable:
            click.secho(f"\n{title}", bold=True)
            _show_freeable(freeable)


def _show_unreadable(found: Inventory) -> None:
    for folder in found.unreadable:
        click.secho(f"not readable: {folder}", err=True, fg="yellow")


def _describe(subject: SubjectOnDisk) -> str:
    from berg.resources import show_bytes

    sizes = {form: show_bytes(size) for form, size in subject.bytes.items()}
    weights = [f"{form} {sizes[form]}" for form in ("npy", "safetensors") if form in sizes]
    metadata, predictions = (sizes.get(form, "-") for form in ("metadata", "predictions"))
    simulated = "SIMULATED" if subject.simulated else ""
    return (
        f"{subject.subject:<10}{', '.join(weights) or '-':<40}{metadata:<12}{predictions:<12}"
        f"{simulated}"
    ).rstrip()


def _show_freeable(freeable: Sequence[Freeable]) -> None:
    from berg.resources import show_bytes

    for each in freeable:
        click.echo(f"  {show_bytes(each.bytes):>10}  {each.what:<36}{each.paths[0]}")
    if len(freeable) > 1:
        click.echo(f"  {show_bytes(sum(each.bytes for each in freeable)):>10}  in all")
