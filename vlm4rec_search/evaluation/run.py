"""One evaluation: choose on validation, fit once more, score once on test, for every system alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vlm4rec_search.errors import UsageError
from vlm4rec_search.evaluation.data import Floats, Ints, Mask
from vlm4rec_search.evaluation.metrics import DEPTH, KS, accuracy, coverage, judge
from vlm4rec_search.evaluation.ranking import rank
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems.base import System

CHOSEN_BY = "nDCG@10"
EVERYTHING = "all candidates"


@dataclass(frozen=True)
class Outcome:
    """What one system did: lists (u, 50) of items for the targets' users, and metrics (u, m) by `judge`."""

    system: str
    setting: str
    ranking: Ints
    values: Floats
    seconds: float = 0.0
    coverage: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Every system on the same users and the same candidates.

    Attributes:
        on: which candidates: all of them, or those that a system with partial coverage can rank.
        part: the users and candidates.
        outcomes: in the order of the systems.
    """

    on: str
    part: Part
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Evaluation:
    """The comparison on all candidates first, then the coverage-matched ones; and systems that could not take part."""

    comparisons: list[Comparison]
    skipped: dict[str, str]


def evaluate(parts: Parts, systems: Sequence[System], advance: Callable[[str], None] = lambda name: None) -> Evaluation:
    """Evaluate systems on the parts of a protocol.

    Args:
        parts: from `build_parts`.
        systems: any; one that has nothing to work with here is skipped, with the reason.
        advance: told the name of each system when it is done.

    Raises:
        UsageError: no system can take part.
    """
    ready: list[tuple[System, Outcome]] = []
    skipped: dict[str, str] = {}
    for system in systems:
        try:
            ready.append(_run(system, parts))
        except UsageError as error:
            skipped[system.name] = str(error)
        advance(system.name)
    if not ready:
        raise UsageError(f"no system can be evaluated: {'; '.join(f'{name}: {why}' for name, why in skipped.items())}")
    whole = Comparison(EVERYTHING, parts.test, [outcome for _, outcome in ready])
    matched = [_matched(on, mask, parts.test, ready) for on, mask in _coverages(parts.test, ready)]
    return Evaluation([whole, *(comparison for comparison in matched if comparison is not None)], skipped)


def _run(system: System, parts: Parts) -> tuple[System, Outcome]:
    started = time.perf_counter()
    chosen = _choose(system, parts.validation)
    chosen.fit(parts.test.split)
    outcome = _score(chosen, parts.test)
    took = time.perf_counter() - started
    return chosen, Outcome(
        system.name, chosen.setting, outcome.ranking, outcome.values, round(took, 2), outcome.coverage
    )


def _choose(system: System, validation: Part | None) -> System:
    """Return the variant with the best mean `CHOSEN_BY` on validation, the first of equal ones."""
    variants = system.variants()
    if len(variants) == 1 or validation is None:
        return variants[0]
    means = []
    for variant in variants:
        variant.fit(validation.split, validation.targets)
        ranking = rank(variant.scores, validation.split, validation.targets.users, DEPTH)
        means.append(accuracy(ranking, validation.targets.relevant, (CHOSEN_BY,)).mean())
    return variants[int(np.argmax(means))]


def _score(system: System, part: Part) -> Outcome:
    ranking = rank(system.scores, part.split, part.targets.users, DEPTH)
    covered = {k: coverage(ranking, part.split, k) for k in KS}
    return Outcome(system.name, system.setting, ranking, judge(ranking, part.split, part.targets), 0.0, covered)


def _coverages(part: Part, ready: list[tuple[System, Outcome]]) -> list[tuple[str, Mask]]:
    """Return each partial coverage once, under the names of the systems that have it."""
    found: list[tuple[list[str], Mask]] = []
    for system, _ in ready:
        mask = system.covers()
        if mask is None or mask[part.split.candidates].all():
            continue
        for names, known in found:
            if (known == mask).all():
                names.append(system.name)
                break
        else:
            found.append(([system.name], mask))
    return [(f"what {names[0]} covers", mask) for names, mask in found]


def _matched(on: str, mask: Mask, test: Part, ready: list[tuple[System, Outcome]]) -> Comparison | None:
    """Return the comparison among some candidates; None where nobody has anything to find there.

    The systems are not fitted again: they rank the same items, fewer of them.
    """
    part = Part(test.split.among(mask), test.targets.within(mask))
    if not len(part.targets.users):
        return None
    return Comparison(on, part, [_score(system, part) for system, _ in ready])
