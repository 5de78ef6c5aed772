"""Finds business rules that touch nothing: a misspelt field, id or segment would otherwise go unnoticed."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import duckdb

from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.search.backend import Reader
from vlm4rec_search.search.filters import COLUMNS, Filter, parse_filter, suggest, suggest_values
from vlm4rec_search.search.rules import Condition, Rule

_SHOWN = 5
_MISSING = """
SELECT item FROM (SELECT UNNEST($1) AS item, GENERATE_SUBSCRIPTS($1, 1) AS place)
ANTI JOIN documents ON documents.item_id = item ORDER BY place
"""
_NEAREST = "SELECT item_id FROM documents ORDER BY LEVENSHTEIN(LOWER(item_id), LOWER(?)), item_id LIMIT 1"


def find_idle_rules(rules: Sequence[Rule], tables: SearchTables[Frame]) -> list[str]:
    """Return one line for each rule that applies to no item or shopper, or names some that the catalogue lacks."""
    if not rules:
        return []
    lines = []
    with duckdb.connect() as connection:
        connection.register("documents", tables.documents)
        connection.register("users", tables.users)
        connection.register("facets", tables.facets)
        catalogue = _Tables(connection)
        for number, rule in enumerate(rules, 1):
            if problem := _describe(rule, catalogue):
                what = rule.filter or ", ".join(rule.items[:_SHOWN])
                lines.append(f"rule {number} ({rule.action} {what}): {problem}")
    return lines


def describe_idleness(rule: Rule, reader: Reader) -> str | None:
    """Return why a rule has no effect in a release, or which of its items are missing; None where all is well.

    Raises:
        RunError: the index does not answer.
    """
    return _describe(rule, _Release(reader))


class _Catalogue(ABC):
    """What a rule may apply to.

    Attributes:
        name: for messages.
        fields: that a filter may name.
    """

    name: str
    fields: Collection[str]

    @abstractmethod
    def missing(self, items: Sequence[str]) -> Sequence[str]:
        """Return the items that the catalogue lacks."""

    @abstractmethod
    def fulfils(self, condition: Filter) -> bool:
        """Return whether an item fulfils a condition on a known field."""

    @abstractmethod
    def values(self, field: str) -> Sequence[str]:
        """Return the values of a field, sorted."""

    def near_items(self, item: str) -> Sequence[str]:
        """Return ids that somebody may have meant by one that is missing, where they can be looked up."""
        return ()

    def segments(self) -> Collection[str] | None:
        """Return the segments that shoppers are in, None where they cannot be looked up."""
        return None


class _Tables(_Catalogue):
    """The tables of the warehouse."""

    name = "the catalogue"

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.fields = {*self._texts("SELECT DISTINCT field FROM facets"), *COLUMNS}

    def missing(self, items: Sequence[str]) -> Sequence[str]:
        return self._texts(_MISSING, list(items))

    def fulfils(self, condition: Filter) -> bool:
        return any(condition.matches({condition.field: [value]}) for value in self.values(condition.field))

    def near_items(self, item: str) -> Sequence[str]:
        return self._texts(_NEAREST, item)

    def segments(self) -> Collection[str]:
        return self._texts("SELECT DISTINCT segment FROM users WHERE segment IS NOT NULL ORDER BY segment")

    def values(self, field: str) -> Sequence[str]:
        return self._texts("SELECT DISTINCT value FROM facets WHERE field = ? ORDER BY value", field)

    def _texts(self, query: str, *values: object) -> list[str]:
        return [str(text) for (text,) in self._connection.execute(query, values).fetchall()]


class _Release(_Catalogue):
    """An open release."""

    name = "the release"

    def __init__(self, reader: Reader) -> None:
        self._reader, self.fields = reader, {*reader.fields, *COLUMNS}

    def missing(self, items: Sequence[str]) -> Sequence[str]:
        known = self._reader.documents(list(items))
        return [item for item in items if item not in known]

    def fulfils(self, condition: Filter) -> bool:
        return self._reader.has_match(condition)

    def values(self, field: str) -> Sequence[str]:
        return self._reader.values(field)


def _describe(rule: Rule, catalogue: _Catalogue) -> str | None:
    if rule.when and rule.when.until and rule.when.until <= datetime.now(UTC):
        return f"it ended on {rule.when.until:%Y-%m-%d}"
    if rule.when and (problem := _describe_condition(rule.when, catalogue)):
        return problem
    if rule.filter is None:
        missing = catalogue.missing(rule.items)
        if not missing:
            return None
        near = _then(suggest(missing[0], catalogue.near_items(missing[0]))) if len(missing) == 1 else ""
        effect = "" if len(missing) < len(rule.items) else "touches nothing: "
        return f"{effect}not in {catalogue.name}: {', '.join(missing[:_SHOWN])}{near}"
    condition = parse_filter(rule.filter)
    if condition.field not in catalogue.fields:
        fields = sorted(catalogue.fields)
        near = suggest(condition.field, fields) or f"the fields are {', '.join(fields)}"
        return f"touches nothing: no item has the field {condition.field!r}{_then(near)}"
    if catalogue.fulfils(condition):
        return None
    return f"touches nothing: no item fulfils it{_then(suggest_values(condition, catalogue.values(condition.field)))}"


def _describe_condition(when: Condition, catalogue: _Catalogue) -> str | None:
    """Return which segments of a condition no shopper is in, or which categories no item has."""
    segments = catalogue.segments()
    empty = [] if segments is None else [name for name in when.segment if name not in segments]
    lost = [name for name in when.category if not catalogue.fulfils(Filter("category", (name,)))]
    if empty:
        what, unknown, named, known = "no shopper is in the segment", empty, when.segment, segments or ()
    elif lost:
        what, unknown, named, known = "no item has the category", lost, when.category, catalogue.values("category")
    else:
        return None
    effect = "" if len(unknown) < len(named) else "touches nothing: "
    return f"{effect}{what} {', '.join(map(repr, unknown[:_SHOWN]))}{_then(suggest(unknown[0], known))}"


def _then(hint: str) -> str:
    return hint and f"; {hint}"
