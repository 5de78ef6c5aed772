"""Business rules and scenarios as data, in one file that merchandisers edit.

Rules pin, boost, bury or drop hits after the fusion, and each gives its reason. A rule with `when` applies only to some
searches. Scenarios are named presets of search options, such as one for the home page and one for mails.

rules:
  - {action: pin, items: [A1, B2], reason: launch of the week}
  - {action: boost, filter: season=summer, factor: 1.5, reason: it is June, when: {from: 2026-06-01, until: 2026-07-01}}
  - {action: bury, filter: available=false, reason: out of stock}
  - {action: drop, filter: brand=Recalled, reason: recalled}
  - {action: pin, items: [C3], reason: gift card, when: {scenario: [cart, mail], text: gift}}
scenarios:
  home: {k: 12, diversity: 0.3, per_category: 3}
  cart: {k: 4, mode: behaviour}
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vlm4rec_search.common.analyzer import ENGLISH, Analyzer
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.text_forms import composed, normal_form
from vlm4rec_search.common.yaml_files import parse_yaml, read_yaml
from vlm4rec_search.search.experiments import Experiment
from vlm4rec_search.search.filters import check_utf8, parse_filter
from vlm4rec_search.search.query import Mode, Query, QueryFusion


def _not_a_number(moment: object) -> object:
    """Refuse 2026 and 20260601, which would be seconds since 1970."""
    if str(moment).strip().isdigit():
        raise ValueError(f"cannot read the moment {moment}: write 2026-06-01")
    return moment


def _is_list(ids: object) -> object:
    """Refuse one id without brackets in words that say what to write."""
    if isinstance(ids, str):
        raise ValueError(f"a list of ids is needed: write [{ids}]")
    return ids


Names = Annotated[tuple[str, ...], BeforeValidator(lambda names: [names] if isinstance(names, str) else names)]
Values = Annotated[Names, AfterValidator(lambda values: tuple(map(composed, values)))]  # in the form of the tables
Ids = Annotated[tuple[str, ...], BeforeValidator(_is_list), AfterValidator(lambda ids: tuple(map(normal_form, ids)))]
Moment = Annotated[
    datetime,
    BeforeValidator(_not_a_number),
    AfterValidator(lambda moment: moment if moment.tzinfo else moment.replace(tzinfo=UTC)),
]

_condition = cache(parse_filter)  # a rule's filter is evaluated for every candidate of every search


def _terms(text: str, analyzer: Analyzer) -> frozenset[str]:
    return frozenset(analyzer.analyze(text))


_terms_of_rule = cache(_terms)
_terms_of_query = lru_cache(maxsize=64)(_terms)  # asked for by every rule with a text, by several searches at once


class Condition(BaseModel):
    """Which searches a rule applies to; all parts that are given have to hold.

    Attributes:
        scenario: names of scenarios.
        text: words; the text of the query has all of them, whatever their form. Stop words of the language count only
            where a text has no other words.
        segment: names of segments of shoppers.
        category: values; the query has a filter on one of these categories.
        start, until: the moment of the search is not before `start` (key `from`) and before `until`; without a zone in
            UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    scenario: Names = ()
    text: str | None = None
    segment: Values = ()
    category: Values = ()
    start: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.start and self.until and self.start >= self.until:
            raise ValueError("a rule ends after it begins: `until` is not after `from`")
        if self.text is not None and not ENGLISH.analyze(self.text):
            raise ValueError(f"the text {self.text!r} of a rule has no word")
        return self

    def holds(self, query: Query, segment: str | None, analyzer: Analyzer = ENGLISH) -> bool:
        """Return whether the rule applies to a query of a shopper of a segment, now or at the query's moment."""
        now = query.at or datetime.now(UTC)
        return (
            (not self.scenario or query.scenario in self.scenario)
            and (not self.segment or segment in self.segment)
            and (self.start is None or now >= self.start)
            and (self.until is None or now < self.until)
            and (not self.category or not _categories(query).isdisjoint(self.category))
            and (self.text is None or _has_words(query.text or "", self.text, analyzer))
        )


def _categories(query: Query) -> set[str]:
    return {value for each in query.conditions if each.field == "category" for value in each.values}


def _has_words(text: str, wanted: str, analyzer: Analyzer) -> bool:
    """Return whether a text has all wanted words; d' in Italian is no word, so that no text has it."""
    words = _terms_of_rule(wanted, analyzer)
    return bool(words) and words <= _terms_of_query(text, analyzer)


