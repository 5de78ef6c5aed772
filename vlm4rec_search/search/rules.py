"""Business rules as data: they pin, boost, bury or drop hits after the fusion, and each gives its reason.

rules:
  - {action: pin, items: [A1, B2], reason: launch of the week}
  - {action: boost, filter: season=summer, factor: 1.5, reason: it is June}
  - {action: bury, filter: available=false, reason: out of stock}
  - {action: drop, filter: brand=Recalled, reason: recalled}
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm4rec_search.common.yaml_files import read_yaml
from vlm4rec_search.search.filters import check_utf8, parse_filter

_condition = cache(parse_filter)  # a rule's filter is evaluated for every candidate of every search


class Rule(BaseModel):
    """One rule: what it does, to which items, and why.

    Attributes:
        action: pin puts its items first, in their order, where filters and the history allow them; boost multiplies
            scores by `factor`; bury puts hits last; drop removes them.
        items: ids of the items that the rule applies to; without ids it applies to the items that fulfil `filter`.
        filter: a condition as in a search, such as price>=10.
        factor: of a boost; above 1 raises scores, below 1 lowers them.
        reason: shown in explanations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["pin", "boost", "bury", "drop"]
    items: tuple[str, ...] = ()
    filter: str | None = None
    factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    reason: str = ""

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
        return item_id in self.items if self.filter is None else _condition(self.filter).matches(facets)

    @property
    def note(self) -> str:
        """What explanations say about a hit that the rule applies to."""
        raised = "is boosted" if self.factor >= 1.0 else "is lowered"
        effect = {"pin": "is pinned", "boost": raised, "bury": "is put last"}.get(self.action, "is left out")
        details = [f"factor {self.factor:g}" if self.action == "boost" else "", self.reason]
        told = ": ".join(detail for detail in details if detail)
        return f"{effect} by a rule" + (f" ({told})" if told else "")


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...]


def load_rules(path: Path | None) -> tuple[Rule, ...]:
    """Read the rules of a YAML file; without a file there are none.

    Raises:
        UsageError: the file is missing or not YAML, or a rule cannot be read.
    """
    if path is None:
        return ()
    # BaseLoader reads every value as text: SafeLoader would turn the id 00001 into the number 1.
    return read_yaml(path, _Rules, "the file of rules", "set VLM4REC_RULES", yaml.BaseLoader).rules
