"""The raw tables of a data folder: `inspect` reads the files of a table, and the queries read what it found.

Each delivered file is read once, into a Parquet file of the raw contract in the cache folder, with its broken records
beside it. An unchanged file, by path, size and time of change, is not read again. The names of these Parquet files are
hashes of the content, so that the queries of the raw models, and with them `sqlmesh plan`, see every change.
"""

import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import duckdb
from sqlglot import exp, maybe_parse

from vlm4rec_search.common.errors import RunError, UsageError, one_line
from vlm4rec_search.common.paths import file_sha256, replacing_file
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.spark.paths import spark_pattern
from vlm4rec_search.common.sql import quote_text
from vlm4rec_search.datasets.columns import match_columns
from vlm4rec_search.datasets.declarations import (
    CONTRACT,
    CONTRACT_FILE,
    InteractionsDeclaration,
    TableDeclaration,
    load_declarations,
    variable,
)
from vlm4rec_search.datasets.events.compaction import INTERACTIONS, event_files
from vlm4rec_search.datasets.files import FORMATS, OTHER_SUFFIXES, SUFFIXES, broken_name, read_errors
from vlm4rec_search.datasets.forgotten import REASON, Forgotten, load_forgotten
from vlm4rec_search.datasets.records import EmptyFileError, find_lists, open_records, partition_values, with_partitions

_VERSION = 9  # of the stored results: raise it when `RawFile` or the readers change
_UNUSED_SECONDS = 30 * 86_400.0  # after which what is stored of a file is removed
OPTIONAL = ("users",)
"""Tables that a data folder may lack."""
_BROKEN = {"table_name": "TEXT", "file": "TEXT", "line": "BIGINT", "reason": "TEXT", "record": "TEXT"}
_FILES = {
    "table_name": "TEXT",
    "file": "TEXT",
    "sha256": "TEXT",
    "written": "TEXT",
    "records": "BIGINT",
    "broken": "BIGINT",
    "mapping": "TEXT",
    "notes": "TEXT",
    "warnings": "TEXT",
}


@dataclass(frozen=True)
class RawFile:
    """One delivered file.

    Attributes:
        file: its path relative to the data folder.
        key: hash of its content and of how it is read; names the Parquet files.
        sha256: hash of its content; empty if it is not read.
        written: how it is written, such as "csv, delimiter ;, utf-8", or "not read".
        rows: number of records that can be read.
        broken: number of the other records.
        columns: column of the table -> what of the file it is; an empty file has none, and no Parquet files, as
            one that is not read.
        notes: what a person should know.
        warnings: columns that look as if they belonged to the contract, and are not used, or why nothing is read.
        forgotten: number of records of forgotten shoppers, which are neither in `rows` nor in `broken`.
    """

    file: str
    key: str
    sha256: str
    written: str
    rows: int
    broken: int
    columns: dict[str, str]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    forgotten: int = 0


@dataclass(frozen=True)
class RawTable:
    """The files of one raw table, in their order; a table that the folder lacks has none.

    Attributes:
        table: items, interactions or users.
        files: the files.
        unread: the file of the records that an import could not read, if there is one.
        unread_sha256: hash of its content.
    """

    table: str
    files: tuple[RawFile, ...]
    unread: Path | None = None
    unread_sha256: str = ""

    @property
    def version(self) -> str:
        """Hash of the content of all files and of how they are read; empty without files."""
        keys = " ".join([*(file.key for file in self.files), self.unread_sha256]).strip()
        return hashlib.sha256(keys.encode()).hexdigest() if keys else ""


