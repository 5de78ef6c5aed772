"""Aggregates rows into ordered lists, and takes JSON values and lists apart."""

from sqlmesh.core.macros import SQL, MacroEvaluator, macro


@macro()
def in_order(evaluator: MacroEvaluator, sort_key: SQL, *columns: SQL) -> str:
    """Return an aggregate: the columns as a list of structs, sorted by `sort_key` and then by the columns.

    The list of structs is sorted, because an ordered ARRAY_AGG of DuckDB takes three times the time and memory.
    """
    names = [column.rsplit(".", 1)[-1] for column in columns]
    packed = ", ".join(f"{name} := {column}" for name, column in zip(names, columns, strict=True))
    unpacked = ", ".join(f"{name} := entry.{name}" for name in names)
    ordered = f"LIST_SORT(ARRAY_AGG(STRUCT_PACK(sort_key := {sort_key}, {packed})))"
    return f"LIST_TRANSFORM({ordered}, entry -> STRUCT_PACK({unpacked}))"


@macro()
def json_text(evaluator: MacroEvaluator, json_value: SQL, json_type: SQL) -> str:
    """Return a JSON value as text, a string without its quotes; `json_type` is the type that JSON_EACH gives."""
    return f"CASE WHEN {json_type} = 'VARCHAR' THEN JSON_EXTRACT_STRING({json_value}, '$') ELSE {json_value}::TEXT END"


@macro()
def list_elements(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the elements of a text that is a JSON list as a list of texts; any other text is its only element."""
    is_list = f"{text} LIKE '[%' AND COALESCE(JSON_VALID({text}), FALSE)"
    return f"CASE WHEN {is_list} THEN JSON_EXTRACT_STRING({text}, '$[*]') ELSE [{text}] END"
