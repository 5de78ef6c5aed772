"""From a plan to its hits: retrieve, fuse, rerank, explain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vlm4rec_search.search.backend import Reader, UnavailableError
from vlm4rec_search.search.explanation import Explainer
from vlm4rec_search.search.fusion import fuse
from vlm4rec_search.search.model import Facts, Plan, Ranked
from vlm4rec_search.search.query import Explanation, Hit, Standing
from vlm4rec_search.search.reranking import rerank
from vlm4rec_search.search.rules import Rule


@dataclass(frozen=True)
class Found:
    """What a plan found.

    Attributes:
        hits: best first.
        counts: how many candidates have each value of the fields that the query counts.
        failed: what a server did not answer in time, in words.
        retriever_ms: how long the retrievers took, by name.
        dropped_by: the business rules that dropped candidates.
    """

    hits: tuple[Hit, ...]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    failed: Sequence[str] = ()
    retriever_ms: Mapping[str, float] = field(default_factory=dict)
    dropped_by: Sequence[Rule] = ()


def find_hits(reader: Reader, facts: Facts, plan: Plan) -> Found:
    """Return what a plan finds.

    Raises:
        UnavailableError: a server does not answer in time for any retriever, or for what the hits show.
    """
    ranked = reader.rank(plan)
    if ranked is not None:
        return Found(to_hits(ranked, ()), ranked.counts, [*facts.failed, *reader.failed])
    retrieved = reader.retrieve(plan.request)
    by_meaning = {"text": "the meaning of the text"}
    failed = [*facts.failed, *reader.failed, *(by_meaning.get(name, name) for name in retrieved.failed)]
    ranked = rerank(retrieved, fuse(retrieved.candidates, plan.weights, plan.fusion, plan.rank_weights), plan)
    explanations: Sequence[Explanation] = ()
    if plan.query.explain and ranked.records:
        try:
            explanations = Explainer(reader, facts, plan, retrieved).explain(ranked)
        except UnavailableError:
            failed.append("the reasons")
    took: dict[str, float] = {}
    for retriever, seconds in zip(plan.request.retrievers, retrieved.seconds, strict=False):
        took[retriever.name] = took.get(retriever.name, 0.0) + 1000.0 * seconds
    return Found(to_hits(ranked, explanations), ranked.counts, failed, took, ranked.dropped_by)


def to_hits(ranked: Ranked, explanations: Sequence[Explanation]) -> tuple[Hit, ...]:
    """Return the ranked documents as hits, with their explanations where there are any."""
    reasons: Sequence[Explanation | None] = explanations or [None] * len(ranked.records)
    standings = ranked.standings or [Standing()] * len(ranked.records)
    scored = zip(ranked.scores, ranked.records, reasons, standings, strict=True)
    return tuple(
        Hit(rank=rank, score=float(score), explanation=explanation, standing=standing, **record)
        for rank, (score, record, explanation, standing) in enumerate(scored, 1)
    )
