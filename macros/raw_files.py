"""Reads a raw file of any format as a table of text columns."""

from sqlglot import exp
from sqlmesh.core.macros import MacroEvaluator, macro


@macro()
def raw_file(evaluator: MacroEvaluator, stem: str, version: str, *columns: str) -> exp.Expr:
    """Return a subquery over `<stem>.<suffix>`: file, row_number, columns as text, attributes as JSON.

    `version` is the sha256 of the file, a variable of the project. The query has to contain it, as the column `file`:
    only then does `sqlmesh plan` see new data as a change that rebuilds the models below. A column that the file lacks
    is NULL; a column that is not in `columns` goes into `attributes`.
    """
    # Inside of the function: SQLMesh copies the globals of a macro into its state, and cannot copy these.
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.raw import raw_query

    folder = evaluator.var("data_dir")
    return raw_query(settings(), folder, stem, version, columns)
