"""Rules of the business, as data: they pin, boost, bury or drop hits after the fusion, and each says why.

rules:
  - {action: pin, items: [A1, B2], reason: launch of the week}
  - {action: boost, filter: season=summer, factor: 1.5, reason: it is June}
  - {action: bury, filter: available=false, reason: out of stock}
  - {action: drop, filter: brand=Recalled, reason: recalled}
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.filters import Filter, parse_filter

Facets = Mapping[str, Sequence[str]]
_condition = cache(parse_filter)  # asked for every candidate of every search


class Rule(BaseModel):
    """One rule: what it does, to which items, and why.

    Attributes:
        action: pin puts its items first, in their order, where filters and the history allow them; boost multiplies
            scores by `factor`; bury puts hits last; drop leaves them out.
        items: ids of the items; a rule without them is for those that fulfil `filter`.
        filter: a condition as in a search, such as price>=10.
        factor: of a boost; above 1 lifts, below 1 lowers.
        reason: for people; explanations show it.
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
            raise ValueError("a rule is either for items or for a filter")
        if self.action == "pin" and not self.items:
            raise ValueError("a pin names its items")
        if ("factor" in self.model_fields_set) != (self.action == "boost"):
            raise ValueError("a boost has a factor, and nothing else has one")
        if self.filter is not None:
            parse_filter(self.filter)
        return self

    def holds(self, item_id: str, facets: Facets) -> bool:
        """Tell whether the rule is for an item with these values by field."""
        return item_id in self.items if self.filter is None else fulfils(_condition(self.filter), facets)

    @property
    def note(self) -> str:
        """What is said of a hit that the rule is for."""
        does = {"pin": "is pinned", "boost": f"is boosted by {self.factor:g}", "bury": "is put last"}
        return f"{does.get(self.action, 'is left out')} by a rule" + (f" ({self.reason})" if self.reason else "")


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...]


@cache
def load_rules(path: Path | None) -> tuple[Rule, ...]:
    """Read the rules of a YAML file, none without a file.

    Raises:
        UsageError: the file is missing or not YAML, or a rule cannot be read.
    """
    import yaml

    if path is None:
        return ()
    try:
        # Every value is text as it is written: 00001 is an id, and safe_load would read the number 1.
        return _Rules.model_validate(yaml.load(path.read_text("utf-8"), yaml.BaseLoader)).rules  # noqa: S506
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the rules {path} ({error}): set VLM4REC_RULES") from None
    except yaml.YAMLError as error:
        raise UsageError(f"the rules {path} are not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"the rules {path}: {place}: {first['msg']}") from None


def fulfils(condition: Filter, facets: Facets) -> bool:
    """Tell whether values by field fulfil a condition, as the filter of an index would."""
    values = facets.get(condition.field, ())
    if condition.values:
        return any(value in condition.values for value in values)
    return any(_within(condition, value) for value in values)


def _within(condition: Filter, value: str) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    above = number > condition.low if condition.low_open else number >= condition.low
    below = number < condition.high if condition.high_open else number <= condition.high
    return math.isfinite(number) and above and below
