"""Prints what an import would do."""

from pathlib import Path

import click

from vlm4rec_search.cli.output import echo_json, printable
from vlm4rec_search.common.settings import settings
from vlm4rec_search.datasets.importers.formats import ImportFormat
from vlm4rec_search.datasets.importers.generic import (
    ImportOptions,
    contract_in_force,
    unread_warnings,
    values_in_force,
)
from vlm4rec_search.datasets.importers.write import check_folders, kept_contract
from vlm4rec_search.pipeline.import_preview import TablePreview, preview_import

_WIDTH = 60  # characters of a value

_DECLARED = {
    "may mean thousands or decimals": 'decimal: ","',
    "cannot be told apart": "time_form: dmy",
    "may be a date": "time_form: dmy",
    "has several meanings": 'time_zones: {EST: "-05:00"}',
    "neither true nor false": "unavailable: [the word]",
    "is above its scale": "rating_scale: 10",
}
"""What a person can declare, by the reason for which a value is refused without it."""


def print_preview(source: Path, to: Path, options: ImportOptions, form: ImportFormat, as_json: bool) -> None:
    """Print what an import would do, and write nothing.

    Raises:
        UsageError: the import would fail.
    """
    values, warnings = values_in_force(source, to, form)
    contract = contract_in_force(source, to, values)
    previews = preview_import(source, options, form, values, settings(), contract)
    tables = [preview.table for preview in previews]
    check_folders(source, to, set(tables))
    warnings = [*unread_warnings(source, options, form), *warnings, *kept_contract(to, tables)]
    if as_json:
        echo_json({"to": to, "tables": previews, "warnings": warnings})
        return
    for preview in previews:
        _echo(preview)
    for warning in warnings:
        click.echo(f"warning: {printable(warning)}")
    paths = ", ".join(str(to / preview.writes) for preview in previews)
    click.echo(f"Nothing was written. Without --dry-run the import writes {paths}")


def _echo(preview: TablePreview) -> None:
    unread = f", and {preview.unread:,} that cannot be read" if preview.unread else ""
    click.secho(f"{preview.table}: {preview.rows:,} rows{unread}", bold=True)
    for file in preview.files:
        click.echo(f"  read {printable(file)}")
    for word, lines in (("note", preview.notes), ("warning", preview.warnings)):
        for line in lines:
            click.echo(f"  {word}: {printable(line)}")
    for word, rows in (("before", preview.before), ("after", preview.after)):
        for row in rows:
            values = [f"{name}={_short(value)}" for name, value in row.items() if name not in ("file", "line")]
            click.echo(f"  {word}, line {row['line']}: {' | '.join(values)}")
    if not preview.refused:
        click.echo("  nothing would be refused")
    refused = [("would be refused", refusal) for refusal in preview.refused]
    for what, refusal in (*refused, *(("would lose a value", refusal) for refusal in preview.emptied)):
        number = f"{refusal.count:,} of {preview.rows + preview.unread:,} rows"
        click.echo(f"  {what}, {number}: {printable(refusal.reason)}")
        for example in refusal.examples:
            click.echo(f"    {_short(example, 2 * _WIDTH)}")
    reasons = " ".join(refusal.reason for _, refusal in refused) + " ".join(each.reason for each in preview.emptied)
    for advice in dict.fromkeys(declared for reason, declared in _DECLARED.items() if reason in reasons):
        click.echo(
            f"  to declare what is meant, for example: `values: {{{advice}}}` in contract.yaml in the source folder"
        )


def _short(value: object, width: int = _WIDTH) -> str:
    text = "" if value is None else printable(str(value))
    return text if len(text) <= width else text[: width - 3] + "..."
