"""The embedded index: an exact scan over the vectors of one release, and BM25 over its postings, in memory."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlm4rec_search.errors import UsageError
from vlm4rec_search.indexes.base import Index
from vlm4rec_search.indexes.scan import Vectors, cosines
from vlm4rec_search.indexes.store import Mask, Store, User
from vlm4rec_search.queries.explanation import (
    Explanation,
    HistoryPart,
    LegPart,
    explain,
    history_shares,
    word_parts,
)
from vlm4rec_search.queries.fusion import Candidates, Fused, fuse
from vlm4rec_search.queries.legs import Leg, choose_legs, leg_weights, top_candidates
from vlm4rec_search.queries.query import Answer, Hit, Query, Tier


class EmbeddedIndex(Index):
    """One release of the embedded index, see `open_index`."""

    def __init__(self, store: Store, encoder: str | None = None) -> None:
        """Search an open release, which closes with the index.

        Raises:
            UsageError: the release was built by another encoder than `encoder`.
        """
        name = store.meta.encoder.rsplit("@", 1)[0]
        self._encoder = name if encoder in (None, store.meta.encoder) else encoder
        # A folder is known by the hash of its weights; the names of the others are the names in their ids.
        is_folder = self._encoder != name and Path(self._encoder).is_dir()
        if self._encoder != name and not (is_folder and self._present() == _revision(store.meta.encoder)):
            raise UsageError(
                f"the index was built by the encoder {store.meta.encoder}, not by {encoder}: let VLM4REC_ENCODER name "
                "that one, or run `sqlmesh plan` and `vlm4rec index` for a new index"
            )
        self._store = store
        self._matching = lru_cache(maxsize=64)(store.matching)  # a release never changes

    @property
    def store(self) -> Store:
        """The release that answers."""
        return self._store

    def search(self, query: Query) -> Answer:
        """Answer a query, see `Index.search`."""
        started = time.perf_counter()
        user = None if query.user is None else self._store.user(query.user)
        tier, legs = choose_legs(query, user and user.profile, self._encode)
        allowed = self._allowed(query, user)
        scores = [self._scores(leg) for leg in legs]
        depth = max(query.depth, query.k)
        found = [top_candidates(leg, values, allowed, depth) for leg, values in zip(legs, scores, strict=True)]
        fused = fuse(found, leg_weights(query, legs), query.fusion)
        reasons = _Reasons(self._store, query, user, legs, scores, found) if query.explain else None
        hits = self._hits(fused, query.k, reasons)
        took = round((time.perf_counter() - started) * 1000.0, 2)
        note = (None if hits else self._all_seen(query, user)) or _note(query, user, tier)
        return Answer(query.user, query.mode, tier, self._store.meta.name, took, hits, note)

    def _all_seen(self, query: Query, user: User | None) -> str | None:
        """Say that the shopper has seen all that fits, when that is why nothing is left."""
        if user is None or query.include_seen:
            return None
        if not self.search(replace(query, include_seen=True, explain=False, k=1)).hits:
            return None
        return f"user {query.user} has seen every item that fits: include what was seen, or ask for less"

    def close(self) -> None:
        """Close the release's file."""
        self._store.close()

    def _encode(self, text: str) -> Vectors:
        from vlm4rec_search.embeddings import encode_query

        needed = self._store.meta.encoder
        if self._present() != _revision(needed):
            raise UsageError(
                f"the index was built by the encoder {needed}, here is revision {self._present()} of it: publish again"
                " with `vlm4rec index`"
            )
        return encode_query(text, self._encoder)

    def _present(self) -> str:
        from vlm4rec_search.encoders import load_sentence_encoder

        return _revision(load_sentence_encoder(self._encoder).id)

    def _allowed(self, query: Query, user: User | None) -> Mask | None:
        masks = [self._matching(condition) for condition in query.conditions]
        if user is not None and not query.include_seen:
            unseen = np.ones(self._store.meta.documents, dtype=np.bool_)
            unseen[user.seen] = False
            masks.append(unseen)
        return np.logical_and.reduce(masks) if masks else None

    def _scores(self, leg: Leg) -> npt.NDArray[np.float32]:
        """Return the score of every document in one leg, float32 (n,)."""
        if leg.vector is not None:
            return cosines(self._store.vectors, leg.vector)
        if leg.kind == "popularity":
            return self._store.interactions
        rows, weights = self._store.rows({term: word.weight for term, word in leg.words.items()})
        scores: npt.NDArray[np.float32] = self._store.postings[rows].T @ weights
        return scores

    def _hits(self, fused: Fused, k: int, reasons: "_Reasons | None") -> tuple[Hit, ...]:
        documents = fused.documents[:k]
        hits = []
        for place, (document, record) in enumerate(zip(documents, self._store.records(documents), strict=True)):
            reason = reasons.of(int(document), fused.contributions[place]) if reasons else None
            hits.append(Hit(rank=place + 1, score=float(fused.scores[place]), explanation=reason, **record))
        return tuple(hits)


class _Reasons:
    """Explains hits of one answer."""

    def __init__(
        self,
        store: Store,
        query: Query,
        user: User | None,
        legs: Sequence[Leg],
        scores: Sequence[npt.NDArray[np.float32]],
        found: Sequence[Candidates],
    ) -> None:
        self.store, self.text, self.legs, self.scores = store, query.text, legs, scores
        self.user = user if any(leg.name == "profile" for leg in legs) else None
        self.ranks = [{int(document): rank for rank, document in enumerate(leg.documents, 1)} for leg in found]
        self.titles = store.records(self.user.history) if self.user else []

    def of(self, document: int, contributions: npt.NDArray[np.float64]) -> Explanation:
        """Return why a document is there, given what each leg adds to its score."""
        parts = [
            LegPart(leg.name, leg.kind, round(float(scores[document]), 6), ranks.get(document), float(added))
            for leg, scores, ranks, added in zip(self.legs, self.scores, self.ranks, contributions, strict=True)
        ]
        return explain(parts, self._history(document), word_parts(self._words(document)), self.text)

    def _history(self, document: int) -> list[HistoryPart]:
        if self.user is None:
            return []
        vectors = self.store.vectors
        shares = history_shares(vectors[self.user.history], self.user.weights, vectors[document])
        pairs = zip(self.titles, shares, strict=True)
        return [HistoryPart(record["item_id"], record["title"], float(share)) for record, share in pairs]

    def _words(self, document: int) -> dict[str, float]:
        shares: dict[str, float] = {}
        for leg in self.legs:
            known = [(self.store.terms[term], word) for term, word in leg.words.items() if term in self.store.terms]
            scores = self.store.scores_of(document, [row for row, _ in known])
            for (_, word), score in zip(known, scores, strict=True):
                shares[word.form] = shares.get(word.form, 0.0) + float(score) * word.weight
        return shares


def _note(query: Query, user: User | None, tier: Tier) -> str | None:
    """Say what is answered where the shopper's profile has no part in it."""
    if query.user is None or tier == "profile" or (user is not None and tier == "text"):
        return None
    who = f"user {query.user} is not known" if user is None else f"nothing is known of user {query.user} for this mode"
    instead = "what is popular with everyone" if tier == "popularity" else "what fits the text alone"
    return f"{who}: this is {instead}"


def _revision(encoder: str) -> str:
    return encoder.rsplit("@", 1)[-1]