def find_files(folder: Path, table: str, declared: TableDeclaration) -> list[Path]:
    """Return the files of a table in a data folder, sorted by their paths.

    They are those that the patterns in `declared.files` name, or else the file `<table>.<suffix>` in any letter
    case, or all files with such a suffix in the folder `<table>`. Names that begin with a dot or an underscore are left
    out.

    Raises:
        UsageError: the folder is missing, it holds the table twice, or a declared pattern names no file.
    """
    if not folder.is_dir():
        raise UsageError(
            f"data folder {folder} does not exist: set VLM4REC_DATA_DIR to your data folder, or draw the built-in shop"
            " with `vlm4rec shop`"
        )
    if declared.files:
        found = {path for pattern in declared.files for path in matching_files(folder, pattern)}
        if empty := [pattern for pattern in declared.files if not matching_files(folder, pattern)]:
            raise UsageError(f"{folder} holds no file {empty[0]}, which is declared for {table}")
        return sorted(found)
    names = {f"{table}{suffix}" for suffix in SUFFIXES}
    single = sorted(path for path in folder.iterdir() if path.name.lower() in names and path.is_file())
    many = [path for path in matching_files(folder, f"{table}/**/*") if path.name.lower().endswith(SUFFIXES)]
    if len(single) > 1 or (single and many):
        raise UsageError(f"{single[0]} and {(single[1:] + many)[0]} hold the same table; keep one of them")
    return single or many


def unread_files(folder: Path, table: str, declared: TableDeclaration) -> dict[str, str]:
    """Return the files of data where those of a table stand which `find_files` leaves out: their names -> a warning.

    The first of each suffix stands for the others of it. Nothing is left out where the files are declared.
    """
    if declared.files:
        return {}
    read = {*find_files(folder, table, declared), folder / broken_name(table)}
    there = [path for path in folder.iterdir() if path.name.lower().startswith(f"{table}.") and path.is_file()]
    for path in folder.iterdir():
        if path.name.lower() == table and path.is_dir():
            there += matching_files(folder, f"{path.name}/**/*")
    of_suffix: dict[str, list[str]] = {}
    for path in sorted(set(there) - read):
        if path.name.lower().endswith((*SUFFIXES, *OTHER_SUFFIXES)):
            of_suffix.setdefault(path.suffix.lower(), []).append(path.relative_to(folder).as_posix())
    declare = f"declare the `files` of {table} in {CONTRACT_FILE}"
    formats = ", ".join(kind[1:] for kind in FORMATS)
    convert = f"save it as {formats}, or if it is text or has a JSON object on each line, {declare}"
    warnings = {}
    for suffix, (first, *others) in of_suffix.items():
        told = f"{first} and {len(others):,} more {suffix} files are" if others else f"{first} is"
        is_readable = first.lower().endswith(SUFFIXES)
        advice = f"put all files of {table} into one folder {table}, or {declare}" if is_readable else convert
        warnings[first] = f"{told} not read: {advice}"
    return warnings


def table_names(folder: Path, table: str) -> set[str]:
    """Return the names of the files and folders in a data folder that hold a table.

    Raises:
        UsageError: as `find_files`.
    """
    declared = load_declarations(folder).of(table)
    return {path.relative_to(folder).parts[0] for path in find_files(folder, table, declared)}


def inspect(
    folder: Path, table: str, cache: Path, events: Path | None = None, forgotten: Forgotten | None = None
) -> RawTable:
    """Read the files of a raw table to their ends, unless the folder `cache` has what they hold, and describe them.

    Of the records of forgotten shoppers nothing is kept but the line.

    Args:
        folder: the data folder.
        table: items, interactions or users.
        cache: folder of what was read.
        events: folder of `compact`, whose interactions stand behind those of the shop's own files.
        forgotten: shoppers whose records are left out.

    Raises:
        UsageError: a file of a table that is not optional is missing, or a file is empty, damaged, or lacks a required
            column; or the declarations are wrong.
    """
    declared = load_declarations(folder).of(table)
    paths = find_files(folder, table, declared)
    own = event_files(events, INTERACTIONS) if events and table == INTERACTIONS else []
    left_out = unread_files(folder, table, declared)
    if not paths and table not in OPTIONAL:
        names = ", ".join(f"{table}{suffix}" for suffix in FORMATS)
        told = f"{folder} holds none of {names}, nor a folder {table} of such files: put one there, or see"
        raise UsageError("; ".join([f"{told} `vlm4rec import --help`", *list(left_out.values())[:1]]))
    hidden = forgotten if forgotten is not None and "user_id" in CONTRACT[table] else Forgotten()
    unread = folder / broken_name(table)
    store = cache / "raw"
    files = [_inspect_file(folder, path, table, declared, store, len(paths) == 1, hidden) for path in paths]
    if events:
        plain = InteractionsDeclaration()
        files += [_inspect_file(events.parent, path, table, plain, store, False, hidden) for path in own]
    files += [_not_read(name, "", "not read", warning) for name, warning in left_out.items()]
    found = RawTable(
        table,
        tuple(_with_copies(files, declared.partitions)),
        *((unread, file_sha256(unread)) if unread.exists() else ()),
    )
    if paths and not any(file.columns for file in found.files):
        raise UsageError(f"{paths[0]} and all other files of {table} are empty: they have no header and no rows")
    if table == "items" and not any(file.rows for file in found.files):
        raise UsageError(f"{paths[0]} is empty: it has a header and no rows")
    return found


