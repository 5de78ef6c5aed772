"""Reads the delivered files: as tables of text columns, the records that cannot be read, and a description of each.

The hashes of the files are variables of the project, and arguments of the macros although these do not use them: only
then does `sqlmesh plan` see new data as a change that rebuilds the models below.
"""

from sqlglot import exp
from sqlmesh.core.macros import MacroEvaluator, macro


@macro()
def raw_file(evaluator: MacroEvaluator, table: str, version: str, *columns: str) -> exp.Expr:
    """Return a subquery over a raw table: file, row_number, line, columns as text, attributes as JSON.

    A column that a file lacks is NULL; a column that is not in the raw contract goes into `attributes`.
    """
    # Inside of the function: SQLMesh copies the globals of a macro into its state, and cannot copy these.
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.common.spark.functions import is_spark
    from vlm4rec_search.datasets.raw import raw_query

    spark = is_spark(evaluator.gateway, evaluator.runtime_stage)
    return raw_query(settings(), evaluator.var("data_dir"), table, columns, spark=spark)


@macro()
def broken_records(evaluator: MacroEvaluator, *versions: str) -> exp.Expr:
    """Return a subquery over the records that cannot be read: table_name, file, line, reason, record."""
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.common.spark.functions import is_spark
    from vlm4rec_search.datasets.raw import broken_query

    spark = is_spark(evaluator.gateway, evaluator.runtime_stage)
    return broken_query(settings(), evaluator.var("data_dir"), spark=spark)


@macro()
def delivered_files(evaluator: MacroEvaluator, *versions: str) -> exp.Expr:
    """Return a subquery with a row for each delivered file: how it is read, and what a person should know."""
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.raw import files_query

    return files_query(settings(), evaluator.var("data_dir"))
