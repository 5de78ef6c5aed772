"""Which column of a delivered file is which column of the raw contract.

A declared mapping counts first, then the name of the contract, then a name that differs from it only in letter case,
spaces and signs. A name that merely means the same (`sku`, `Preis`) is never taken by itself: it is told, with the
mapping that would take it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from vlm4rec_search.common.errors import UsageError, one_line
from vlm4rec_search.datasets.declarations import CONTRACT, CONTRACT_FILE, TableDeclaration, template_parts

REQUIRED: dict[str, tuple[str, ...]] = {
    "items": ("item_id", "title"),
    "interactions": ("user_id", "item_id", "timestamp"),
    "users": ("user_id",),
}
"""Columns that each table must have."""
_SHOWN = 40  # names in a message

_RATINGS = ("stars", "score", "bewertung")  # and every name with "rating" in it
_IS_RATING = {"event_type": "rating"}
"""What a log of ratings has to set: without a kind, each of its rows counts as a purchase, however bad the rating."""

Advice = Callable[[str, dict[str, str], dict[str, str]], str]
"""Takes a table, {column: source} and {column: text}, and returns what a person has to do so that they become so."""


@dataclass(frozen=True)
class ColumnMatch:
    """The sources of the columns of a table, and what a person should know about them.

    Attributes:
        sources: column of the table -> columns of the file; the first that is not empty counts.
        templates: column of the table -> pieces of its text: fixed text, and the column of the file behind it or None.
        first: column of the table -> separator of a list of which the first element is taken.
        split: attribute -> separator of its values.
        lists: columns of the table with JSON lists of which the first element is taken.
        dropped: columns of the file in whose place the declaration sets nothing.
        notes: columns that were matched although their names differ.
        warnings: columns that look as if they belonged to the contract, and are not used.
    """

    sources: Mapping[str, tuple[str, ...]]
    templates: Mapping[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    split: Mapping[str, str] = field(default_factory=dict)
    lists: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def used(self) -> set[str]:
        """The columns of the file that are columns of the table under another or the same name."""
        return {name for names in self.sources.values() for name in names}

    @property
    def shortened(self) -> set[str]:
        """The columns of the table that have a part of what the file says."""
        return {*self.first, *self.lists}


def plan_advice(table: str, pairs: dict[str, str], texts: dict[str, str]) -> str:
    """Advise a person whose data folder is read directly."""
    keys = {"map": pairs, "set": texts}
    named = ", ".join(
        f"{key}: {{{', '.join(f'{column}: {text}' for column, text in of_key.items())}}}"
        for key, of_key in keys.items()
        if of_key
    )
    return f"declare `{table}: {{{named}}}` in {CONTRACT_FILE} beside the data"


def import_advice(table: str, pairs: dict[str, str], texts: dict[str, str]) -> str:
    """Advise a person who runs `vlm4rec import`."""
    options = [("--map", column, source) for column, source in pairs.items()]
    options += [("--set", column, text) for column, text in texts.items()]
    return "add " + " ".join(f"{option} {table}.{column}={_shell(text)}" for option, column, text in options)


def match_columns(
    path: Path | str,
    columns: Sequence[str],
    table: str,
    declared: TableDeclaration,
    advice: Advice = plan_advice,
) -> ColumnMatch:
    """Find the source of each column of a table among the columns of a file.

    Args:
        path: name of the file, for messages.
        columns: names of the file's columns, all different.
        table: items, interactions or users.
        declared: how the table is read.
        advice: what a message tells people to do.

    Raises:
        UsageError: a declared column is not there, or a required column has no source.
    """
    by_key: dict[str, list[str]] = {}
    for column in columns:
        by_key.setdefault(name_key(column), []).append(column)
    sources = {target: _declared_columns(path, names, columns, by_key) for target, names in declared.map.items()}
    templates = {
        target: [
            (text, None if name is None else _declared_columns(path, [name], columns, by_key)[0])
            for text, name in template_parts(template)
        ]
        for target, template in declared.set.items()
    }
    notes = []
    for target in CONTRACT[table]:
        if target in sources or target in templates:
            continue
        taken = {name for names in sources.values() for name in names}
        alike = [target] if target in columns else [c for c in by_key.get(name_key(target), []) if c not in taken]
        if len(alike) == 1:
            sources[target] = (alike[0],)
            if alike[0] != target:
                notes.append(f"{path}: the column {alike[0]!r} is read as {target}")
    for target in (*declared.first, *declared.split):
        if target not in sources and target not in templates and target not in CONTRACT[table]:
            if name_key(target) in by_key:
                sources[target] = _declared_columns(path, [target], columns, by_key)
            else:
                notes.append(f"{path}: there is no column {target!r}, of which {CONTRACT_FILE} takes parts")
    filled = sources.keys() | templates.keys()
    used = {name for names in sources.values() for name in names}
    used |= {name for parts in templates.values() for _, name in parts if name}
    suspects = {
        target: alike
        for target in CONTRACT[table]
        if target not in filled and (alike := [c for c in columns if c not in used and _means(table, target, c)])
    }
    has_kind = table != "interactions" or "event_type" in filled or "event_type" in suspects
    ratings = [] if has_kind else [name for name in columns if "rating" in name_key(name) or name_key(name) in _RATINGS]
    warnings = []
    for target, alike in suspects.items():
        looks = f"column {alike[0]!r} looks like {target} and is" if len(alike) == 1 else (
            f"columns {', '.join(alike)} look like {target} and are"
        )  # fmt: skip
        texts = _IS_RATING if target == "value" and alike[0] in ratings else {}
        warnings.append(one_line(f"{path}: the {looks} not used: {advice(table, {target: alike[0]}, texts)}"))
    if rated := [name for name in sources.get("value", ()) if name in ratings]:
        says = f"the column {rated[0]!r} is read as value, and each row counts as a purchase"
        warnings.append(one_line(f"{path}: {says}: if it is a rating, {advice(table, {}, _IS_RATING)}"))
    if absent := [target for target in REQUIRED[table] if target not in filled]:
        wanted = {target: suspects.get(target, ["..."])[0] for target in (*absent, *suspects)}
        texts = _IS_RATING if wanted.get("value") in ratings else {}
        message = f"{path} has no column {', '.join(absent)}; it has {_listed(columns)}: {advice(table, wanted, texts)}"
        if "timestamp" in absent and "timestamp" not in suspects:
            one_day = advice(table, {}, {"timestamp": "2020-01-01"})
            message += f"; for a log without times, which says nothing about recency, {one_day}"
        raise UsageError(one_line(message))
    dropped = frozenset(
        name for target, text in declared.set.items() if not text for name in by_key.get(name_key(target), ())
    )
    return ColumnMatch(
        sources,
        templates,
        dict(declared.first),
        dict(declared.split),
        dropped=dropped,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def shared_names(columns: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Return the name under which each column of a file stands beside those of other files of its table.

    A column whose name differs from a known one only in letter case, spaces and signs, as `Item ID` from `item_id`,
    gets the known name, unless the file has several such columns.

    Args:
        columns: names of the file's columns, all different.
        known: names of a declaration and of the contract; of those that are alike the first counts.
    """
    by_key: dict[str, str] = {}
    for name in known:
        by_key.setdefault(name_key(name), name)
    alike = Counter(map(name_key, columns))
    return {name: by_key.get(name_key(name), name) if alike[name_key(name)] == 1 else name for name in columns}


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of columns without spaces around them, none empty and none twice, letter case taken as equal.

    A column without a name is called `column` and its position from 0; a repeated name gets a number at its end. Bytes
    of a name that could not be decoded become U+FFFD.
    """
    cleaned = [plain_name(name) or f"column{position}" for position, name in enumerate(names)]
    taken = {name.casefold() for name in cleaned}
    seen: Counter[str] = Counter()
    unique = []
    for name in cleaned:
        key = name.casefold()
        number = seen[key] = seen[key] + 1
        while number > 1 and f"{key}_{number}" in taken:
            number += 1
        if number > 1:
            taken.add(f"{key}_{number}")
        unique.append(name if number == 1 else f"{name}_{number}")
    return tuple(unique)


def free_names(names: Iterable[str], taken: Iterable[str], columns: Iterable[str]) -> dict[str, str]:
    """Return the names under which columns of a file stand beside those of a table, letter case taken as equal.

    Args:
        names: of the columns that are no columns of the table.
        taken: names of the table's columns; a column whose name is taken becomes `source_<name>`.
        columns: names of all columns of the file, which no new name repeats.
    """
    of_table, of_file = ({name.casefold() for name in some} for some in (taken, columns))
    free = {}
    for name in names:
        new = name
        while new.casefold() in of_table or (new != name and new.casefold() in of_file):
            new = f"source_{new}"
        free[name] = new
    return free


def plain_name(name: str) -> str:
    """Return the name of a column in NFC, without spaces around it and without invisible signs."""
    decoded = re.sub("[\ud800-\udfff]", "\ufffd", name)
    return _INVISIBLE.sub("", unicodedata.normalize("NFC", decoded)).strip()


def name_key(name: str) -> str:
    """Return a column's name without letter case, spaces and signs, so that `Item ID` and `itemId` are equal."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def known_names(table: str) -> frozenset[str]:
    """Return the keys of all names under which shops deliver the columns of a table."""
    return frozenset(key for keys in _synonyms()[table].values() for key in keys if not key.startswith("*"))


