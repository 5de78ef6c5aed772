"""The table of the VLM4Rec paper (arXiv 2603.12625) beside the numbers measured here."""

from collections.abc import Iterable
from dataclasses import dataclass

from vlm4rec_search.evaluation.results import Results, Row
from vlm4rec_search.evaluation.significance import SIGNIFICANT

# The paper's name of a system, its Recall@10 and NDCG@10, and the name of that system here.
TABLE = (
    ("LLaVA text only (VLM4Rec)", 0.3539, 0.2745, "description-only"),
    ("LLaVA + vision, attention fusion", 0.3103, 0.2500, "description+vision-attention"),
    ("LLaVA + vision, concatenation", 0.2825, 0.1763, "description+vision-concat"),
    ("LLaVA + vision, 50/50", 0.2806, 0.1762, "description+vision-mean"),
    ("SMORE (LLaVA + vision)", 0.2375, 0.1652, "description+vision-smore"),
    ("BERT title + vision, attention fusion", 0.2348, 0.1966, "title+vision-attention"),
    ("BERT title only", 0.2285, 0.1838, "title-only"),
    ("BERT title + vision, concatenation", 0.1887, 0.1540, "title+vision-concat"),
    ("SMORE (BERT + vision)", 0.1881, 0.1398, "title+vision-smore"),
    ("BERT title + vision, 50/50", 0.1803, 0.1428, "title+vision-mean"),
    ("gating fusion", 0.1269, 0.0973, "title+vision-gating"),
    ("vision only", 0.1053, 0.0734, "vision-only"),
)
METRICS = ("R@10", "nDCG@10")
SYSTEMS = tuple(system for *_, system in TABLE)
CAVEAT = (
    "The paper's numbers are of other data and another protocol (history items stay in the ranking, 1% of the test"
    " users, captioned items only in the LLaVA rows): compare orders, not values."
)


@dataclass(frozen=True)
class PaperRow:
    """One system: the paper's numbers, and ours on all candidates, None where it was not evaluated."""

    paper: str
    system: str
    paper_recall: float
    paper_ndcg: float
    recall: float | None
    ndcg: float | None


def beside_paper(rows: Iterable[Row], on: str) -> list[PaperRow]:
    """Return the paper's rows in its order, with the numbers measured here.

    Args:
        rows: of results.
        on: the comparison whose rows are meant.
    """
    ours = {(row.system, row.metric): row.value for row in rows if row.on == on}
    return [
        PaperRow(name, system, recall, ndcg, *(ours.get((system, metric)) for metric in METRICS))
        for name, recall, ndcg, system in TABLE
    ]


def effect(results: Results) -> list[str]:
    """Return the paper's claim in sentences: is the description alone better than the title, than the photo?"""
    lines = []
    for one in results.differences["nDCG@10"]:
        other = ({one.a, one.b} - {"description-only"}).pop()
        if "description-only" not in (one.a, one.b) or other not in ("title-only", "vision-only"):
            continue
        seen = one.seen_from("description-only")
        verdict = "is better than" if seen.difference > 0 else "is worse than"
        lines.append(
            f"description-only {verdict if seen.corrected < SIGNIFICANT else 'cannot be told from'} {other}: nDCG@10"
            f" differs by {seen.difference:+.4f}, 95% interval {seen.low:+.4f} to {seen.high:+.4f},"
            f" p after Holm {seen.corrected:.2g}"
        )
    return lines
