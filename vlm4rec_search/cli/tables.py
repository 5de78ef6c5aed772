"""`vlm4rec publish-tables`: the analysts' copy of the warehouse."""

import click

from vlm4rec_search.cli.output import echo_json, json_option

_TRY = """Try:
  python -c "import duckdb; duckdb.connect('{path}', read_only=True).sql('QUERY').show()"
with a query such as
  from captions.item_captions select status, count(*) group by all
  from staging.rejected_items select reason, count(*) group by all
  from profiles.term_weights where rank <= 3 order by user_id, rank limit 30"""


@click.command("publish-tables")
@json_option
def publish_tables(as_json: bool) -> None:
    """Replace the analysts' read-only copy of the warehouse in one step.

    Whoever has the old copy open goes on reading it; `sqlmesh plan` is never in anybody's way.

    \b
    Example:
      vlm4rec publish-tables
      VLM4REC_PUBLISHED=/srv/analysts vlm4rec publish-tables --json
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.common.warehouse import publish

    path = publish(settings().warehouse, settings().published)
    size = path.stat().st_size
    if as_json:
        echo_json({"path": str(path), "bytes": size})
        return
    click.echo(f"Published {path} ({size / 1e6:.1f} MB)")
    click.echo(_TRY.format(path=path))
