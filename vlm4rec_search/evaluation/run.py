"""Runs systems: each chooses on validation, is fitted again, and is scored once on test."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.vectors import Floats, Ints, Mask
from vlm4rec_search.evaluation.metrics import DEPTH, OF_ALL_LISTS, accuracy, judge, of_all_lists
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems.base import System, UpperBound
from vlm4rec_search.evaluation.top_k import rank

CHOSEN_BY = "nDCG@10"
EVERYTHING = "all candidates"
NOT_CHOSEN = "not chosen"
"""Stands behind the setting of a system that would have chosen it, where there is no validation part."""


@dataclass(frozen=True)
class Outcome:
    """The results of one system.

    Attributes:
        setting: what it chose on validation, by seed; its default and `NOT_CHOSEN` without a validation part.
        rankings: for each seed lists (u, 50) of items for the targets' users; one for a system without seeds.
        values: metrics (u, m) by `judge`, the mean over the seeds.
        spread: (m,), the mean over users of the best seed minus that of the worst.
        of_all_lists: the metrics `OF_ALL_LISTS` by name, the mean over the seeds.
        is_bound: whether the system knew the answers.
    """

    system: str
    setting: str
    rankings: list[Ints]
    values: Floats
    spread: Floats
    of_all_lists: dict[str, float]
    seconds: float = 0.0
    is_bound: bool = False

    @property
    def ranking(self) -> Ints:
        """The rankings of the first seed."""
        return self.rankings[0]


@dataclass(frozen=True)
class Comparison:
    """The results of all systems for the same users and candidates.

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
    """The comparison on all candidates, the coverage-matched ones, and the reasons of systems that could not take part.

    Attributes:
        fitted: the first copy of each system, as it was scored.
    """

    comparisons: list[Comparison]
    skipped: dict[str, str]
    fitted: dict[str, System] = field(default_factory=dict)


Ready: TypeAlias = tuple[list[System], Outcome]  # the fitted copies of a system, and their results


def evaluate(parts: Parts, systems: Sequence[System], advance: Callable[[str], None] = lambda name: None) -> Evaluation:
    """Evaluate systems on the parts of a protocol.

    Args:
        parts: from `build_parts`.
        systems: a system that lacks its input here is skipped, with the reason.
        advance: receives the name of a system when one of its copies is done.

    Raises:
        UsageError: no system can take part.
    """
    ready: list[Ready] = []
    skipped: dict[str, str] = {}
    for system in systems:
        try:
            ready.append(_run(system, parts, advance))
        except UsageError as error:
            skipped[system.name] = str(error)
    if not ready:
        raise UsageError(f"no system can be evaluated: {'; '.join(f'{name}: {why}' for name, why in skipped.items())}")
    whole = Comparison(EVERYTHING, parts.test, [outcome for _, outcome in ready])
    matched = [_matched(on, mask, parts.test, ready) for on, mask in _coverages(parts.test, ready)]
    comparisons = [whole, *(comparison for comparison in matched if comparison is not None)]
    return Evaluation(comparisons, skipped, {outcome.system: copies[0] for copies, outcome in ready})


def has_choice(system: System) -> bool:
    """Return whether a system wants a validation part."""
    return system.learns or len(system.variants()) > 1


def is_unchosen(setting: str) -> bool:
    """Return whether the setting of an outcome is the default of a system that would have chosen it."""
    return setting.endswith(NOT_CHOSEN)


def _run(system: System, parts: Parts, advance: Callable[[str], None]) -> Ready:
    started = time.perf_counter()
    fitted = []
    for copy in system.copies():
        try:
            chosen = _choose(copy, parts.validation)
            chosen.fit(parts.test.split)
            if isinstance(chosen, UpperBound):
                chosen.reveal(parts.test.targets)
            fitted.append(chosen)
        finally:
            advance(system.name)
    outcome = _score(system.name, fitted, parts.test)
    if parts.validation is None and has_choice(system):
        outcome = replace(outcome, setting="; ".join(filter(None, (outcome.setting, NOT_CHOSEN))))
    return fitted, replace(outcome, seconds=round(time.perf_counter() - started, 2))


def _choose(system: System, validation: Part | None) -> System:
    """Return the variant with the best mean `CHOSEN_BY` on validation, the first of equals."""
    if validation is None:
        return system.default()
    variants = system.variants()
    if len(variants) == 1 and not system.learns:
        return variants[0]
    means = []
    for variant in variants:
        variant.fit(validation.split, validation.targets)
        if len(variants) == 1:
            break  # the fit has found when to stop, and there is nothing to choose
        ranking = rank(variant.scores, validation.split, validation.targets.users, DEPTH)
        means.append(accuracy(ranking, validation.targets.relevant, (CHOSEN_BY,)).mean())
    return variants[int(np.argmax(means))] if means else variants[0]


def _score(name: str, copies: Sequence[System], part: Part) -> Outcome:
    rankings = [rank(copy.scores, part.split, part.targets.users, DEPTH) for copy in copies]
    values = np.stack([judge(ranking, part.split, part.targets) for ranking in rankings])
    of_all = [of_all_lists(ranking, part.split) for ranking in rankings]
    together = {metric: float(np.mean([one[metric] for one in of_all])) for metric in OF_ALL_LISTS}
    setting = ", ".join(filter(None, (copy.setting for copy in copies)))
    is_bound = isinstance(copies[0], UpperBound)
    return Outcome(name, setting, rankings, values.mean(axis=0), _spread(values), together, is_bound=is_bound)


def _spread(values: Floats) -> Floats:
    """Return the largest minus the smallest mean over seeds, (m,), from (seeds, u, m); NaN values are ignored."""
    there = np.maximum((~np.isnan(values)).sum(axis=1), 1)
    means = np.nansum(values, axis=1) / there
    spread: Floats = means.max(axis=0) - means.min(axis=0)
    return spread


def _coverages(part: Part, ready: list[Ready]) -> list[tuple[str, Mask]]:
    """Return each distinct partial coverage of the candidates with the name of the first system that has it."""
    found: list[tuple[str, Mask]] = []
    for copies, outcome in ready:
        mask = copies[0].covers()
        if mask is None or mask[part.split.candidates].all():
            continue
        if not any((known == mask).all() for _, known in found):
            found.append((outcome.system, mask))
    return [(f"what {name} covers", mask) for name, mask in found]


def _matched(on: str, mask: Mask, test: Part, ready: list[Ready]) -> Comparison | None:
    """Return the comparison on some candidates; None where no user has a relevant item among them.

    The systems are not fitted again.
    """
    part = Part(test.split.among(mask), test.targets.within(mask))
    if not len(part.targets.users):
        return None
    scored = [
        replace(_score(outcome.system, [copy.among(part.split) for copy in copies], part), setting=outcome.setting)
        for copies, outcome in ready
    ]
    return Comparison(on, part, scored)
