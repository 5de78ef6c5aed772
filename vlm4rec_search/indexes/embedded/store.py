"""A release file that is open for searches.

Vectors, postings, neighbours, popularity, what hits show and the attributes of documents are arrays: in memory, or
mapped from files where several processes share them and where the release is large. Users, segments and words stay in
the file, and each read of them is a query; so is each condition of a filter. No query binds a parameter, see
`hex_text`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa
from scipy import sparse

from vlm4rec_search.common.bm25 import BOOSTS
from vlm4rec_search.common.errors import RunError, first_line
from vlm4rec_search.common.sql import hex_text, hex_texts
from vlm4rec_search.common.vectors import Ints, Mask, Vectors
from vlm4rec_search.indexes.embedded.arrays import AnyArray, Loaded, Rows, map_arrays, read_arrays
from vlm4rec_search.indexes.embedded.shortlist import Shortlist, Signs, sign_bits
from vlm4rec_search.indexes.release import CURE, check_readable
from vlm4rec_search.search.filters import Filter, check_field
from vlm4rec_search.search.query import Kind
from vlm4rec_search.search.release import ReleaseMeta

MAPPED_FROM = 100_000
"""Documents from which on arrays are mapped from files even for one process: it opens without reading them."""
OPENED = ".open-"
"""How the names of links begin under which a process opens a replaced file."""
_MEMORY = "2GB"  # of DuckDB: pages that were read, and what it sorts; the rest goes to a folder beside the file
_BATCH = 50_000  # documents whose vectors or pairs are in memory at once while a release is loaded
_VECTORS: Mapping[Kind, tuple[str, str]] = {  # table and column of the vectors of each kind
    "semantic": ("vectors", "vector"),
    "fitted": ("fitted", "fitted"),
    "photo": ("photos", "photo"),
}
_PARTS = ("data", "indices", "indptr")  # of a sparse matrix
_BETWEEN = """
SELECT document, {column} AS vector FROM {table} WHERE document >= {low} AND document < {high} ORDER BY document
"""
_PAIRS = """
WITH pairs AS (
    SELECT document, unnest({list}) AS pair, generate_subscripts({list}, 1) AS rank FROM {list}
    WHERE document >= {low} AND document < {high}
)
SELECT pairs.document, documents.document AS neighbour, pairs.pair.{value} AS value
FROM pairs INNER JOIN documents ON documents.item_id = pairs.pair.item_id ORDER BY pairs.document, pairs.rank
"""
_FACETS = "SELECT document, field, value FROM facets WHERE document >= {low} AND document < {high}"
_first_opened: dict[Path, int] = {}  # inode of the file that this process opened first under a path


class Store:
    """One release file, opened read-only.

    Attributes:
        meta: of the release.
        vectors: float32 (n, d), a unit vector for each document.
        fitted: float32 (n, w), the learned unit vector of each document, zeros without one; w is 0 without any.
        is_fitted: which documents have one, bool (n,).
        has_photo: which documents have a vector of their photo, bool (n,).
        signs: the signs of the vectors of a kind, in a large release; see `sign_bits`.
        shortlists: those of `signs` that find the nearest vectors well enough to stand for the scan of all.
        terms: row of each term in `postings`.
        postings: BM25 scores with the boosts of the fields, terms x documents, float32.
        neighbours: similarity of each document's co-purchases, float64 (n, n).
        ease: weight of each document in the EASE scores of others, float64 (n, n).
        popularity: score of each document, float32 (n,); 0 without interactions.
        numbers: number of the document of each item id.
    """

    def __init__(self, path: Path, shared: bool = False) -> None:
        """Open a release file and load its arrays.

        Args:
            path: of the file.
            shared: map the arrays from files beside it, so that several processes share their memory, see `map_arrays`.

        Raises:
            UsageError: the file has another schema version, or an analyzer that this package does not have.
            RunError: the file cannot be read.
        """
        self.path = path
        with _duckdb_errors(path), ExitStack() as closing:
            self._connection = closing.enter_context(_connect(path))
            self._connection.execute(f"SET memory_limit = '{_MEMORY}'")
            self._load(path, shared)
            closing.pop_all()

    def _load(self, path: Path, shared: bool) -> None:
        row = self._connection.execute("SELECT schema_version, analyzer FROM release").fetchone()
        check_readable(path.stem, *(row or (None, None)))
        self.meta = read_meta(self._connection)
        self._lengths = self._load_lengths()
        named = path.with_name(f"{self.meta.name}{path.suffix}")  # also while the file is built
        mapped = shared or self.meta.documents >= MAPPED_FROM
        if mapped:
            map_arrays(named, self._load_mapped, self._use)
        else:
            self._use(read_arrays(self._load_arrays))
        self.has_photo = np.zeros(self.meta.documents, dtype=np.bool_)
        if self.meta.image_encoder:  # pyarrow needs pandas for a column without rows
            self.has_photo[_numbers(self._table("SELECT document FROM photos")["document"])] = True

    def _use(self, arrays: Mapping[str, AnyArray]) -> None:
        """Search in these arrays.

        Their sizes are compared, but not every number: that would read the files, which are mapped to save that.

        Raises:
            KeyError: one is missing.
            ValueError, OSError: one is damaged or of another size.
        """
        self._records = _read_stream(arrays["records"])
        self.numbers = {item: number for number, item in enumerate(self._records["item_id"].to_pylist())}
        self._ids = np.array(list(self.numbers), dtype=object)
        self._mapped_photos = arrays.get("photos")
        self._mapped_facets = _read_stream(arrays["facets"]) if "facets" in arrays else None
        self.vectors, self.fitted, self.popularity = (arrays[name] for name in ("vectors", "fitted", "popularity"))
        self.is_fitted = arrays["is_fitted"]
        of_documents = [self._ids, self.vectors, self.fitted, self.popularity, self.is_fitted]
        of_documents += [each for each in (self._mapped_photos, self._mapped_facets) if each is not None]
        self.signs: dict[Kind, Signs] = {kind: arrays[f"signs.{kind}"] for kind in self._lengths}
        of_documents += [signs.T for signs in self.signs.values()]
        if any(len(array) != self.meta.documents for array in of_documents):
            raise ValueError("its arrays do not fit together")
        if self.vectors.shape[1] != self.meta.dimension:
            raise ValueError(f"its vectors have {self.vectors.shape[1]} numbers in place of {self.meta.dimension}")
        self.shortlists = {
            kind: Shortlist(self.signs[kind], length) for kind, length in self._lengths.items() if length
        }
        terms = arrays["terms"].tobytes().decode()
        self.terms = {term: row for row, term in enumerate(terms.split("\n") if terms else ())}
        self.postings = self._matrix(arrays, "postings", len(self.terms))
        self.neighbours, self.ease = (self._matrix(arrays, name, len(self._ids)) for name in ("neighbours", "ease"))

    def _load_lengths(self) -> dict[Kind, int | None]:
        """Return the length of the shortlist of each kind of vectors that has signs, None for one that is not used."""
        return dict(self._connection.execute("SELECT kind, length FROM shortlists").fetchall())

    def _load_arrays(self) -> Loaded:
        """Read the arrays by name.

        A matrix is three of them, the terms are one text with a line for each, and tables are Arrow streams.
        """
        terms, postings = self._load_postings()
        matrices = {
            "postings": postings,
            "neighbours": self._load_pairs("neighbours", "similarity"),
            "ease": self._load_pairs("ease", "weight"),
        }
        parts = {f"{name}.{part}": getattr(matrix, part) for name, matrix in matrices.items() for part in _PARTS}
        return {
            "records": self._load_records(),
            "vectors": self._load_vectors("semantic"),
            "fitted": self._load_vectors("fitted"),
            "is_fitted": self._load_is_fitted(),
            **{f"signs.{kind}": sign_bits(self._load_vectors(kind).batches) for kind in self._lengths},
            "terms": np.frombuffer("\n".join(terms).encode(), dtype=np.uint8),
            "popularity": self._load_popularity(),
            **parts,
        }

    def _load_mapped(self) -> Loaded:
        """Read the arrays for files, photos and attributes too: a mapped array takes memory only where it is used."""
        photos = {"photos": self._load_vectors("photo")} if self.meta.image_encoder else {}
        return {**self._load_arrays(), **photos, "facets": self._load_facets()}

    @cached_property
    def photos(self) -> Vectors:
        """The unit vectors of photos, float32 (n, p), zeros without one; the first search by photo loads them."""
        if self._mapped_photos is not None:
            return self._mapped_photos
        with _duckdb_errors(self.path):
            return read_arrays(lambda: {"photos": self._load_vectors("photo")})["photos"]

    @cached_property
    def _facets(self) -> pa.Table:
        """The lists of `_load_facets`; the first search that needs attributes loads them."""
        if self._mapped_facets is not None:
            return self._mapped_facets
        with _duckdb_errors(self.path):
            return _read_stream(self._load_facets())

    def _matrix(self, arrays: Mapping[str, AnyArray], name: str, rows: int) -> sparse.csr_array:
        data, indices, indptr = (arrays[f"{name}.{part}"] for part in _PARTS)
        if indptr[-1] != len(data):  # scipy would leave out the rest
            raise ValueError("its arrays do not fit together")
        return sparse.csr_array((data, indices, indptr), (rows, len(self._ids)))

    def _load_popularity(self) -> Vectors:
        popularity = np.zeros(self.meta.documents, dtype=np.float32)
        scores = self._table("SELECT document, score FROM popularity")
        popularity[_numbers(scores["document"])] = _numbers(scores["score"])
        return popularity

    def _table(self, sql: str) -> pa.Table:
        return self._connection.execute(sql).to_arrow_table()

    def _load_pairs(self, name: str, value: str) -> sparse.csr_array:
        """Return a list of each document as a row, in the order of the list."""
        lows = range(0, max(self.meta.documents, 1), _BATCH)  # the pairs of a large release do not fit into memory
        queries = [_PAIRS.format(list=name, value=value, low=low, high=low + _BATCH) for low in lows]
        parts = [[_numbers(column) for column in self._table(query).columns] for query in queries]
        documents, neighbours, values = map(np.concatenate, zip(*parts, strict=True))
        starts = np.searchsorted(documents, np.arange(self.meta.documents + 1))
        return sparse.csr_array((values, neighbours, starts), shape=(self.meta.documents, self.meta.documents))

    def _load_records(self) -> AnyArray:
        return _stream(self._table("SELECT item_id, title, category, price FROM documents ORDER BY document"))

    def _load_facets(self) -> AnyArray:
        """Return the fields and the values of each document, two lists that go together."""
        lows = range(0, max(self.meta.documents, 1), _BATCH)
        return _stream(pa.concat_tables(self._facets_between(low, low + _BATCH) for low in lows))

    def _facets_between(self, low: int, high: int) -> pa.Table:
        facets = self._table(_FACETS.format(low=low, high=high))  # by field, document and value, as they were written
        documents = _numbers(facets["document"])
        order = np.argsort(documents, kind="stable")
        starts = np.searchsorted(documents[order], np.arange(low, min(high, self.meta.documents) + 1))
        offsets = _arrow(starts).cast(pa.int32())
        columns = [facets[name].take(_arrow(order)).combine_chunks() for name in ("field", "value")]
        return pa.table([pa.ListArray.from_arrays(offsets, column) for column in columns], ["fields", "values"])

    def _load_vectors(self, kind: Kind) -> Rows:
        """Return the vectors of a kind; a document without one has zeros."""
        table, column = _VECTORS[kind]
        widths = {
            "semantic": self.meta.dimension,
            "fitted": self.meta.fitted_dimension,
            "photo": self.meta.image_dimension,
        }
        width = widths[kind] or 0

        def batches() -> Iterator[Vectors]:
            for low in range(0, self.meta.documents, _BATCH):
                batch = np.zeros((min(_BATCH, self.meta.documents - low), width), dtype=np.float32)
                if width:
                    sql = _BETWEEN.format(table=table, column=column, low=low, high=low + _BATCH)
                    found = self._connection.cursor().execute(sql).to_arrow_table()
                    batch[_numbers(found["document"]) - low] = _numbers(found["vector"]).reshape(-1, width)
                yield batch

        return Rows((self.meta.documents, width), batches())

    def _load_is_fitted(self) -> Mask:
        return np.concatenate([batch.any(axis=1) for batch in self._load_vectors("fitted").batches])

    def vectors_of(self, kind: Kind) -> Vectors:
        """Return the vectors that retrievers of a kind compare with: learned ones, those of photos, else `vectors`."""
        if kind == "photo":
            return self.photos
        return self.fitted if kind == "fitted" else self.vectors

    def some_of(self, kind: Kind) -> Mask | None:
        """Return which documents a kind can find at all, bool (n,), None for all."""
        return {"fitted": self.is_fitted, "photo": self.has_photo}.get(kind)

    def _load_postings(self) -> tuple[list[str], sparse.csr_array]:
        table = self._table("SELECT field, term, df, documents, scores FROM postings")
        names = table["term"].combine_chunks().dictionary_encode()
        boosts = np.array([BOOSTS[field] for field in table["field"].to_pylist()], dtype=np.float32)
        sizes = _numbers(table["df"])
        rows = np.repeat(np.from_dlpack(names.indices), sizes)
        columns = _numbers(table["documents"])
        scores = _numbers(table["scores"]) * np.repeat(boosts, sizes)
        terms: list[str] = names.dictionary.to_pylist()
        shape = (len(terms), self.meta.documents)
        matrix = sparse.coo_array((scores, (rows, columns)), shape=shape).tocsr()
        matrix.sort_indices()
        return terms, matrix

    def user(self, user_id: str, interests: bool) -> dict[str, Any] | None:
        """Return the row of the table `users`, None for an unknown shopper; without `interests`, see `users`."""
        sql = f"SELECT {_columns(interests)} FROM users WHERE user_id = {hex_text(user_id)}"  # noqa: S608
        return next(iter(self._rows(sql)), None)

    def users(self, user_ids: Sequence[str], interests: bool) -> dict[str, dict[str, Any]]:
        """Return the rows of the table `users` by id; an unknown shopper is missing.

        Args:
            user_ids: the shop's ids.
            interests: also the column `interests`, a fifth of the time for a shopper.
        """
        sql = f"SELECT {_columns(interests)} FROM users WHERE user_id IN {hex_texts(user_ids)}"  # noqa: S608
        return {row["user_id"]: row for row in self._rows(sql)}

    def ids(self, documents: Ints) -> list[str]:
        """Return the item ids of documents."""
        ids: list[str] = self._ids[documents].tolist()
        return ids

    def segment(self, name: str) -> dict[str, float]:
        """Return the scores of the most popular items of a segment by item id, empty for an unknown segment."""
        rows = self._rows(f"SELECT items FROM segments WHERE segment = {hex_text(name)}")  # noqa: S608
        return {item["item_id"]: item["score"] for row in rows for item in row["items"]}

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        with _duckdb_errors(self.path):
            cursor = self._connection.cursor().execute(sql)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _fetch(self, sql: str) -> list[tuple[Any, ...]]:
        with _duckdb_errors(self.path):
            return self._connection.cursor().execute(sql).fetchall()

    def any_user(self) -> str | None:
        """Return the id of some shopper, None for a release without shoppers."""
        rows = self._fetch("SELECT user_id FROM users LIMIT 1")
        return str(rows[0][0]) if rows else None

    def sample_users(self, kind: Kind, count: int) -> list[Vectors]:
        """Return a matrix of the vectors of some shoppers of the wanted kind, nothing where no shopper has one."""
        column = "fitted" if kind == "fitted" else "vector"
        sql = f"SELECT {column} FROM users WHERE {column} IS NOT NULL ORDER BY md5(user_id) LIMIT {int(count)}"  # noqa: S608
        rows = self._fetch(sql)
        return [np.array([vector for (vector,) in rows], dtype=np.float32)] if rows else []

    def words(self, documents: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
        """Return the weighted words of documents; a document without words is missing."""
        sql = f"SELECT document, words FROM words WHERE document IN {_numbers_sql(documents)}"  # noqa: S608
        return dict(self._fetch(sql))

    def documents(self, item_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the rows of the table `documents` by id, in the order of the ids."""
        sql = f"SELECT * FROM documents WHERE item_id IN {hex_texts(item_ids)}"  # noqa: S608
        rows = {row["item_id"]: row for row in self._rows(sql)}
        return {item: rows[item] for item in item_ids if item in rows}

    def rows(self, weights: Mapping[str, float]) -> tuple[Ints, Vectors]:
        """Return the rows of `postings` for the terms that it contains, and the weights of these terms (float32)."""
        known = [(self.terms[term], weight) for term, weight in weights.items() if term in self.terms]
        return np.array([row for row, _ in known], np.int64), np.array([weight for _, weight in known], np.float32)

    def postings_of(self, rows: Sequence[int] | Ints, documents: Ints) -> Vectors:
        """Return cells of `postings`, float32 (r, b); a few of them are found faster than scipy cuts them out.

        Args:
            rows: (r,), of terms.
            documents: (b,), in any order.
        """
        cells = np.zeros((len(rows), len(documents)), dtype=np.float32)
        starts, ends = self.postings.indptr[rows].tolist(), self.postings.indptr[1:][rows].tolist()
        for place, (low, high) in enumerate(zip(starts, ends, strict=True)):
            of_term = self.postings.indices[low:high]  # ascending
            found = np.searchsorted(of_term, documents)
            is_there = of_term.take(found, mode="clip") == documents
            cells[place, is_there] = self.postings.data[low:high][found[is_there]]
        return cells

    def matching(self, condition: Filter) -> Mask:
        """Return which documents fulfil a condition, bool (n,).

        Raises:
            UsageError: no document has the field of the condition.
        """
        holds = f"value IN {hex_texts(condition.values)}" if condition.values else _between(condition)
        sql = f"SELECT document FROM facets WHERE field = {hex_text(condition.field)} AND {holds}"  # noqa: S608
        with _duckdb_errors(self.path):
            documents = _numbers(self._connection.cursor().execute(sql).to_arrow_table()["document"])
        if len(documents) == 0:
            check_field(condition.field, self.fields)
        mask = np.zeros(self.meta.documents, dtype=np.bool_)
        mask[documents] = True
        return mask

    @cached_property
    def fields(self) -> frozenset[str]:
        """The attributes that documents have."""
        return frozenset(field for (field,) in self._fetch("SELECT DISTINCT field FROM facets"))

    def values(self, field: str, most: int) -> list[str]:
        """Return the most frequent values of a field, sorted."""
        sql = f"SELECT value FROM facets WHERE field = {hex_text(field)}"  # noqa: S608
        rows = self._fetch(f"{sql} GROUP BY value ORDER BY COUNT(*) DESC, value LIMIT {most}")
        return sorted(value for (value,) in rows)

    def facets(self, documents: Ints) -> list[dict[str, list[str]]]:
        """Return the values of each document by field."""
        rows = self._facets.take(_arrow(documents))
        found: list[dict[str, list[str]]] = []
        for fields, values in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            found.append({})
            for field, value in zip(fields, values, strict=True):
                found[-1].setdefault(field, []).append(value)
        return found

    def records(self, documents: Ints | Sequence[int]) -> list[dict[str, Any]]:
        """Return item_id, title, category and price of documents, in the given order."""
        records: list[dict[str, Any]] = self._records.take(_arrow(documents)).to_pylist()
        return records

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def read_meta(connection: duckdb.DuckDBPyConnection) -> ReleaseMeta:
    """Return the metadata of a release file; what version 0.1 did not write is None.

    Raises:
        TypeError, ValueError: the file does not hold the metadata of a release.
    """
    (row,) = connection.execute("SELECT * FROM release").to_arrow_table().to_pylist()
    return ReleaseMeta(**row)