_INVISIBLE = re.compile("[\ufeff\u200b\u200c\u200d\u2060\u00ad\x00]")


def _means(table: str, target: str, column: str) -> bool:
    key, names = name_key(column), _synonyms()[table][target]
    return key in names or any(name[1:-1] in key for name in names if name.startswith("*"))


@cache
def _synonyms() -> dict[str, dict[str, frozenset[str]]]:
    content = yaml.safe_load(Path(__file__).with_name("column_names.yaml").read_text("utf-8"))
    return {
        table: {
            target: frozenset(
                name if name.startswith("*") else name_key(name) for name in (target, *content[table].get(target, ()))
            )
            for target in CONTRACT[table]
        }
        for table in CONTRACT
    }


def _declared_columns(
    path: Path | str, names: Sequence[str], columns: Sequence[str], by_key: Mapping[str, list[str]]
) -> tuple[str, ...]:
    """Return the columns that are declared for one column of the table; of several some may be missing."""
    alike = ([name] if name in columns else by_key.get(name_key(name), []) for name in names)
    if found := tuple(one[0] for one in alike if len(one) == 1):
        return found
    raise UsageError(f"{path} has no column {' or '.join(names)}; it has {_listed(columns)}")


def _listed(columns: Sequence[str]) -> str:
    if not columns:
        return "none"
    return one_line(", ".join(columns[:_SHOWN])) + (" ..." if len(columns) > _SHOWN else "")


def _shell(text: str) -> str:
    return text if re.fullmatch(r"[\w./-]+", text) else f"'{text}'"
