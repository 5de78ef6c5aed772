"""Imports a shop's own exports: a declared mapping says which of their columns is which column of the raw contract."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import yaml
from pydantic import ValidationError

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.sql import quote_name, quote_text
from vlm4rec_search.common.yaml_files import describe_validation_error
from vlm4rec_search.datasets.columns import (
    REQUIRED,
    ColumnMatch,
    free_names,
    import_advice,
    match_columns,
    name_key,
    unique_names,
)
from vlm4rec_search.datasets.declarations import (
    CONTRACT,
    CONTRACT_FILE,
    Declarations,
    TableDeclaration,
    Values,
    load_declarations,
    template_parts,
)
from vlm4rec_search.datasets.importers.formats import GENERIC, ImportFormat, ImportTable, Pivot
from vlm4rec_search.datasets.importers.log_warnings import log_warnings
from vlm4rec_search.datasets.importers.write import (
    SOURCE_FILE,
    ImportSummary,
    Table,
    check_folders,
    connect,
    kept_contract,
    table_path,
    write_tables,
)
from vlm4rec_search.datasets.raw import find_files, matching_files, unread_files
from vlm4rec_search.datasets.records import Records, find_lists
from vlm4rec_search.datasets.several import open_files, relative_name

_PAIR = re.compile(r"(?P<table>\w+)\.(?P<target>[^=\s][^=]*)=(?P<source>.*)", re.DOTALL)

Pairs = dict[str, dict[str, str]]
"""Table -> column of the table -> column of the export, or a text."""


@dataclass(frozen=True)
class ImportOptions:
    """What a person gives beside the format: files and mappings, which go before those of the format.

    Attributes:
        files: table -> file or pattern, relative to the source folder.
        maps: pairs such as `items.item_id=id`.
        sets: pairs such as `interactions.event_type=purchase`.
        delimiter: of all delimited files.
        encoding: of all text files.
    """

    files: Mapping[str, str]
    maps: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    delimiter: str = ""
    encoding: str = ""


PLACE = (SOURCE_FILE, " line")
"""The columns of where a row comes from: no column of an export has a name that begins with a space."""
_PLACE_SQL = [f"{name.strip()} AS {quote_name(name)}" for name in PLACE]


@dataclass(frozen=True)
class ImportedTable:
    """One table of an export, as it is and as it will be written.

    Attributes:
        table: items, interactions or users.
        source: the columns `PLACE`, and the columns of the export under their own names.
        target: the columns `PLACE`, and the columns to write.
        records: what the reader says of the files.
        match: which column of the export is which.
        merged: number of rows that belong to an earlier row.
        files: the source files whose rows are written apart; none if there is one file, or if each row is made of many.
    """

    table: str
    source: duckdb.DuckDBPyRelation
    target: duckdb.DuckDBPyRelation
    records: Records
    match: ColumnMatch
    merged: int = 0
    files: tuple[str, ...] = ()


def parse_pairs(option: str, pairs: Iterable[str]) -> Pairs:
    """Parse the values of `--map` or `--set`, such as `items.item_id=id`.

    Raises:
        UsageError: a pair has another form, names an unknown table, or names a column twice.
    """
    parsed: Pairs = {table: {} for table in CONTRACT}
    for pair in pairs:
        match = _PAIR.fullmatch(pair)
        if match is None or match["table"] not in CONTRACT or (option == "--map" and not match["source"]):
            raise UsageError(
                f"{option} {pair} does not have the form TABLE.COLUMN={'SOURCE' if option == '--map' else 'TEXT'}, with"
                " the table items, interactions or users"
            )
        table, target = match["table"], match["target"].strip()
        if not match["source"] and target in REQUIRED[table]:
            raise UsageError(f"{option} {pair} leaves {table}.{target} empty, and every row needs it")
        if target in parsed[table]:
            raise UsageError(f"{option} names {table}.{target} twice; keep one")
        parsed[table][target] = match["source"]
    return parsed


def import_generic(
    source: Path,
    to: Path,
    options: ImportOptions,
    form: ImportFormat = GENERIC,
    images: bool = True,
    weighted: Collection[str] = (),
) -> ImportSummary:
    """Write the tables of an export as Parquet files of the raw contract into `to`, and copy the photos.

    Rows of several source files stay apart, as in `write_tables`.

    What `contract.yaml` in `source` declares counts more than the format, and the options count more than both. The
    section `values` goes on into `contract.yaml` in `to`, unless that is there already: it may be a person's, or be
    about tables that stay.

    Args:
        source: folder of the exports.
        to: data folder; created if it does not exist. Tables of an earlier import are replaced, tables that are not
            imported now stay.
        options: files and mappings.
        form: a packaged format, or the generic one.
        images: whether to copy the photos that the column `image` names.
        weighted: the kinds of events with a weight; without them, no warning names the others.

    Raises:
        UsageError: a file is missing or unreadable, a column is missing, a mapping is malformed, or `to` holds the
            same table in another format.
    """
    values, differing = values_in_force(source, to, form)
    with closing(connect()) as connection, open_export(connection, source, options, form) as tables:
        check_folders(source, to, {table.table for table in tables})
        told = [text for table in tables for text in (*table.match.notes, *table.records.notes)]
        warnings = [text for table in tables for text in table.match.warnings]
        summary = write_tables(
            connection, {table.table: _to_write(table, source) for table in tables}, source, to, images
        )
        if summary.interactions is not None:
            log = table_path(to, "interactions")
            files = [str(log)] if log.is_file() else [str(path) for path in log.glob("*.parquet")]
            rows = connection.read_parquet(files, union_by_name=True)
            warnings += log_warnings(rows, values, weighted, contract_in_force(source, to, values))
    if values != Values() and source.resolve() != to.resolve() and not (to / CONTRACT_FILE).exists():
        content = {"values": _as_declared(values)}
        (to / CONTRACT_FILE).write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), "utf-8")
    kept = kept_contract(to, [table.table for table in tables])
    warnings += [*unread_warnings(source, options, form), *differing, *kept]
    written = [line for table in tables for line in table.records.written.split("\n")]
    return replace(summary, files=written, notes=told, warnings=warnings)


@contextmanager
def open_export(
    connection: duckdb.DuckDBPyConnection, source: Path, options: ImportOptions, form: ImportFormat = GENERIC
) -> Iterator[list[ImportedTable]]:
    """Open the tables of an export; their relations are valid inside of the block.

    Raises:
        UsageError: as `import_generic`.
    """
    if not source.is_dir():
        raise UsageError(f"there is no folder {source}")
    declared = load_declarations(source)
    maps, sets = parse_pairs("--map", options.maps), parse_pairs("--set", options.sets)
    with ExitStack() as stack:
        tables = []
        for table in CONTRACT:
            layout = _layout(source, table, options, form, declared)
            if layout is None and (maps[table] or sets[table]):
                raise UsageError(f"{'--map' if maps[table] else '--set'} names {table}, but --{table} is not given")
            if layout is not None:
                layout = _with_options(layout, options, maps, sets)
                tables.append(_open_table(connection, source, layout, form, stack))
        if not tables:
            wanted = [pattern for table in CONTRACT for layout in form.layouts(table) for pattern in layout.files]
            raise UsageError(
                f"{source} holds none of {', '.join(wanted)}: give --items or --interactions"
                if wanted
                else f"{source} has no file named items, interactions or users: give --items, --interactions or --users"
                + "".join(f"; {text}" for text in unread_warnings(source, options, form)[:1])
            )
        yield tables


def _layout(
    source: Path, table: str, options: ImportOptions, form: ImportFormat, declared: Declarations
) -> ImportTable | None:
    """Return how a table is read, with the files that are there; None if it is not imported.

    The generic format takes files with the names of the contract, such as items.csv, where nobody names any file.
    """
    section = declared.of(table)
    given = options.files.get(table)
    patterns = (given,) if given else section.files
    if _are_found_by_name(options, form, declared):
        patterns = tuple(relative_name(path, source) for path in find_files(source, table, section))
    if patterns:
        found = {pattern: _named_files(source, pattern) for pattern in patterns}
        if absent := [pattern for pattern, files in found.items() if not files]:
            raise UsageError(f"there is no file {source / absent[0]}")
        together = sorted({path for files in found.values() for path in files})
        return _overlay(form.layouts(table)[0], section, tuple(relative_name(path, source) for path in together))
    for layout in form.layouts(table):
        for pattern in layout.files:
            if files := _named_files(source, pattern):
                return _overlay(layout, section, tuple(relative_name(path, source) for path in files))
    return None


def _are_found_by_name(options: ImportOptions, form: ImportFormat, declared: Declarations) -> bool:
    """Whether the files are those with the names of the contract, since nobody names any."""
    return form is GENERIC and not options.files and not any(declared.of(name).files for name in CONTRACT)


def unread_warnings(source: Path, options: ImportOptions, form: ImportFormat) -> list[str]:
    """Return a warning of each file of data with the name of a table that an import leaves out.

    Raises:
        UsageError: `contract.yaml` in `source` cannot be read.
    """
    declared = load_declarations(source)
    if not _are_found_by_name(options, form, declared):
        return []
    return [text for name in CONTRACT for text in unread_files(source, name, declared.of(name)).values()]


def _named_files(source: Path, pattern: str) -> list[Path]:
    return [source / pattern] if (source / pattern).is_file() else matching_files(source, pattern)


def _overlay(layout: ImportTable, section: TableDeclaration, files: tuple[str, ...]) -> ImportTable:
    """Return a layout of a format with what a person declares in its place."""
    changes = {name: getattr(section, name) for name in section.model_fields_set if name != "files"}
    own = section.map.keys() | section.set.keys()
    for name in ("map", "set"):
        kept = {target: value for target, value in getattr(layout, name).items() if target not in own}
        changes[name] = {**kept, **getattr(section, name)}
    changes["first"] = {**layout.first, **section.first}
    changes["split"] = {**layout.split, **section.split}
    if "available" in own:
        changes["offered"] = {}
    return layout.model_copy(update={**changes, "files": files})


def _with_options(layout: ImportTable, options: ImportOptions, maps: Pairs, sets: Pairs) -> ImportTable:
    content = {
        "map": {target: [source] for target, source in maps[layout.table].items()},
        "set": sets[layout.table],
        **({"delimiter": options.delimiter} if options.delimiter else {}),
        **({"encoding": options.encoding} if options.encoding else {}),
    }
    try:
        section = type(Declarations().of(layout.table)).model_validate(content)
    except ValidationError as error:
        raise UsageError(f"the options: {describe_validation_error(error)}") from None
    return _overlay(layout, section, layout.files)


def _open_table(
    connection: duckdb.DuckDBPyConnection, source: Path, layout: ImportTable, form: ImportFormat, stack: ExitStack
) -> ImportedTable:
    table = layout.table
    paths = [source / name for name in layout.files]
    records: Records = (opened := stack.enter_context(open_files(connection, source, paths, table, layout)))
    shown = zip(unique_names(records.values), records.values.values(), strict=True)
    as_it_is = records.relation.project(
        ", ".join([*_PLACE_SQL, *(f"{sql} AS {quote_name(name)}" for name, sql in shown)])
    )
    if not (rows := records.rows):
        raise UsageError(f"{paths[0]} holds no rows")
    headers = opened.headers
    records = _unescaped(_emptied(records, layout.empty), layout.escaped)
    if layout.pivot:
        records = _pivoted(records, layout.pivot)
        headers = {tuple(records.values): layout.files}
    # A column that one file has must not hide that another file lacks it.
    each = [
        match_columns(_named(files), header, table, _without_missing(layout, form, header), import_advice)
        for header, files in headers.items()
    ]
    layout, named = _without_missing(layout, form, list(records.values)), _named(layout.files)
    match = replace(
        match_columns(named, list(records.values), table, layout, import_advice),
        notes=tuple(note for one in each for note in one.notes),
        warnings=tuple(warning for one in each for warning in one.warnings),
    )
    match = find_lists(records, match, table, named)
    columns, renamed = _target_columns(records, match, table, layout)
    notes = (f"{named}: the column {name!r} is written as {new!r}" for name, new in renamed.items())
    match = replace(match, notes=(*match.notes, *notes))
    relation = records.relation
    by_key = {name.casefold(): sql for name, sql in records.values.items()}
    if layout.merge and layout.merge[0].casefold() in by_key:
        keys = {name.casefold(): by_key[name.casefold()] for name in layout.merge if name.casefold() in by_key}
        relation, columns = _merged(relation, keys, columns)
    target = relation.project(
        ", ".join([*_PLACE_SQL, *(f"{sql} AS {quote_name(name)}" for name, sql in columns.items())])
    )
    merged = rows - target.shape[0] if layout.merge and not layout.pivot else 0
    files = layout.files if len(layout.files) > 1 and not layout.pivot else ()
    return ImportedTable(table, as_it_is, target, records, match, merged, files)


def _named(files: Sequence[str]) -> str:
    """Return the names of files for a message."""
    return ", ".join(files[:3])


def _without_missing(layout: ImportTable, form: ImportFormat, columns: Sequence[str]) -> ImportTable:
    """Leave out what a format says about columns that this export does not have, unless the table requires them."""
    present = set(map(name_key, columns))
    of_form = [base for base in form.layouts(layout.table) if base.map or base.set]
    kept_map, kept_set = dict(layout.map), dict(layout.set)
    for target, names in layout.map.items():
        is_declared = all(base.map.get(target) != names for base in of_form)
        if not (is_declared or target in REQUIRED[layout.table] or present & set(map(name_key, names))):
            del kept_map[target]
    for target, text in layout.set.items():
        needed = {name_key(name) for _, name in template_parts(text) if name}
        if any(base.set.get(target) == text for base in of_form) and not needed <= present:
            del kept_set[target]
    left_out = (layout.map.keys() | layout.set.keys()) - (kept_map.keys() | kept_set.keys())
    first = {target: sign for target, sign in layout.first.items() if target not in left_out}
    named = {name_key(target): target for target in (*kept_map, *kept_set)}
    separators = {named.get(name_key(target), target): sign for target, sign in layout.split.items()}
    by_form = {target for base in form.layouts(layout.table) for target in base.split}
    split = {
        target: sign
        for target, sign in separators.items()
        if target in named.values() or name_key(target) in present or target not in by_form
    }
    return layout.model_copy(update={"map": kept_map, "set": kept_set, "first": first, "split": split})


def _target_columns(
    records: Records, match: ColumnMatch, table: str, layout: ImportTable
) -> tuple[dict[str, str], dict[str, str]]:
    """Return SQL of the columns to write: those of the contract in its order, then the others under their own names.

    Of names that differ in letter case only, the second gets a number, as in a header. A column whose name is taken
    becomes `source_<name>`; so does one of which only the first element becomes the column of that name.

    Returns:
        The columns, and the new names of those that cannot keep theirs.
    """
    columns = records.columns(match)
    if sql := _not_offered(records, layout.offered):
        columns["available"] = f"CASE WHEN {sql} THEN 'false' ELSE {columns.get('available', 'NULL')} END"
    ordered = {name: columns[name] for name in (*CONTRACT[table], *columns) if name in columns}
    names, renamed = dict(zip(records.values, unique_names(records.values), strict=True)), {}
    parent = layout.merge[0].casefold() if len(layout.merge) > 1 else None
    free = free_names((names[name] for name in records.others(match)), columns, names.values())
    for name in records.others(match):
        if name.casefold() == parent:  # of the variants only: merged, it would say something wrong of their product
            continue
        new = free[names[name]]
        ordered[new] = records.values[name]
        if new != name:
            renamed[name] = new
    return ordered, renamed


def _not_offered(records: Records, offered: Mapping[str, Sequence[str]]) -> str:
    """Return the condition (SQL) that a shop does not offer an item; empty if no column says so."""
    by_key = {name_key(name): sql for name, sql in records.values.items()}
    values = {by_key[name_key(name)]: words for name, words in offered.items() if name_key(name) in by_key}
    return " OR ".join(
        f"LOWER(TRIM({sql})) NOT IN ('', {', '.join(map(quote_text, words))})" for sql, words in values.items()
    )


def _merged(
    relation: duckdb.DuckDBPyRelation, keys: Mapping[str, str], columns: Mapping[str, str]
) -> tuple[duckdb.DuckDBPyRelation, dict[str, str]]:
    """Make one row of those with the same key, see `ImportTable.merge`; a row without a key stays alone.

    Args:
        relation: rows with the columns `file` and `line`.
        keys: the columns of `ImportTable.merge` that the export has, in small letters -> their SQL.
        columns: columns to write -> their SQL.
    """
    names = {name: f"m{position}" for position, name in enumerate(columns)}
    first, *others = (f"NULLIF(TRIM({key}), '')" for key in keys.values())
    place = "ROW(file, line)"
    if others:
        _, *kinds = keys
        prefixes = "|".join(map(re.escape, kinds))
        named = f"CASE WHEN REGEXP_MATCHES({first}, '^({prefixes}):') THEN {first} ELSE '{kinds[0]}:' || {first} END"
        own = (f"'{kind}:' || {key}" for kind, key in zip(kinds, others, strict=True))
        key = f"COALESCE({named}, {', '.join(own)})"
        product = f"MIN({place}) FILTER (WHERE {first} IS NULL) OVER (PARTITION BY {key})"
        one = f"CASE WHEN {first} IS NULL THEN {place} ELSE COALESCE({product}, {place}) END"
        order = f"ROW({first} IS NOT NULL, file, line)"
    else:
        one, order = f"COALESCE({first}, file || ' ' || line)", place
    relation = relation.project(f"*, {one} AS item")
    firsts = (f"ARG_MIN({sql}, {order}) FILTER (WHERE {sql} <> '') AS {names[name]}" for name, sql in columns.items())
    rows = relation.aggregate(f"MIN(file) AS file, ARG_MIN(line, {place}) AS line, {', '.join(firsts)}", "item")
    return rows.order("file, line"), names


def _emptied(records: Records, empty: Mapping[str, Sequence[str]]) -> Records:
    """Return the records without the words that stand for nothing."""
    words = {name_key(name): ", ".join(map(quote_text, of_column)) for name, of_column in empty.items()}
    values = {
        name: f"CASE WHEN LOWER(TRIM({sql})) NOT IN ({words[name_key(name)]}) THEN {sql} END"
        for name, sql in records.values.items()
        if name_key(name) in words
    }
    return replace(records, values={**records.values, **values}) if values else records


def _unescaped(records: Records, escaped: Sequence[str]) -> Records:
    """Return the records with the line breaks that an export has written as two signs, see `ImportTable.escaped`."""
    keys = set(map(name_key, escaped))
    values = {
        name: rf"REPLACE(REPLACE(REPLACE({sql}, '\\n', CHR(31)), '\n', CHR(10)), CHR(31), '\n')"
        for name, sql in records.values.items()
        if name_key(name) in keys
    }
    return replace(records, values={**records.values, **values}) if values else records


def _pivoted(records: Records, pivot: Pivot) -> Records:
    """Make a row of each item from a file with one row for each of its properties."""
    names = {name: records.values.get(name) for name in (pivot.id, pivot.property, pivot.value, pivot.order)}
    if absent := [name for name, sql in names.items() if sql is None]:
        raise UsageError(f"the files of the properties have no column {', '.join(absent)}")
    keys = {name: f"p{position}" for position, name in enumerate(pivot.keep)}
    when = f"TRY_CAST({names[pivot.order]} AS DOUBLE)"
    latest = (
        f"ARG_MAX({names[pivot.value]}, {when}) FILTER (WHERE {names[pivot.property]} = {quote_text(name)}) AS {key}"
        for name, key in keys.items()
    )
    columns = f"MIN(file) AS file, MIN(line) AS line, {names[pivot.id]} AS item, {', '.join(latest)}"
    relation = records.relation.aggregate(columns, str(names[pivot.id])).order("item")
    values = {pivot.id: "item", **keys}
    return replace(records, relation=relation, rows=relation.shape[0], values=values, typed=values, numbers={})


def _to_write(table: ImportedTable, source: Path) -> Table:
    names = [*([SOURCE_FILE] if table.files else []), *table.target.columns[2:]]
    columns = ", ".join(map(quote_name, names))
    left_out = {f"{table.table}_rows_merged_into_others": table.merged} if table.merged else {}
    return Table(
        table.target.project(columns), source, broken=table.records.broken, left_out=left_out, files=table.files
    )


def values_in_force(source: Path, to: Path, form: ImportFormat) -> tuple[Values, list[str]]:
    """Return how a plan will understand the values of an import, and a warning if that is not as the import says.

    A `contract.yaml` in `to` counts. Without it, each value counts as `contract.yaml` in `source` declares it, else as
    the format does.

    Raises:
        UsageError: a `contract.yaml` cannot be read.
    """
    own = load_declarations(source).values
    values = form.values.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})
    path = to / CONTRACT_FILE
    if source.resolve() == to.resolve() or not path.exists():
        return values, []
    kept = load_declarations(to).values
    there, here = _as_declared(kept), _as_declared(values)
    differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if not differing:
        return kept, []
    says, this_says = (_in_one_line({name: one[name] for name in differing if name in one}) for one in (there, here))
    return kept, [
        f"{path} is there already and counts: under values it declares {says}, this import {this_says}: edit the file,"
        " or remove it and import again"
    ]


def contract_in_force(source: Path, to: Path, values: Values) -> Path:
    """Return the `contract.yaml` that counts for the next import of the same folders, see `values_in_force`."""
    return (to if values != Values() or (to / CONTRACT_FILE).exists() else source) / CONTRACT_FILE


def _as_declared(values: Values) -> dict[str, object]:
    """Return values as `contract.yaml` declares them, where offsets from UTC are written as +01:00."""
    declared: dict[str, object] = values.model_dump(mode="json", exclude_defaults=True)
    if values.time_zones:
        declared["time_zones"] = {
            name: f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
            for name, minutes in values.time_zones.items()
        }
    return declared


def _in_one_line(declared: Mapping[str, object]) -> str:
    if not declared:
        return "nothing of it"
    flow: str = yaml.safe_dump(
        declared, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return f"`{flow.strip()}`"