def _with_copies(files: Sequence[RawFile], partitions: Sequence[str]) -> list[RawFile]:
    """Return the files with a warning on each that has the content of an earlier one."""
    first: dict[str, str] = {}
    found = []
    for file in files:
        content = f"{file.sha256} {partition_values(file.file, partitions)}"
        earlier = first.setdefault(content, file.file)
        if earlier != file.file and file.rows:
            warning = (
                f"{file.file} has the content of {earlier}, so that each record is there twice: remove one of them"
            )
            file = replace(file, warnings=(*file.warnings, warning))
        found.append(file)
    return found


def inspect_table(settings: Settings, table: str, folder: str | None = None) -> RawTable:
    """Inspect a table of the settings' data folder with its events, or of another folder, which has none.

    Args:
        settings: data folder, cache, events and forgotten shoppers.
        table: as in `inspect`.
        folder: relative to the project, in place of the data folder.

    Raises:
        UsageError: as `inspect`, or the file of forgotten shoppers cannot be read.
    """
    forgotten = load_forgotten(settings.forgotten)
    if folder:
        return inspect(settings.require_project() / folder, table, settings.cache, forgotten=forgotten)
    return inspect(settings.data_dir, table, settings.cache, settings.events_folder, forgotten)


def image_names(cache: Path, items: RawTable) -> list[str]:
    """Return the distinct images of a catalogue that `inspect` has read, without those that are addresses."""
    paths = [str(_store(cache / "raw", file.key)) for file in items.files if file.columns]
    with closing(duckdb.connect()) as connection:
        images = connection.read_parquet(paths, hive_partitioning=False).filter("image NOT LIKE '%://%'")
        return [str(image) for (image,) in images.project("image").distinct().fetchall()]


def remove_unused(cache: Path) -> None:
    """Remove what `inspect` stored and nobody has used for 30 days; call it when all tables have been inspected."""
    for path in (cache / "raw").glob("*"):
        with suppress(FileNotFoundError):  # another plan removed it
            if time.time() - path.stat().st_mtime > _UNUSED_SECONDS:
                path.unlink()


def describe(found: RawTable) -> tuple[list[str], list[str]]:
    """Return notes and warnings about the files of a table."""
    notes = [note for file in found.files for note in file.notes]
    warnings = [warning for file in found.files for warning in file.warnings]
    warnings += [
        f"{file.file}: {file.broken} of {file.rows + file.broken} records cannot be read;"
        f" staging.rejected_{found.table} has the line, the reason and the text of each"
        for file in found.files
        if file.broken
    ]
    return list(dict.fromkeys(notes)), list(dict.fromkeys(warnings))


