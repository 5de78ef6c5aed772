"""Chooses the ranking of a shop on rolling windows of its own history: `vlm4rec tune`, and `vlm4rec index`.

The test part of a time split of `vlm4rec evaluate` lies behind the last window and plays no role.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import numpy as np

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.paths import working_folder
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.significance import Difference, compare, resampled_means
from vlm4rec_search.evaluation.snapshots import workbench
from vlm4rec_search.evaluation.splits import Say
from vlm4rec_search.evaluation.tuning.fitting import equal_weights, only
from vlm4rec_search.evaluation.tuning.limits import LARGEST_FIRST, Limit, LimitCheck, Price
from vlm4rec_search.evaluation.tuning.trial import DEPTHS, FEWEST, Origin, Trial, choose, highest, lowest
from vlm4rec_search.evaluation.tuning.windows import STARTS, Windows, build_windows, count_shoppers
from vlm4rec_search.search.exposure import SAME_FIRST
from vlm4rec_search.search.query import KINDS
from vlm4rec_search.search.ranking import Ranking, load_ranking, write_ranking

USERS = 3_000  # the most shoppers of all windows: with 1,000 the standard error is as large as what weights are worth

_MUCH_LESS = 0.8  # of the shoppers with the same first hit: a few shoppers less are no reason to flip
_NO_SEARCH = "no search found better weights beyond chance"
_WHY: Mapping[Origin, str] = {
    "worth": f"weighted by what each finds alone, within the limits: {_NO_SEARCH}",
    "equal": f"weighted alike, within the limits: beyond chance better than by what each finds alone, and {_NO_SEARCH}",
    "search": "",
}

TABLES: Mapping[str, tuple[float, ...]] = {
    "pace_days": (10, 20, 60, 180, 36_500),
    "half_life_days": (30, 60, 120, 365),
    "behaviour_half_life_days": (10, 20, 60),
    "co_purchase_days": (60, 90, 180, 36_500),
    "popularity_days": (14, 30, 60, 36_500),
    "terms": (32, 64, 128),
    "interests": (2, 3, 4),
}


@dataclass(frozen=True)
class Tuned:
    """What a tuning chose.

    Attributes:
        ranking: the chosen configuration.
        reason: one line that says what was chosen and why.
        users: number of shoppers that judged it.
        rows: mean nDCG@10 and R@10 of the choice (cross-fitted where it is new), of the ranking in force, of equal
            weights, and of each kind of retriever alone; empty where nothing could be judged.
        differences: nDCG@10 of the choice minus that of each other row, with 95% intervals.
        tried: number of rankings that were judged.
        made_by: captioner and encoder of the tables that were built; None where none could be built.
        first: share of shoppers whose first hit is the most frequent one.
        coverage: share of the documents in the first ten hits of any shopper.
        unchosen: why nothing could be chosen, empty where something was.
    """

    ranking: Ranking
    reason: str
    users: int
    rows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    tried: int = 0
    made_by: tuple[str, str] | None = None
    first: float | None = None
    coverage: float | None = None
    unchosen: str = ""


def tune(
    settings: Settings,
    protocol: Protocol,
    tables: bool,
    version: str,
    say: Say,
    in_force: Ranking | None = None,
) -> Tuned:
    """Choose a ranking configuration on rolling windows.

    Each retriever is weighted by what it finds alone. Equal weights, and then searched ones, take the place of these
    where they are better by cross-fitting, see `Trial`. There are two limits, as of the end of the last window: the
    most frequent first hit should reach at most `LARGEST_FIRST` of the shoppers, and top tens should cover `COVERAGE`
    of the documents that random lists would; each is met, or met in part, where that is worth its price, see
    `Trial.meet`.

    A new ranking replaces the one in force in two cases: (a) the 95% interval of its gain lies above 0; (b) more than
    `SAME_FIRST` of the shoppers get one first hit today, the new ranking brings that to at most `SAME_FIRST` or by a
    fifth down, and the interval of its gain does not lie below 0. With fewer than `FEWEST` shoppers the ranking in
    force is kept, and where there is none the packaged one.

    Args:
        settings: warehouse, cache and the configuration to start from, whose durations the tables have.
        protocol: which items may be ranked, how many shoppers are asked (by default `USERS`), and the seed.
        tables: also try values that tables depend on, one at a time; each needs a plan.
        version: name of the new configuration.
        say: receives the name of each long step.
        in_force: the ranking that answers now, if it was chosen for this shop.

    Raises:
        UsageError: there are no tables yet.
        RunError: the warehouse is being written, or a plan fails.
    """
    start = load_ranking(settings.ranking)
    with read(settings.warehouse) as connection:
        (shoppers,) = connection.execute("SELECT COUNT(DISTINCT user_id) FROM profiles.likes").fetchone() or (0,)
    if shoppers * len(STARTS) < FEWEST:  # known without a plan
        needed = f"the {FEWEST} that a choice needs over {len(STARTS)} moments"
        why = f"only {_counted(shoppers, 'shopper')} of the shop took anything, too few for {needed}"
        return _without_choice(why, start, in_force)
    with workbench(settings) as bench, working_folder(settings.cache) as folder:

        def judged(ranking: Ranking) -> Trial:
            file = folder / "ranking.yaml"
            write_ranking(ranking, file)
            deep = ranking.model_copy(update={"depth": max(*DEPTHS, ranking.depth)})
            windows = build_windows(bench, protocol, file, deep, protocol.sample or USERS, folder)
            _require_shoppers(windows.shoppers, protocol)
            return choose(ranking, windows, diverse=tables)

        try:
            _require_shoppers(count_shoppers(bench, protocol, FEWEST), protocol)  # before minutes of plans
            say("Building the tables as of earlier moments, to choose the ranking on what shoppers took next")
            best = judged(start)
        except UsageError as error:
            return _without_choice(str(error), start, in_force)
        tried = best.tried
        for key, values in TABLES.items() if tables else ():
            for value in [value for value in values if value != getattr(best.ranking, key)]:
                say(f"Building the tables with {key} {value}")
                other = judged(best.ranking.model_copy(update={key: value}))
                tried += other.tried
                if other.is_better(best):
                    best = other
        return compare_choice(best, version, in_force, tried)


def _require_shoppers(count: int, protocol: Protocol) -> None:
    """Check that so many shoppers of all windows are enough for a choice.

    Raises:
        UsageError: there are fewer than `FEWEST`.
    """
    if count < FEWEST:
        raise UsageError(
            f"after earlier moments {_counted(count, 'shopper')} with at least {_counted(protocol.history, 'item')}"
            f" came back for a new one, and a choice needs {FEWEST}"
        )


def _without_choice(why: str, start: Ranking, in_force: Ranking | None) -> Tuned:
    """Return the ranking in force, or else equal weights, and why there is no choice."""
    if in_force is not None:
        return Tuned(in_force, f"{in_force.version} stays, since no other can be chosen: {why}", 0, unchosen=why)
    equal = equal_weights(start)
    return Tuned(equal, f"{equal.version}, equal weights, since none can be chosen: {why}", 0, unchosen=why)


def compare_choice(trial: Trial, version: str, in_force: Ranking | None, tried: int) -> Tuned:
    """Compare the best ranking with equal weights, with the ranking in force and with each kind alone.

    Args:
        trial: the best one.
        version: name of the new ranking.
        in_force: stays where the new one is not better beyond chance, see `tune`.
        tried: number of rankings that were judged.
    """
    chosen = trial.without_idle_kinds().model_copy(update={"version": version})
    rows = {
        "chosen": (trial.ndcg, trial.recall),
        "equal weights": trial.judge_fixed(equal_weights(trial.start)),
    }
    why, prices = _WHY[trial.origin], trial.prices
    if in_force is not None:
        in_force = in_force.model_copy(update=_durations(trial.start))
        rows["in force"] = trial.judge_fixed(in_force)
        gains = rows["chosen"][0] - rows["in force"][0]
        first, held = trial.exposure_of(chosen).first, trial.exposure_of(in_force)
        repeats_less = held.is_judged and repeats_much_less(first, held.first)
        if lowest(gains) <= 0.0 and not (repeats_less and highest(gains) >= 0.0):
            chosen, rows["chosen"] = in_force, rows["in force"]
            why, prices = "kept, since no new weighting is better beyond chance", {}
        elif lowest(gains) <= 0.0:
            why = f"it takes the place of {in_force.version}, whose first hit is the same for {held.first:.1%}"
    for kind in KINDS:
        rows[kind] = trial.judge_fixed(chosen.model_copy(update=only(kind)))
    names = list(rows)
    values = np.stack([rows[name][0] for name in names], axis=1)
    differences = [each for each in compare(names, values, resampled_means(values, seed=7)) if each.a == "chosen"]
    means = {name: (float(ndcg.mean()), float(recall.mean())) for name, (ndcg, recall) in rows.items()}
    exposure = trial.exposure_of(chosen)
    own = rows["chosen"][0]
    not_beaten = {each.b for each in differences if each.low <= 0.0 and not np.array_equal(own, rows[each.b][0])}
    reason = _reason(chosen, means, trial.windows, exposure, prices, why, not_beaten)
    made_by = trial.windows.last.made_by
    return Tuned(chosen, reason, len(values), means, differences, tried, made_by, exposure.first, exposure.coverage)


def repeats_much_less(first: float, before: float) -> bool:
    """Return whether a ranking repeats the first hit so much less than one before that this is a reason to replace it.

    Args:
        first: share of the shoppers with the same first hit.
        before: that of the ranking before.
    """
    return before > SAME_FIRST and first <= max(SAME_FIRST, _MUCH_LESS * before)


def _durations(ranking: Ranking) -> dict[str, object]:
    """Return the values on which tables depend."""
    return {**ranking.table_variables(), "text": ranking.text}


def _reason(
    ranking: Ranking,
    rows: Mapping[str, tuple[float, float]],
    windows: Windows,
    exposure: LimitCheck,
    prices: Mapping[Limit, Price],
    why: str,
    not_beaten: Set[str],
) -> str:
    single = max(KINDS, key=lambda kind: rows[kind][0])
    weights, by_rank = ranking.weights.model_dump(), ranking.rank_weights.model_dump()
    # A kind that finds nothing for anybody, such as learned vectors without a fit, has no share in the answers.
    weights = {kind: weights[kind] + by_rank[kind] for kind in KINDS if rows[kind][0] > 0.0}
    total = sum(weights.values())
    shares = sorted(weights.items(), key=lambda pair: -pair[1])
    told = ", ".join(f"{kind} {weight / total:.0%}" for kind, weight in shares if weight / total >= 0.005)
    line = (
        f"{ranking.version} ({ranking.fusion}: {told}): nDCG@10 {rows['chosen'][0]:.4f} against"
        f" {rows['equal weights'][0]:.4f} of equal weights and {rows[single][0]:.4f} of {single} alone, on"
        f" {windows.shoppers:,} histories of {_counted(len(windows.past), 'earlier window')}; the most frequent first"
        f" hit reaches {exposure.first:.1%} of the shoppers, the top tens {exposure.coverage:.0%} of the documents"
    )
    limits: dict[Limit, str] = {
        "first": f"the same first hit for at most {LARGEST_FIRST:.0%}",
        "coverage": f"a coverage of {exposure.wanted:.0%}",
    }
    for (limit, wanted), missing in zip(limits.items(), exposure.missing, strict=True):
        price = prices.get(limit)
        if price is None or not (missing or price.is_paid):  # what was too dear may have come by itself
            line += f"; {wanted} was not reached" if missing else ""
        elif missing and price.is_paid:
            line += f"; {wanted} was not reached; coming this near costs {_told(price.cost)} of nDCG@10"
        else:
            line += f"; {wanted} costs {_told(price.cost)} of nDCG@10 and was {'not ' if missing else ''}taken"
    line += f"; {why}" if why else ""
    names = {"equal weights": "equal weights", single: f"{single} alone"}
    unsure = " and ".join(told for name, told in names.items() if name in not_beaten)
    return f"{line}; not better beyond chance than {unsure}" if unsure else line


def _told(share: float) -> str:
    return "less than 1%" if share < 0.01 else f"{share:.0%}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
