"""Reads a raw file in any format of the data contract as one table of text columns."""

from sqlglot import exp
from sqlmesh.core.macros import MacroEvaluator, macro


@macro()
def raw_file(evaluator: MacroEvaluator, stem: str, version: str, *columns: str) -> exp.Expr:
    """Return a subquery over `<stem>.<suffix>`: file, row_number, columns as text, attributes as JSON.

    `version` is the hash of the file's content, a variable of the project. It has to stand in the query that results,
    as the column `file`: only then does `plan` see new data as a change that the models below are built on. A column
    that the file lacks is NULL; a column that is not asked for is kept in `attributes`.
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.raw import raw_query

    folder = evaluator.var("data_dir")
    return raw_query(settings(), folder, stem, version, columns)
