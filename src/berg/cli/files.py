"""Commands about files of models: download, verify."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import click

from berg.catalog import DEFAULT_MODEL_ID
from berg.cli.group import (
    SubjectsCommand,
    ask,
    berg_dir_option,
    main,
    quiet_option,
    subjects_option,
)

_tell = partial(click.echo, err=True)
_COLOURS = {"ok": "green", "damaged": "red", "missing": "red", "no record": "yellow"}


@main.command(cls=SubjectsCommand)
@click.argument("model_id", default=DEFAULT_MODEL_ID)
@subjects_option
@click.option("--yes", is_flag=True, help="Agree to the terms, without being asked.")
@click.option("--dry-run", is_flag=True, help="Show what would be fetched, and stop.")
@click.option(
    "--force", is_flag=True, help="Replace files that are there and are not the bucket's."
)
@click.option(
    "--endpoint-url",
    metavar="URL",
    help="Mirror that speaks S3. Default: $BERG_ENDPOINT_URL, else AWS.",
)
@quiet_option
@berg_dir_option
def download(
    model_id: str,
    subjects: Sequence[int],
    yes: bool,
    dry_run: bool,
    force: bool,
    endpoint_url: str | None,
    quiet: bool,
    berg_dir: Path | None,
) -> None:
    """Download weights, metadata and pictures of accuracy from the public bucket.

    No account is needed. Interrupted and started again, it goes on from where it was.
    """
    from berg.downloads import carry_out, plan_download

    plan = plan_download(
        model_id,
        subjects,
        berg_dir,
        endpoint_url=endpoint_url,
        force=force,
        show_progress=not quiet,
    )
    for line in plan.lines():
        click.echo(line)
    plan.check()
    if dry_run:
        return
    if plan.to_fetch and not yes:
        ask("Agree, and fetch?")
    carry_out(plan, show_progress=not quiet, tell=_tell)
    kept = sum(file.differs for file in plan.planned) if not force else 0
    but = f", but for {kept} that are kept" if kept else ""
    click.echo(f"All {len(plan.planned)} files are there, as the bucket has them{but}.")


@main.command()
@quiet_option
@berg_dir_option
def verify(quiet: bool, berg_dir: Path | None) -> None:
    """Check the files of a berg_dir against what was recorded when they were downloaded.

    Ends with status 1 if one is damaged or missing.
    """
    from berg.downloads import verify as verify_files
    from berg.layout import as_berg_dir

    root = as_berg_dir(berg_dir)
    found = verify_files(root, show_progress=not quiet)
    if not found:
        click.echo(f"{root} has no files of models")
        return
    for folder, files in groupby(found, key=attrgetter("folder")):
        click.echo(folder)
        for each in files:
            status = click.style(f"{each.status:<10}", fg=_COLOURS[each.status])
            detail = f"  ({each.detail})" if each.detail else ""
            click.echo(f"  {status}{each.path.relative_to(folder)}{detail}")
    faults = [each for each in found if each.is_fault]
    n_ok = sum(each.status == "ok" for each in found)
    click.echo(
        f"{len(found)} files: {n_ok} ok, {len(faults)} damaged or missing, "
        f"{len(found) - n_ok - len(faults)} without a record"
    )
    if faults:
        click.echo("`berg download --subject N --force` fetches them again", err=True)
        raise click.exceptions.Exit(1)