def raw_query(
    settings: Settings, folder: str | None, table: str, columns: Sequence[str], *, spark: bool = False
) -> exp.Subquery:
    """Return a subquery over a raw table: file, row_number, line, each of `columns` as TEXT, and attributes as JSON.

    Args:
        settings: the data folder, and the cache folder of `inspect`.
        folder: a data folder relative to the project, in place of the one in the settings; YAML tests have their own.
        table: items, interactions or users.
        columns: columns of the table, as in `CONTRACT`.
        spark: whether the query is for Spark, which reads the same Parquet files: each machine of a cluster must see
            the cache folder under the same path.

    Raises:
        UsageError: as `inspect`. A missing optional table has no rows.
    """
    found = inspect_table(settings, table, folder)
    kinds = {"file": "TEXT", "row_number": "BIGINT", "line": "BIGINT", **dict.fromkeys(columns, "TEXT")}
    if not (read := [file for file in found.files if file.columns]):
        return _empty_query({**kinds, "attributes": "JSON"})
    paths = [_store(settings.cache / "raw", file.key) for file in read]
    if spark:
        return _on_spark(paths, [file.rows for file in read], columns)
    stored = ("file", "line", *CONTRACT[table], "attributes")
    query = exp.select(
        "raw.file",
        "ROW_NUMBER() OVER () AS row_number",
        "raw.line",
        *(exp.column(name, "raw", quoted=True) for name in columns),
        "CAST(raw.attributes AS JSON) AS attributes",
    ).from_(_parquet(paths, stored))
    return query.subquery()


def _on_spark(paths: Sequence[Path], rows: Sequence[int], columns: Sequence[str]) -> exp.Subquery:
    """Return the query of `raw_query` for Spark: Parquet files of known lengths, in their order.

    Spark reads the files in parallel, and knows the number of each row in its file.
    """
    starts = itertools.accumulate(rows, initial=0)
    before = exp.Case(this=_metadata("file_name"))
    for path, start in zip(paths, starts, strict=False):
        before = before.when(exp.Literal.string(path.name), exp.Literal.number(start))
    number = exp.cast(_metadata("row_index") + 1 + before, "BIGINT")
    names = ("file", "line", *columns, "attributes")
    selected = [exp.column(name, "raw", quoted=True) for name in names]
    return exp.select(*selected, exp.alias_(number, "row_number")).from_(_parquet_on_spark(paths)).subquery()


def _metadata(name: str) -> exp.Dot:
    """Return what Spark knows of the place of a row."""
    return exp.Dot(this=exp.column("_metadata", "raw"), expression=exp.to_identifier(name))


def _parquet_on_spark(paths: Sequence[Path]) -> exp.Expr:
    """Return Parquet files of one folder as a table of Spark, with its alias `raw`."""
    pattern = spark_pattern(paths[0].parent, [path.name for path in paths])
    reader = exp.ReadParquet(expressions=[exp.Literal.string(pattern)])
    return exp.Table(this=reader, alias=exp.TableAlias(this=exp.to_identifier("raw")))


def broken_query(settings: Settings, folder: str | None, *, spark: bool = False) -> exp.Subquery:
    """Return a subquery over the records of all raw tables that cannot be read: table_name, file, line, reason, record.

    `spark` as in `raw_query`.

    Raises:
        UsageError: as `inspect`.
    """
    cache = settings.cache
    tables = [inspect_table(settings, table, folder) for table in CONTRACT]
    files = [file for table in tables for file in table.files if file.broken or file.forgotten]
    paths = [_store(cache / "raw", file.key, broken=True) for file in files]
    paths += [table.unread for table in tables if table.unread]
    if not paths:
        return _empty_query(_BROKEN)
    columns = [f"raw.{name}" for name in _BROKEN]
    if spark:  # the records that an import could not read are in the data folder
        queries = [exp.select(*columns).from_(_parquet_on_spark([path])) for path in paths]
        return (exp.union(*queries, distinct=False) if len(queries) > 1 else queries[0]).subquery()
    return exp.select(*columns).from_(_parquet(paths, tuple(_BROKEN))).subquery()


def files_query(settings: Settings, folder: str | None) -> exp.Subquery:
    """Return a subquery with a row for each delivered file: the fields of `RawFile`, lists as lines of a text.

    Raises:
        UsageError: as `inspect`.
    """
    rows = [
        (
            *(table, file.file, file.sha256, file.written, file.rows, file.broken),
            *map(
                _lines, ([f"{column}: {source}" for column, source in file.columns.items()], file.notes, file.warnings)
            ),
        )
        for table in CONTRACT
        for file in inspect_table(settings, table, folder).files
    ]
    values = exp.values([tuple(map(exp.convert, row)) for row in rows], alias="raw", columns=list(_FILES))
    columns = [exp.alias_(exp.cast(exp.column(name, "raw"), kind), name) for name, kind in _FILES.items()]
    return exp.select(*columns).from_(values).subquery()


