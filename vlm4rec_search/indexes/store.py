"""A release file in memory: vectors and postings as arrays, users and filters by query."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypedDict

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from vlm4rec_search import analysis
from vlm4rec_search.bm25 import BOOSTS
from vlm4rec_search.errors import RunError, UsageError
from vlm4rec_search.indexes.meta import SCHEMA_VERSION, ReleaseMeta
from vlm4rec_search.indexes.scan import Vectors
from vlm4rec_search.queries.filters import COLUMNS, Filter
from vlm4rec_search.queries.legs import Profile, Word

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_USER = """
SELECT vector, list_transform(history, lambda part: part.document), list_transform(history, lambda part: part.weight),
    seen, terms
FROM users WHERE user_id = ?
"""
# A value that no document has as a text is taken as a number: 6.50 finds 6.5, while "00001" and "1" stay apart.
_EQUAL = """
WITH asked AS (SELECT unnest($values) AS value), of_field AS (FROM facets WHERE field = $field)
SELECT document FROM of_field WHERE value IN (SELECT value FROM asked)
UNION ALL
SELECT document FROM of_field WHERE number IN (
    SELECT TRY_CAST(value AS DOUBLE) FROM asked WHERE value NOT IN (SELECT value FROM of_field)
)
"""
_RANGE = """
SELECT document FROM facets WHERE field = $field
    AND CASE WHEN $low_open THEN number > $low ELSE number >= $low END
    AND CASE WHEN $high_open THEN number < $high ELSE number <= $high END