class Rule(BaseModel):
    """One rule: what it does, to which items, and why.

    Attributes:
        action: pin puts its items first, in their order, where filters and the history allow them, but not among what
            is like an item (`Query.similar`) unless `when` names a scenario; boost multiplies
            scores by `factor`; bury puts hits last; drop removes them.
        items: ids of the items that the rule applies to; without ids it applies to the items that fulfil `filter`.
        filter: a condition as in a search, such as price>=10.
        factor: of a boost; above 1 raises scores, below 1 lowers them.
        reason: shown in explanations.
        when: the searches that the rule applies to; None for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["pin", "boost", "bury", "drop"]
    items: Ids = ()
    filter: str | None = None
    factor: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = 1.0
    reason: str = ""
    when: Condition | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.items) == (self.filter is not None):
            raise ValueError("a rule has either items or a filter")
        if self.action == "pin" and not self.items:
            raise ValueError("a pin names its items")
        if ("factor" in self.model_fields_set) != (self.action == "boost"):
            raise ValueError("a boost has a factor, other actions have none")
        check_utf8("rule", "".join((*self.items, self.filter or "", self.reason)))
        if self.filter is not None:
            parse_filter(self.filter)
        return self

    def matches(self, item_id: str, facets: Mapping[str, Sequence[str]]) -> bool:
        """Return whether the rule applies to an item with these values by field."""
        return item_id in self._ids if self.filter is None else _condition(self.filter).matches(facets)

    @cached_property
    def _ids(self) -> frozenset[str]:
        """The items, to look one up for every candidate of every search; the tuple has the order of pins."""
        return frozenset(self.items)

    def applies(self, query: Query, segment: str | None, analyzer: Analyzer = ENGLISH) -> bool:
        """Return whether the rule applies to a search, see `Condition`; a pin is no answer to what is like an item."""
        if self.action == "pin" and query.similar and not (self.when and self.when.scenario):
            return False
        return self.when is None or self.when.holds(query, segment, analyzer)

    @property
    def note(self) -> str:
        """What explanations say about a hit that the rule applies to."""
        raised = "is boosted" if self.factor >= 1.0 else "is lowered"
        effect = {"pin": "is pinned", "boost": raised, "bury": "is put last"}.get(self.action, "is left out")
        details = [f"factor {self.factor:g}" if self.action == "boost" else "", self.reason]
        told = ": ".join(detail for detail in details if detail)
        return f"{effect} by a rule" + (f" ({told})" if told else "")


class Scenario(BaseModel):
    """Options of a search that a scenario presets; a search that gives one itself keeps its own. See `Query`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode | None = None
    k: int | None = None
    fusion: QueryFusion | None = None
    weights: dict[str, float] | None = None
    filters: tuple[str, ...] | None = None
    diversity: float | None = None
    per_category: int | None = None
    collapse: str | None = None
    min_score: float | None = None
    include_seen: bool | None = None
    buy_again: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            Query(user="anybody", **self.options)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options that are preset, as arguments of `Query`."""
        return self.model_dump(exclude_none=True)


def preset(scenarios: Mapping[str, Scenario], name: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of `Query`: the options of a scenario, and over them those that a search gives itself.

    Raises:
        UsageError: there is no such scenario.
    """
    if name is None:
        return dict(options)
    if name not in scenarios:
        known = ", ".join(scenarios) or "none: VLM4REC_RULES names a file with `scenarios`"
        raise UsageError(f"there is no scenario {name!r}; known are {known}")
    return {**scenarios[name].options, **options, "scenario": name}


def similar_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a search for what is like an item: popularity counts where arguments of `preset` say so."""
    return {"similar": True, "weights": {"popularity": 0.0, **arguments.get("weights", {})}}


class RulesFile(BaseModel):
    """The content of a file of rules, read at one moment.

    Attributes:
        rules: business rules.
        scenarios: presets of search options by name, for `preset`.
        experiments: live comparisons by name, for a service.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...] = ()
    scenarios: dict[
        str, Annotated[Scenario, BeforeValidator(lambda options: {} if options in (None, "") else options)]
    ] = {}
    experiments: dict[str, Experiment] = {}

    @property
    def releases(self) -> frozenset[str]:
        """The releases that experiments name."""
        return frozenset(name for each in self.experiments.values() for name in each.releases)


def load_rules(path: Path | None) -> RulesFile:
    """Read a YAML file of rules; without a file there are none.

    Raises:
        UsageError: the file is missing or not YAML, a rule, scenario or experiment cannot be read, or one is for a
            scenario that the file lacks.
    """
    if path is None:
        return RulesFile()
    # BaseLoader reads every value as text: SafeLoader would turn the id 00001 into the number 1.
    file = read_yaml(path, RulesFile, "the file of rules", "set VLM4REC_RULES", yaml.BaseLoader)
    return _checked(file, f"the file of rules {path}")


def parse_rules(text: str) -> RulesFile:
    """Read the text of such a file.

    Raises:
        UsageError: the text is not YAML, a rule, scenario or experiment cannot be read, or one is for a scenario that
            the text lacks.
    """
    what = "the text of the rules"
    return _checked(parse_yaml(text, RulesFile, what, yaml.BaseLoader), what)


def _checked(file: RulesFile, what: str) -> RulesFile:
    named = {f"rule {number}": rule.when.scenario for number, rule in enumerate(file.rules, 1) if rule.when}
    named |= {f"experiment {name!r}": (each.scenario,) for name, each in file.experiments.items() if each.scenario}
    for who, scenarios in named.items():
        for name in scenarios:
            if name not in file.scenarios:
                known = ", ".join(file.scenarios) or "none"
                raise UsageError(f"{what}: {who} is for the scenario {name!r}, which is not there; it has {known}")
    return file
