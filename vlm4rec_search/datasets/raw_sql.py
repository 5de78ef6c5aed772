"""A raw file as a query: the SQL behind the macro `@raw_file`."""

from collections.abc import Sequence

from sqlglot import exp, maybe_parse

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets import raw

_TYPES = {"row_number": "BIGINT", "attributes": "JSON"}


def raw_query(settings: Settings, folder: str | None, stem: str, version: str, columns: Sequence[str]) -> exp.Subquery:
    """Return a subquery over the raw file `stem`: file (`version`), row_number, `columns` as TEXT, attributes as JSON.

    `folder` overrides the data folder, relative to the project (YAML tests read their own files). A file that a data
    folder may do without has no rows where it does.

    Raises:
        UsageError: the file is missing or cannot be read.
    """
    data = settings.project / folder if folder else settings.data_dir
    look = raw.inspect_optional if stem in raw.OPTIONAL else raw.inspect
    file = look(data, stem, settings.cache)
    if file is None:
        return _nothing(columns)
    read = _from_json if file.suffix == ".jsonl" else _from_columns
    # Naming the columns of the table function lets SQLMesh resolve them, which its lint asks for.
    names = ("json",) if file.suffix == ".jsonl" else file.columns
    alias = exp.TableAlias(this=exp.to_identifier("raw"), columns=[exp.to_identifier(name, True) for name in names])
    reader = maybe_parse(raw.READERS[file.suffix], into=exp.Table, dialect="duckdb")
    reader.set("alias", alias)
    query = exp.select(
        exp.alias_(exp.Literal.string(version), "file"),
        "ROW_NUMBER() OVER () AS row_number",
        *(exp.alias_(column, name, quoted=True) for name, column in read(file, columns).items()),
    ).from_(exp.replace_placeholders(reader, exp.Literal.string(file.path)))
    return query.subquery()


def _nothing(columns: Sequence[str]) -> exp.Subquery:
    texts = [exp.alias_(exp.cast(exp.null(), "TEXT"), name, quoted=True) for name in ("file", *columns)]
    others = [exp.alias_(exp.cast(exp.null(), kind), name) for name, kind in _TYPES.items()]
    return exp.select(*texts, *others).where(exp.false()).subquery()


def _from_columns(file: raw.RawFile, columns: Sequence[str]) -> dict[str, exp.Expr]:
    """CSV and Parquet: a column is a column; a missing one is NULL."""
    cast = {
        name: exp.cast(exp.column(name, "raw", quoted=True) if name in file.columns else exp.null(), "TEXT")
        for name in columns
    }
    others = [name for name in file.columns if name not in columns]
    pairs = [part for name in others for part in (exp.Literal.string(name), exp.column(name, "raw", quoted=True))]
    return {**cast, "attributes": exp.cast(exp.Anonymous(this="JSON_OBJECT", expressions=pairs), "JSON")}


def _from_json(file: raw.RawFile, columns: Sequence[str]) -> dict[str, exp.Expr]:
    """JSON lines: a column is a key of the object; merging nulls takes the known keys out of the rest."""
    record = exp.column("json", "raw")
    paths = {name: exp.Literal.string(f"$.{name}") for name in columns}
    text = {
        name: exp.cast(exp.Anonymous(this="JSON_EXTRACT_STRING", expressions=[record.copy(), path]), "TEXT")
        for name, path in paths.items()
    }
    nothing = exp.Literal.string("{" + ", ".join(f'"{name}": null' for name in columns) + "}")
    rest = exp.func("JSON_MERGE_PATCH", record.copy(), nothing, dialect="duckdb")
    # A line that is no object has no columns; it is kept whole.
    line = exp.func("JSON_OBJECT", exp.Literal.string("line"), record.copy(), dialect="duckdb")
    is_object = exp.func("JSON_TYPE", record.copy(), dialect="duckdb").eq("OBJECT")
    return {**text, "attributes": exp.cast(exp.case().when(is_object, rest).else_(line), "JSON")}
