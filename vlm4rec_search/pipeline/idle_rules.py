"""Finds business rules that touch nothing: a misspelt field or id would otherwise go unnoticed."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches

import duckdb

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.search.backend import Reader
from vlm4rec_search.search.filters import COLUMNS, check_field, parse_filter
from vlm4rec_search.search.model import Request, Retriever
from vlm4rec_search.search.rules import Rule

_SHOWN = 5


def find_idle_rules(rules: Sequence[Rule], tables: SearchTables[Frame]) -> list[str]:
    """Return one line for each rule that applies to no item, or names items that the catalogue lacks."""
    if not rules:
        return []
    lines = []
    with duckdb.connect() as connection:
        connection.register("documents", tables.documents)
        connection.register("facets", tables.facets)
        for number, rule in enumerate(rules, 1):
            if problem := next(_problems(rule, connection), None):
                what = rule.filter or ", ".join(rule.items[:_SHOWN])
                lines.append(f"rule {number} ({rule.action} {what}): {problem}")
    return lines


def describe_idleness(rule: Rule, reader: Reader) -> str | None:
    """Return why a rule has no effect in a release, or which of its items are missing; None where all is well.

    Raises:
        RunError: the index does not answer.
    """
    if rule.when and rule.when.until and rule.when.until <= datetime.now(UTC):
        return f"it ended on {rule.when.until:%Y-%m-%d}"
    if rule.filter is None:
        known = reader.documents(list(rule.items))
        missing = [item for item in rule.items if item not in known]
        note = f"not in the release: {', '.join(missing[:_SHOWN])}" if missing else None
        return note if known else f"touches nothing: {note}"
    condition = parse_filter(rule.filter)
    try:
        check_field(condition.field, reader.fields)
    except UsageError as error:
        return f"touches nothing: {error}"
    everything = Retriever("popularity", "popularity")
    retrieved = reader.retrieve(Request([everything], (condition,), None, (), 1))
    return None if len(retrieved.candidates[0].documents) else "touches nothing: no item fulfils it"


def _problems(rule: Rule, connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    if rule.when and rule.when.until and rule.when.until <= datetime.now(UTC):
        yield f"it ended on {rule.when.until:%Y-%m-%d}"
        return
    if rule.filter is None:
        items = _texts(connection, "SELECT item_id FROM documents ORDER BY item_id")
        known = set(items)
        missing = [item for item in rule.items if item not in known]
        if missing:
            near = _suggest(missing[0], items) if len(missing) == 1 else ""
            yield f"not in the catalogue: {', '.join(missing[:_SHOWN])}{near}"
        return
    condition = parse_filter(rule.filter)
    fields = sorted({*_texts(connection, "SELECT DISTINCT field FROM facets"), *COLUMNS})
    if condition.field not in fields:
        near = _suggest(condition.field, fields) or f"; the fields are {', '.join(fields)}"
        yield f"no item has the field {condition.field!r}{near}"
        return
    values = _texts(connection, "SELECT DISTINCT value FROM facets WHERE field = ? ORDER BY value", condition.field)
    if not any(condition.matches({condition.field: [value]}) for value in values):
        near = _suggest(condition.values[0], values) if condition.values else ""
        yield f"no item fulfils it{near or '; values are ' + ', '.join(values[:_SHOWN])}"


def _texts(connection: duckdb.DuckDBPyConnection, query: str, *values: str) -> list[str]:
    return [str(text) for (text,) in connection.execute(query, values).fetchall()]


def _suggest(name: str, names: Sequence[str]) -> str:
    folded = {each.casefold(): each for each in names}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.75)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""