def _inspect_file(
    folder: Path,
    path: Path,
    table: str,
    declared: TableDeclaration,
    store: Path,
    is_only: bool,
    forgotten: Forgotten,
) -> RawFile:
    stat = path.stat()
    name = path.relative_to(folder).as_posix()
    reading = f"{_VERSION} {table} {name} {variable(declared)}{forgotten.version and f' {forgotten.version}'}"
    identity = f"{reading} {path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    about = store / f"{_digest(identity)}.json"
    with suppress(OSError, ValueError, TypeError):  # nothing stored, or not readable: read the file
        stored = json.loads(about.read_text("utf-8"))
        file = RawFile(**{**stored, "notes": tuple(stored["notes"]), "warnings": tuple(stored["warnings"])})
        for in_use in (about, _store(store, file.key), _store(store, file.key, broken=True)):
            with suppress(FileNotFoundError):
                os.utime(in_use)
        if _store(store, file.key).exists():
            return file
    store.mkdir(parents=True, exist_ok=True)
    try:
        file = _read_file(folder, path, table, declared, store, reading, forgotten)
    except EmptyFileError:
        if is_only:
            raise
        sha256, warning = file_sha256(path), f"{name} is empty: it has no header and no rows"
        return _not_read(name, sha256, "empty", warning)
    with replacing_file(about) as part:
        part.write_text(json.dumps(asdict(file), ensure_ascii=False), "utf-8")
    return file


def _not_read(name: str, sha256: str, written: str, warning: str) -> RawFile:
    """Return a file of which nothing is read."""
    key = _digest(f"{_VERSION} {name} {sha256} {warning}")
    return RawFile(name, key, sha256, written, rows=0, broken=0, columns={}, notes=(), warnings=(warning,))


def _read_file(
    folder: Path,
    path: Path,
    table: str,
    declared: TableDeclaration,
    store: Path,
    reading: str,
    forgotten: Forgotten,
) -> RawFile:
    """Read a file into the Parquet files of the store."""
    sha256 = file_sha256(path)
    name = path.relative_to(folder).as_posix()
    key = _digest(f"{reading} {sha256}")
    with closing(duckdb.connect()) as connection, open_records(connection, path, table, declared) as records:
        records = with_partitions(records, name, declared.partitions)
        match = find_lists(records, match_columns(name, list(records.values), table, declared), table, name)
        columns = records.columns(match)
        sql = ", ".join(f"CAST({columns.get(name, 'NULL')} AS VARCHAR) AS {name}" for name in CONTRACT[table])
        file = f"{quote_text(name)} AS file"
        rows = f"{file}, line, {sql}, {records.attributes(match, CONTRACT[table])} AS attributes"
        broken = f"{quote_text(table)} AS table_name, {file}, line, reason, record"
        with read_errors(path):
            kept, refused = records.relation, records.broken.project(broken)
            hidden, count = _forgotten_rows(records.relation, columns.get("user_id", "NULL"), forgotten)
            if count:
                nothing = (
                    f"{quote_text(table)} AS table_name, {file}, line, {quote_text(REASON)} AS reason, '' AS record"
                )
                refused = refused.union(kept.filter(hidden).project(nothing)).order("line")
                kept = kept.filter(f"({hidden}) IS NOT TRUE")
            _write(kept.project(rows), _store(store, key))
            if records.broken_rows or count:
                _write(refused, _store(store, key, broken=True))
    sources = {column: " or ".join(names) for column, names in match.sources.items()}
    sources |= {column: declared.set[column] for column in match.templates}
    renamed = {column: new for column, new in records.attribute_names(match).items() if new != column}
    notes = (
        *match.notes,
        *(f"{name}: the column {column!r} is the attribute {new!r}" for column, new in renamed.items()),
        *(f"{name}: {note}" for note in records.notes),
    )
    notes += (f"{name}: {count:,} records of forgotten shoppers are left out",) if count else ()
    return RawFile(
        name,
        key,
        sha256,
        written=records.written,
        rows=records.rows - count,
        broken=records.broken_rows,
        columns=sources,
        notes=notes,
        warnings=match.warnings,
        forgotten=count,
    )


