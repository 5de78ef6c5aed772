"""The product's own ranking: searches for each user in a release built from the tables of the cut."""

from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.paths import working_folder
from vlm4rec_search.common.vectors import Ints, Mask, Scores
from vlm4rec_search.evaluation.data import Split, Targets
from vlm4rec_search.evaluation.systems.base import NOT_FOUND, System, UpperBound
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.blocks import rank_users, retrieve_users
from vlm4rec_search.indexes.embedded.pointer import current_release
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.query import KINDS, Mode, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.searcher import Searcher


class SplitReleases:
    """The release of a split's tables, built once for all systems that search it."""

    def __init__(self) -> None:
        self._split: Split | None = None
        self._opened = ExitStack()

    def open(self, split: Split) -> EmbeddedBackend:
        """Return the open release of the split; that of another split before it is removed.

        Raises:
            UsageError: as `open_split`.
        """
        if self._split is not split:
            self._opened.close()
            folder = self._opened.enter_context(working_folder())
            self._backend = EmbeddedBackend(open_split(split, folder))
            self._split = split
        return self._backend


class Product(System):
    """Ranks by `vlm4rec search --user U --mode ...`: the same retrievers, fusion and release file.

    Attributes:
        split: what is ranked, of the last fit.
    """

    split: Split

    def __init__(
        self, name: str, mode: Mode, ranking: Ranking | None = None, releases: SplitReleases | None = None
    ) -> None:
        """Search in a mode.

        Args:
            name: of the system.
            mode: of the searches.
            ranking: None takes the configuration that comes with the package.
            releases: shared with other systems; None builds a release for this system alone.
        """
        self.name, self.mode, self._ranking = name, mode, ranking
        self._releases = releases or SplitReleases()

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Build a release of the candidates and of the documents in the histories.

        Raises:
            UsageError: the split has no tables, or learned vectors are asked for that its tables do not have.
        """
        self.split = split
        self._backend = self._releases.open(split)
        if self.mode == "fitted" and not self._backend.release.fitted:
            raise UsageError(
                "no fit ends before the histories that are evaluated: run `vlm4rec fit`; --protocol leave-one-out and"
                " simulated worlds use none"
            )
        self._index = Searcher(self._backend, ranking=self._ranking)
        self._places = split.catalogue.positions(list(self._backend.store.numbers))

    def among(self, split: Split) -> System:
        """Return the same search for fewer documents: its first `depth` hits are others."""
        other = copy(self)
        other.split = split
        return other

    def scores(self, users: Ints) -> Scores:
        """Return scores float32 (b, n); only the first `depth` hits of each user are ranked."""
        scores = np.full((len(users), self.split.shape[1]), NOT_FOUND, dtype=np.float32)
        queries = [self._query(user) for user in users.tolist()]
        found = rank_users(self._backend, queries, self._index.ranking, among=self._allowed())
        for row, (_, ranked, _) in enumerate(found):
            # Scores follow the ranks: different fused scores may be the same number in float32.
            scores[row, self._places[ranked.documents]] = -np.arange(len(ranked.documents), dtype=np.float32)
        return scores

    def _allowed(self) -> Mask | None:
        """Return which documents are candidates, bool (d,), None for all."""
        allowed: Mask = self.split.candidates[self._places]
        return None if allowed.all() else allowed

    def _query(self, user: int) -> Query:
        return Query(
            user=str(self.split.user_ids[user]),
            mode=self.mode,
            k=self._index.ranking.depth,
            include_seen=self.split.repeat and not self._index.ranking.buy_again,
            buy_again=None if self.split.repeat else False,
        )

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Return the sentences of `vlm4rec search --explain`."""
        query = replace(self._query(user), explain=True)
        sentences = {hit.item_id: hit.explanation.sentence for hit in self._index.search(query).hits if hit.explanation}
        return [sentences.get(str(item), "") for item in self.split.catalogue.item_ids[items]]


class OracleOfLegs(Product, UpperBound):
    """The candidates of all retrievers of the hybrid search, the relevant ones first: what the best fusion could reach.

    What no retriever finds among its first `depth` candidates stays out.
    """

    def __init__(self, ranking: Ranking | None = None, releases: SplitReleases | None = None) -> None:
        super().__init__("oracle-of-legs", "hybrid", ranking, releases)
        self.setting = "upper bound"

    def reveal(self, targets: Targets) -> None:
        """Learn what has to be found."""
        self._targets = targets

    def scores(self, users: Ints) -> Scores:
        """Return 1 for relevant candidates and 0 for the others, float32 (b, n)."""
        scores = np.full((len(users), self.split.shape[1]), NOT_FOUND, dtype=np.float32)
        equal: dict[str, float] = dict.fromkeys(KINDS, 1.0)
        queries = [replace(self._query(user), weights=equal) for user in users.tolist()]
        relevant = self._targets.relevant[np.searchsorted(self._targets.users, users)].toarray()
        found_by_all = retrieve_users(self._backend, queries, self._index.ranking, among=self._allowed())
        for row, (_, retrieved) in enumerate(found_by_all):
            for candidates in retrieved.candidates:
                found = self._places[candidates.documents]
                scores[row, found] = relevant[row, found]
        return scores


def open_split(split: Split, folder: Path, users: Ints | None = None) -> Store:
    """Build a release of a split's tables, with its candidates as the documents, in a folder, and open it.

    Args:
        split: of the tables.
        folder: of the release.
        users: those who will be asked, rows of `split.user_ids`; None for all.

    Raises:
        UsageError: the split has no tables, or they have no documents.
    """
    if split.tables is None:
        raise UsageError("the product's ranking needs the tables of the search layer")
    allowed = set(split.catalogue.item_ids[split.candidates])
    documents = split.tables.tables.documents
    kept = pa.array([item in allowed for item in documents["item_id"].to_pylist()])
    given = replace(split.tables.tables, documents=documents.filter(kept))
    if users is not None:
        asked = pa.array(split.user_ids[users], pa.string())
        given = replace(given, users=given.users.filter(pc.is_in(given.users["user_id"], asked)))
    build_release(folder, given, split.tables.new_release("evaluation"))
    path = current_release(folder)
    if path is None:
        raise UsageError("the tables have no documents")
    return Store(path)