def _stream(table: pa.Table) -> AnyArray:
    """Return a table as an Arrow stream of one batch: each look at some rows would join several ones."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def _read_stream(stream: AnyArray) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(stream)).read_all()


def _arrow(numbers: Ints | Sequence[int]) -> pa.Array:
    """Return numbers as an Arrow array; `pa.array` would import pandas."""
    buffer = pa.py_buffer(np.asarray(numbers, dtype=np.int64).tobytes())
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, buffer])


def _numbers(column: pa.ChunkedArray) -> AnyArray:
    """Return the numbers of a column without missing ones, or of all its lists one after the other, in a row.

    Arrow's own `to_numpy` imports pandas, which a search for a text does not need: 30 MB and a third of a second.
    """
    chunks = column.chunks or [column.combine_chunks()]  # of an empty column
    numbers = [chunk.flatten() if pa.types.is_list(column.type) else chunk for chunk in chunks]
    return np.concatenate([np.from_dlpack(part) for part in numbers])


def _columns(interests: bool) -> str:
    return "*" if interests else "* EXCLUDE (interests)"


def _between(condition: Filter) -> str:
    low, high = (f"'{float(bound)}'::DOUBLE" for bound in (condition.low, condition.high))
    above, below = ">" if condition.low_open else ">=", "<" if condition.high_open else "<="
    return f"number {above} {low} AND number {below} {high}"


def _numbers_sql(numbers: Sequence[int]) -> str:
    return f"(SELECT unnest([{', '.join(str(int(number)) for number in numbers)}]::BIGINT[]))"


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the file that is at a path now.

    DuckDB has one database for each path in a process, and would go on with the old file where `vlm4rec forget` has
    replaced one that is still open: a link has a path that no database had before, nor has one in another process with
    the same id in another container.
    """
    inode = path.stat().st_ino
    if _first_opened.setdefault(path.resolve(), inode) == inode:
        return duckdb.connect(str(path), read_only=True)
    link = path.with_name(f"{OPENED}{uuid4().hex}.duckdb")
    link.hardlink_to(path)
    try:
        return duckdb.connect(str(link), read_only=True)
    finally:
        link.unlink(missing_ok=True)


@contextmanager
def _duckdb_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        detail = first_line(error)
        raise RunError(f"cannot read the release {path} ({detail}): {CURE}") from None
