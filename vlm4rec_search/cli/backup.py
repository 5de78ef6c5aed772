"""`vlm4rec backup` and `vlm4rec restore`: one file with what cannot be made again."""

from pathlib import Path

import click

from vlm4rec_search.cli.output import echo_json, json_option

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@_file
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
def backup(file: Path, force: bool, as_json: bool) -> None:
    """Write FILE, a zip with what cannot be made again: paid captions and vectors with the ledger of model calls,
    fetched photos, the records of releases, checks and evaluations, what the service served, the events that came back,
    judgments, captions that people wrote, and the list of forgotten shoppers.

    Runs and plans may go on meanwhile. The data folder, the project and the warehouse are not in it.

    Example: vlm4rec backup shop-$(date +%F).zip
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.backup import write_backup

    sizes = write_backup(settings(), file, force)
    if as_json:
        echo_json({"path": file, "bytes": file.stat().st_size, "files": sizes})
        return
    photos = [name for name in sizes if name.startswith("photos/")]
    for name, size in sizes.items():
        if name not in photos:
            click.echo(f"  {name}: {size:,} bytes")
    if photos:
        click.echo(f"  photos: {len(photos):,} files, {sum(sizes[name] for name in photos):,} bytes")
    click.echo(f"{file}: {file.stat().st_size:,} bytes. Put it on another disk; `vlm4rec restore` reads it")


@click.command()
@_file
@click.option("--force", is_flag=True, help="Replace files that exist. Stop other commands first.")
@json_option
def restore(file: Path, force: bool, as_json: bool) -> None:
    """Put the files of a backup where the settings have them.

    Nothing is written if a file exists, unless --force replaces it. A list of forgotten shoppers that is there gets
    those of the backup, and `vlm4rec forget` removes their rows from what was restored. Then `sqlmesh plan` and
    `vlm4rec index` make the tables and the release again, without a new model call.

    Example: vlm4rec restore shop-2026-11-28.zip
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.forgotten import load_forgotten
    from vlm4rec_search.pipeline.backup import restore_backup

    paths = restore_backup(settings(), file, force)
    if as_json:
        echo_json({"files": paths})
        return
    for name, path in paths.items():
        if not name.startswith("photos/"):
            click.echo(f"  {path}: restored")
    forget = "vlm4rec forget && " if load_forgotten(settings().forgotten).hashes else ""
    click.echo(f"Restored {len(paths):,} files of {file}. Next: {forget}sqlmesh plan && vlm4rec index")
    if "caption_edits.csv" in paths and not settings().caption_edits:
        click.echo(f"To use the captions that people wrote: export VLM4REC_CAPTION_EDITS={paths['caption_edits.csv']}")
