"""Filters of a query: `category=shoes`, `price=10..50`, `price>=10`, `available=true`, `brand=Alder`."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.text_forms import composed

HINT = "write field=value, field=10..50, field>=10, field>10, field<=50 or field<50"
COLUMNS = ("available", "category", "price")  # of every catalogue; all other fields are attributes of its items
_PARTS = re.compile(r"([^=<>]+?)\s*(>=|<=|=|>|<)\s*(.*)", re.DOTALL)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})?\.\.({_NUMBER})?")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_TRUTH_WORDS = ("true", "false")
_SHOWN = 5  # values that a message lists
_TRUTH = {"true": "true", "yes": "true", "1": "true", "false": "false", "no": "false", "0": "false"}


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on one field: its value is one of `values`, or a number between `low` and `high`.

    An item whose field is a list fulfils the condition if one of the list's values does. An item without the field does
    not fulfil it.
    """

    field: str
    values: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False  # the bound itself is excluded
    high_open: bool = False

    def matches(self, facets: Mapping[str, Sequence[str]]) -> bool:
        """Return whether an item with these values by field fulfils the condition, as the filter of an index would."""
        values = facets.get(self.field, ())
        if self.values:
            return any(value in self.values for value in values)
        return any(self._contains(value) for value in values)

    def _contains(self, value: str) -> bool:
        try:
            number = float(value)
        except ValueError:
            return False
        above = number > self.low if self.low_open else number >= self.low
        below = number < self.high if self.high_open else number <= self.high
        return math.isfinite(number) and above and below


def parse_filters(filters: Sequence[str | Filter]) -> tuple[Filter, ...]:
    """Return the conditions, all of which an item has to fulfil; equalities on one field are joined by OR.

    Raises:
        UsageError: a filter cannot be read, a number is none or infinite, or an availability is not true or false.
    """
    if isinstance(filters, str) or not isinstance(filters, Collection):
        raise UsageError(f"filters is {filters!r}: use a list of filters")
    parsed: list[Filter] = []
    for item in filters:
        new = parse_filter(item) if isinstance(item, str) else _checked(item)
        same = next((old for old in parsed if old.field == new.field and old.values and new.values), None)
        if same is None:
            parsed.append(new)
        else:
            parsed[parsed.index(same)] = replace(same, values=same.values + new.values)
    return tuple(parsed)


def _checked(condition: Filter) -> Filter:
    """Check the bounds of a `Filter`, and normalise its values as if they came from a text."""
    if not isinstance(condition, Filter):
        raise UsageError(f"the filter {condition!r} is no text: {HINT}")
    low, high = condition.low, condition.high
    if not (low < math.inf and high > -math.inf):  # of NaN neither holds
        raise UsageError(f"the filter on {condition.field!r} has the bounds {low} and {high}: use finite numbers")
    values = tuple(each for value in condition.values for each in _equality(condition.field, value, value).values)
    return replace(condition, values=values)


def parse_filter(text: str) -> Filter:
    """Return the condition that a text such as price=10..50 states.

    Raises:
        UsageError: the text cannot be read as a condition.
    """
    parts = _PARTS.fullmatch(composed(text).strip())
    if parts is None or not parts[3]:
        raise UsageError(f"cannot read the filter {text!r}: {HINT}")
    field, sign, value = parts[1], parts[2], parts[3]
    if sign != "=":
        return _bound(field, sign, _number(value, text))
    span = _RANGE.fullmatch(value)
    if span and value != "..":
        low = _number(span[1], text) if span[1] else -math.inf
        high = _number(span[2], text) if span[2] else math.inf
        if low > high:
            raise UsageError(f"the filter {text!r} matches nothing: its lower end is above its upper end")
        return Filter(field, low=low, high=high)
    return _equality(field, value, text)


def _bound(field: str, sign: str, number: float) -> Filter:
    if sign in (">", ">="):
        return Filter(field, low=number, low_open=sign == ">")
    return Filter(field, high=number, high_open=sign == "<")


def _equality(field: str, value: str, text: str) -> Filter:
    if field == "price":
        number = _number(value, text)
        return Filter(field, values=(plain(repr(number)),))
    if field == "available":
        if value.lower() not in _TRUTH:
            raise UsageError(f"cannot read the filter {text!r}: available is true or false")
        return Filter(field, values=(_TRUTH[value.lower()],))
    return Filter(field, values=(plain(composed(value)),))


def plain(value: str) -> str:
    """Return a value as an index stores it: true for True, 5 for 5.0, 6.5 for 6.50; 00001 and 1 stay different."""
    if value.lower() in _TRUTH_WORDS:
        return value.lower()
    return value.rstrip("0").rstrip(".") if _DECIMAL.fullmatch(value) else value


def check_utf8(name: str, value: str) -> None:
    """Refuse text that cannot be sent, such as a lone surrogate.

    Raises:
        UsageError: the text cannot be written as UTF-8.
    """
    if value.encode("utf-8", "replace").decode() != value:
        raise UsageError(f"the {name} is not UTF-8 text")


def check_field(field: str, fields: Collection[str]) -> None:
    """Refuse a field that no document has.

    Raises:
        UsageError: the field is neither among `fields` nor in `COLUMNS`.
    """
    if field not in fields and field not in COLUMNS:
        names = ", ".join(sorted({*fields, *COLUMNS}))
        raise UsageError(f"no item has the field {field!r}: the fields are {names}")


def suggest(name: str, names: Collection[str]) -> str:
    """Return the question whether the nearest of some names was meant, empty where none is near."""
    folded = {each.casefold(): each for each in names}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.75)
    return f"did you mean {folded[near[0]]!r}?" if near else ""


def suggest_values(condition: Filter, values: Sequence[str]) -> str:
    """Return the value that was probably meant by a condition that no item fulfils, else some values of its field."""
    near = suggest(condition.values[0], values) if condition.values else ""
    some = f"values are {', '.join(values[:_SHOWN])}" if values else ""
    return near or some


def _number(value: str, text: str) -> float:
    if not re.fullmatch(_NUMBER, value):
        raise UsageError(f"cannot read the filter {text!r}: {value!r} is not a number; {HINT}")
    if not math.isfinite(number := float(value)):
        raise UsageError(f"cannot read the filter {text!r}: {value} is too large for a number")
    return number