"""


class Record(TypedDict):
    """What a hit shows of its document."""

    item_id: str
    title: str
    category: str | None
    price: float | None


class User(NamedTuple):
    """A known user: profile, and the documents of the history (int64) with their weights (float64), and those seen."""

    profile: Profile
    history: Numbers
    weights: npt.NDArray[np.float64]
    seen: Numbers


class Store:
    """One release, opened read-only and loaded once.

    Attributes:
        meta: what made the release.
        vectors: float32 (n, d), unit rows, by document.
        terms: row of each term in `postings`.
        postings: boosted BM25, terms x documents, float32.
        interactions: float32 (n,), of the popularity tier.
    """

    def __init__(self, path: Path) -> None:
        """Open and load a release file.

        Raises:
            UsageError: the file is of another schema version, or its words are another analyzer's.
            RunError: it cannot be read.
        """
        with _readable(path), ExitStack() as closing:
            self._connection = closing.enter_context(duckdb.connect(str(path), read_only=True))
            self._load(path)
            closing.pop_all()

    def _load(self, path: Path) -> None:
        row = self._connection.execute("SELECT schema_version, analyzer FROM release").fetchone()
        needed = (SCHEMA_VERSION, analysis.ID)
        if row != needed:
            raise UsageError(
                f"the release {path.stem} has schema version and analyzer {row}, this package reads {needed}: "
                "publish again with `vlm4rec index`"
            )
        self.meta = ReleaseMeta(**self._table("SELECT * FROM release").to_pylist()[0])
        self.vectors = self._load_vectors()
        self.terms, self.postings = self._load_postings()
        self._records = self._table("SELECT item_id, title, category, price FROM documents ORDER BY document")
        self.interactions = np.zeros(self.meta.documents, dtype=np.float32)
        popular = self._table("SELECT document, interactions FROM popularity")
        self.interactions[popular["document"].to_numpy()] = popular["interactions"].to_numpy()

    def _table(self, sql: str) -> pa.Table:
        return self._connection.execute(sql).to_arrow_table()

    def _load_vectors(self) -> Vectors:
        column = self._table("SELECT vector FROM vectors ORDER BY document")["vector"]
        parts = [chunk.flatten().to_numpy() for chunk in column.chunks]
        return np.concatenate(parts).reshape(-1, self.meta.dimension)

    def _load_postings(self) -> tuple[dict[str, int], sparse.csr_array]:
        table = self._table("SELECT field, term, df, documents, scores FROM postings").combine_chunks()
        names = table["term"].combine_chunks().dictionary_encode()
        boosts = np.array([BOOSTS[field] for field in table["field"].to_pylist()], dtype=np.float32)
        sizes = table["df"].to_numpy()
        rows = np.repeat(names.indices.to_numpy(), sizes)
        columns = table["documents"].combine_chunks().flatten().to_numpy()
        scores = table["scores"].combine_chunks().flatten().to_numpy() * np.repeat(boosts, sizes)
        terms = names.dictionary.to_pylist()
        shape = (len(terms), self.meta.documents)
        matrix = sparse.coo_array((scores, (rows, columns)), shape=shape).tocsr()
        matrix.sort_indices()
        return {term: row for row, term in enumerate(terms)}, matrix

    def user(self, user_id: str) -> User | None:
        """Return what the release knows of a user, None for an unknown one."""
        row = self._connection.cursor().execute(_USER, [user_id]).fetchone()
        if row is None:
            return None
        vector, history, weights, seen, terms = row
        words = {part["term"]: Word(part["word"], part["weight"]) for part in terms}
        profile = Profile(np.array(vector, dtype=np.float32), words)
        return User(profile, np.array(history, np.int64), np.array(weights, np.float64), np.array(seen, np.int64))

    def any_user(self) -> str | None:
        """Return the id of one known user, None where there are none."""
        row = self._connection.cursor().execute("SELECT user_id FROM users LIMIT 1").fetchone()
        return None if row is None else str(row[0])

    def rows(self, weights: Mapping[str, float]) -> tuple[Numbers, Vectors]:
        """Return the rows of the terms that the postings have, and their weights (float32)."""
        known = [(self.terms[term], weight) for term, weight in weights.items() if term in self.terms]
        return np.array([row for row, _ in known], np.int64), np.array([weight for _, weight in known], np.float32)

    def scores_of(self, document: int, rows: Sequence[int]) -> list[float]:
        """Return the boosted BM25 of one document for each of these rows of the postings."""
        found = []
        for row in rows:
            low, high = self.postings.indptr[row : row + 2]
            place = low + np.searchsorted(self.postings.indices[low:high], document)
            hit = place < high and self.postings.indices[place] == document
            found.append(float(self.postings.data[place]) if hit else 0.0)
        return found

    def matching(self, condition: Filter) -> Mask:
        """Return which documents fulfil a condition, bool (n,).

        Raises:
            UsageError: no document has such a field.
        """
        parameters: dict[str, object] = {"field": condition.field}
        if condition.values:
            parameters["values"] = list(condition.values)
        else:
            parameters |= {name: getattr(condition, name) for name in ("low", "high", "low_open", "high_open")}
        cursor = self._connection.cursor().execute(_EQUAL if condition.values else _RANGE, parameters)
        found = np.asarray(cursor.fetchnumpy()["document"], dtype=np.int64)
        if len(found) == 0 and condition.field not in self.fields():
            names = ", ".join(sorted(self.fields()))
            raise UsageError(f"cannot filter on {condition.field!r}: the fields are {names}")
        mask = np.zeros(self.meta.documents, dtype=np.bool_)
        mask[found] = True
        return mask

    def fields(self) -> set[str]:
        """Return the fields that can be filtered on."""
        rows = self._connection.cursor().execute("SELECT DISTINCT field FROM facets").fetchall()
        return {field for (field,) in rows} | set(COLUMNS)

    def records(self, documents: Numbers | Sequence[int]) -> list[Record]:
        """Return item_id, title, category and price of documents, in the given order."""
        rows: list[Record] = self._records.take(pa.array(documents)).to_pylist()
        return rows

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        detail = str(error).splitlines()[0]
        raise RunError(f"cannot read the release {path} ({detail}): publish again with `vlm4rec index`") from None
