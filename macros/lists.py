"""Aggregates rows into ordered lists, and takes JSON values and lists apart."""

from sqlmesh.core.macros import SQL, MacroEvaluator, macro

_ENTRIES = "STRUCT(key TEXT, value TEXT, type TEXT, id BIGINT)[]"


@macro()
def in_order(evaluator: MacroEvaluator, sort_key: SQL, *columns: SQL) -> str:
    """Return an aggregate: the columns as a list of structs, sorted by `sort_key` and then by the columns.

    The list of structs is sorted, because an ordered ARRAY_AGG of DuckDB takes three times the time and memory.
    """
    unpacked = ", ".join(f"{_name(column)} := entry.{_name(column)}" for column in columns)
    ordered = f"LIST_SORT(ARRAY_AGG(STRUCT_PACK(sort_key := {sort_key}, {_packed(columns)})))"
    return f"LIST_TRANSFORM({ordered}, entry -> STRUCT_PACK({unpacked}))"


@macro()
def struct_unless_null(evaluator: MacroEvaluator, *columns: SQL) -> str:
    """Return the columns as a struct; NULL where the first one is NULL."""
    return f"CASE WHEN NOT {columns[0]} IS NULL THEN STRUCT_PACK({_packed(columns)}) END"


def _packed(columns: "tuple[SQL, ...]") -> str:
    return ", ".join(f"{_name(column)} := {column}" for column in columns)


def _name(column: SQL) -> str:
    return column.rsplit(".", 1)[-1]


@macro()
def list_total(evaluator: MacroEvaluator, numbers: SQL) -> str:
    """Return the sum of a list of DOUBLE; NULLs in it do not count."""
    from vlm4rec_search.common.spark.functions import is_spark

    if is_spark(evaluator.gateway, evaluator.runtime_stage):
        return f"AGGREGATE({numbers}, CAST(0 AS DOUBLE), (total, number) -> total + COALESCE(number, 0))"
    return f"LIST_SUM({numbers})"


@macro()
def json_text(evaluator: MacroEvaluator, json_value: SQL, json_type: SQL) -> str:
    """Return a JSON value as text, a string without its quotes; `json_type` is the type that `@json_entries` gives."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, (json_value, "JSON"), json_type)
    json_value, json_type = value.arguments
    string = f"JSON_EXTRACT_STRING({json_value}, '$')"
    return value.sql("TEXT", f"CASE WHEN {json_type} = 'VARCHAR' THEN {string} ELSE {json_value}::TEXT END")


@macro()
def before_decoding(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return a text whose entities can be decoded: in a list or object of JSON a quote stays part of its string."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    # What a match is replaced by: CHR(92) is a backslash, of which two in a replacement are one.
    signs = {
        "&(bsol|#0*92|#[xX]0*5[cC]);|\\x{FF3C}": "REPEAT(CHR(92), 4)",
        "&(quot|QUOT|#0*34|#[xX]0*22);|\\x{FF02}": "REPEAT(CHR(92), 2) || CHR(34)",
    }
    is_json = f"REGEXP_MATCHES({text}, '(?s)^[\\[{{].*({'|'.join(signs)})') AND JSON_VALID({text})"
    escaped = text
    for sign, replacement in signs.items():
        escaped = f"REGEXP_REPLACE({escaped}, '{sign}', {replacement}, 'g')"
    return value.sql("TEXT", f"CASE WHEN {is_json} THEN {escaped} ELSE {text} END")


@macro()
def json_entries(evaluator: MacroEvaluator, json_object: SQL) -> str:
    """Return what stands behind CROSS JOIN: a row key, value, type, id for each field of a JSON object.

    `value` is JSON, `type` one of DuckDB's names such as VARCHAR, DOUBLE, ARRAY, NULL; `id` grows.
    """
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, (json_object, "JSON"))
    if not value.is_spark:
        return f"JSON_EACH({json_object})"
    (json_object,) = value.arguments
    entry = "STRUCT_PACK(key := entry.key, value := entry.value::TEXT, type := entry.type, id := entry.id)"
    rows = f"(SELECT ARRAY_AGG({entry} ORDER BY entry.id) FROM JSON_EACH({json_object}) AS entry)"  # noqa: S608
    return f"INLINE({value.sql(_ENTRIES, rows)})"


@macro()
def is_json(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return whether a text is JSON; NULL for NULL."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    return value.sql("BOOLEAN", f"JSON_VALID({text})")


@macro()
def json_string(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return a text as a JSON string, with its quotes; NULL for NULL."""
    from vlm4rec_search.common.spark.functions import is_spark

    if is_spark(evaluator.gateway, evaluator.runtime_stage):
        record = f"TO_JSON(STRUCT_PACK(v := {text}))"  # {"v":"..."}, or {"v":null}
        return f"NULLIF(SUBSTRING({record}, 6, LENGTH({record}) - 6), 'null')"
    return f"TO_JSON({text})::TEXT"


@macro()
def json_list(evaluator: MacroEvaluator, *texts: SQL) -> str:
    """Return a JSON list of texts."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, *texts)
    return value.sql("TEXT", f"TO_JSON([{', '.join(value.arguments)}])::TEXT")


@macro()
def merged_json(evaluator: MacroEvaluator, first: SQL, second: SQL) -> str:
    """Return the fields of two JSON objects in one; those of the second win, unless they are null."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, (first, "JSON"), (second, "JSON"))
    first, second = value.arguments
    return value.sql("JSON", f"JSON_MERGE_PATCH({first}, JSON_MERGE_PATCH('{{}}', {second}))")


@macro()
def json_record(evaluator: MacroEvaluator, *columns: SQL) -> str:
    """Return columns of texts, and a last column of JSON, as one JSON object.

    Spark writes the texts itself, because its views take no functions of a session.
    """
    from vlm4rec_search.common.spark.functions import is_spark

    *texts, last = columns
    if is_spark(evaluator.gateway, evaluator.runtime_stage):
        record = f"TO_JSON(STRUCT_PACK({_packed((*texts,))}))"
        value = f"COALESCE({last}, 'null')"
        return f"""(SUBSTRING({record}, 1, LENGTH({record}) - 1) || ',"{_name(last)}":' || {value} || '}}')"""
    return f"TO_JSON(STRUCT_PACK({_packed(columns)}))::JSON"


@macro()
def list_elements(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the elements of a text that is a JSON list as a list of texts; any other text is its only element."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    is_list = f"{text} LIKE '[%' AND COALESCE(JSON_VALID({text}), FALSE)"
    return value.sql("TEXT[]", f"CASE WHEN {is_list} THEN JSON_EXTRACT_STRING({text}, '$[*]') ELSE [{text}] END")
