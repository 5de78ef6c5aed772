"""Lists in the order of a column."""

from sqlmesh.core.macros import SQL, MacroEvaluator, macro


@macro()
def in_order(evaluator: MacroEvaluator, place: SQL, *columns: SQL) -> str:
    """Return an aggregate: the columns of a group's rows as a list of structs, ordered by `place` and then by them.

    The structs are what is sorted, since DuckDB's ordered ARRAY_AGG takes three times as long and as much memory.
    """
    names = [column.rsplit(".", 1)[-1] for column in columns]
    packed = ", ".join(f"{name} := {column}" for name, column in zip(names, columns, strict=True))
    unpacked = ", ".join(f"{name} := one.{name}" for name in names)
    ordered = f"LIST_SORT(ARRAY_AGG(STRUCT_PACK(place := {place}, {packed})))"
    return f"LIST_TRANSFORM({ordered}, one -> STRUCT_PACK({unpacked}))"