def _forgotten_rows(relation: duckdb.DuckDBPyRelation, user_id: str, forgotten: Forgotten) -> tuple[str, int]:
    """Return the condition that holds for the records of forgotten shoppers, and how many there are.

    Args:
        relation: the records.
        user_id: SQL expression of the shopper's id.
        forgotten: the shoppers; Python hashes each id once, as DuckDB does not know the form that ids have in staging.
    """
    if not forgotten.hashes:
        return "FALSE", 0
    text = f"CAST({user_id} AS VARCHAR)"
    ids = relation.aggregate(f"{text} AS user_id, COUNT(*) AS records", text)
    spellings, count = [], 0
    while rows := ids.fetchmany(10_000):
        found = [(user, records) for user, records in rows if user in forgotten]
        spellings += [user for user, _ in found]
        count += sum(records for _, records in found)
    return (f"{text} IN ({', '.join(map(quote_text, spellings))})" if spellings else "FALSE"), count


def matching_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder that a pattern names, sorted; hidden ones and those of writers are left out.

    Raises:
        UsageError: the pattern is none, or it is absolute.
    """
    whole = re.sub(r"\*\*(?=[^/])", "**/*", pattern)  # `**.parquet` is every such file below
    try:
        found = [path for path in folder.glob(whole) if path.is_file()]
    except (ValueError, IndexError, NotImplementedError):
        advice = "write one such as orders/*.csv or **.parquet"
        raise UsageError(f"{pattern!r} is no pattern of files in {folder}: {advice}") from None
    return sorted(path for path in found if not any(part[0] in "._" for part in path.relative_to(folder).parts))


def _store(store: Path, key: str, broken: bool = False) -> Path:
    return store / f"{key}{'.broken' if broken else ''}.parquet"


def _write(relation: duckdb.DuckDBPyRelation, path: Path) -> None:
    try:
        with replacing_file(path) as part:
            # Dictionaries of the values would take most of the time of a large file, and are read once.
            options = "FORMAT parquet, DICTIONARY_SIZE_LIMIT 1"
            relation.query("stored", f"COPY stored TO {quote_text(str(part))} ({options})")
    except (OSError, duckdb.IOException) as error:
        if isinstance(error, duckdb.IOException) and "write" not in str(error):
            raise  # a mistake of the file that is read
        why = str(error).rpartition(": ")[2] if isinstance(error, duckdb.IOException) else error.strerror
        raise RunError(
            f"what is read of the data cannot be stored in {path.parent} ({one_line(why)}): make room there, or set"
            " VLM4REC_CACHE to another folder"
        ) from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _parquet(paths: Sequence[Path], columns: Sequence[str]) -> exp.Expr:
    """Return a table function over Parquet files; SQLMesh's linter asks that the columns are named."""
    reader = maybe_parse("READ_PARQUET(?, hive_partitioning = FALSE)", into=exp.Table, dialect="duckdb")
    names = [exp.to_identifier(name, True) for name in columns]
    reader.set("alias", exp.TableAlias(this=exp.to_identifier("raw"), columns=names))
    files = exp.Array(expressions=[exp.Literal.string(str(path)) for path in paths])
    return exp.replace_placeholders(reader, files)


def _empty_query(columns: dict[str, str]) -> exp.Subquery:
    nulls = [exp.alias_(exp.cast(exp.null(), kind), name, quoted=True) for name, kind in columns.items()]
    return exp.select(*nulls).where(exp.false()).subquery()


def _lines(texts: Sequence[str]) -> str | None:
    return "\n".join(texts) or None
