"""The protocol: where histories end, which later items are relevant, which users and items take part."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from duckdb import DuckDBPyConnection
from pandas import DataFrame

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.importers.write import ABOUT_GIVEN, GIVEN_VECTORS
from vlm4rec_search.evaluation.data import Split, Targets, incidence
from vlm4rec_search.pipeline.rendering import render_model

SplitRule = Literal["time", "leave-one-out"]
Candidates = Literal["known", "all"]

_SPAN = "SELECT as_of FROM histories.as_of"
LIKED = """
    COALESCE(
        (SELECT weight FROM profiles.event_weights AS known WHERE known.event_type = interactions.event_type),
        (SELECT weight FROM profiles.event_weights AS fallback WHERE fallback.event_type = 'default')
    ) > 0
"""
_CUTS = f"""
SELECT quantile_cont(first_at, $shares) FROM (
    SELECT MIN(interacted_at) AS first_at FROM staging.interactions WHERE interacted_at <= $until AND {LIKED}
    GROUP BY user_id, item_id
)
"""  # noqa: S608  our own text alone
# Only what speaks for an item on the whole is something to find: nobody wants to be shown what is hidden or sent back.
_TAKEN = """
SELECT events.user_id, events.item_id
FROM {histories} AS events
LEFT JOIN profiles.event_weights AS known ON known.event_type = events.event_type
INNER JOIN profiles.event_weights AS fallback ON fallback.event_type = 'default'
WHERE events.interacted_at > {since}
GROUP BY events.user_id, events.item_id
HAVING SUM(COALESCE(known.weight, fallback.weight)) > 0
"""
# Shoppers with enough items before, who took what was new to them and may be ranked.
_RETURNING = """
WITH seen AS MATERIALIZED ({seen}), taken AS MATERIALIZED ({taken})
SELECT COUNT(DISTINCT taken.user_id)
FROM taken
ANTI JOIN seen ON seen.user_id = taken.user_id AND seen.item_id = taken.item_id
WHERE taken.user_id IN (SELECT seen.user_id FROM seen GROUP BY seen.user_id HAVING COUNT(*) >= $history)
    AND ($all OR taken.item_id IN (SELECT seen.item_id FROM seen))
"""
TAKEN_EVER = _TAKEN.format(histories="histories.user_histories", since="'-infinity'")
# The last item that was new to each user; from there on the user's rows are held out.
_LAST = """
CREATE OR REPLACE TEMP TABLE held_out AS
WITH placed AS (
    SELECT row_number, user_id, item_id, liked,
        ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY interacted_at, row_number) AS place
    FROM kept
), firsts AS (
    SELECT user_id, item_id, MIN(place) AS place FROM placed WHERE liked GROUP BY ALL
), lasts AS (
    SELECT user_id, ARG_MAX(item_id, place) AS target, MAX(place) AS place
    FROM firsts GROUP BY user_id HAVING COUNT(*) > $history
)
SELECT placed.row_number, placed.user_id, lasts.target AS item_id
FROM placed JOIN lasts ON lasts.user_id = placed.user_id AND placed.place >= lasts.place
"""


@dataclass(frozen=True)
class Protocol:
    """The rules of one evaluation; they are the same for every system.

    Attributes:
        rule: `time` cuts every history at one moment; `leave-one-out` holds out each user's last new item, so that
            what others did later stays visible: it leaks in time, and its rows say so.
        candidates: items that somebody had taken before the cut (`known`), or the whole catalogue (`all`).
        repeat: rank items of the history, too, and count taking one again as found; with `time` only.
        history: fewest different items in a user's history.
        validation: share of the first interactions of a user with an item, that speak for it, up to the validation cut.
        test: the same up to the test cut.
        seed: of everything random.
        sample: the most users of each part, drawn with the seed; None for all.

    Raises:
        UsageError: shares that are not in order, a negative seed, a sample of nobody, or repeat with leave-one-out.
    """

    rule: SplitRule = "time"
    candidates: Candidates = "known"
    repeat: bool = False
    history: int = 2
    validation: float = 0.8
    test: float = 0.9
    seed: int = 7
    sample: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.validation < self.test < 1:
            raise UsageError("the cuts have to be shares between 0 and 1, validation before test")
        if self.seed < 0 or self.history < 1:
            raise UsageError("the seed has to be 0 or more, and a history at least one item")
        if self.sample is not None and self.sample < 1:
            raise UsageError("the number of users has to be 1 or more")
        if self.repeat and self.leaks:
            raise UsageError(
                "--repeat needs --protocol time: leave-one-out holds out new items, and no repetition is one"
            )

    @property
    def leaks(self) -> bool:
        """Whether systems see interactions that happened after the moment of the prediction."""
        return self.rule == "leave-one-out"

    def to_json(self) -> dict[str, object]:
        """Return the rules as plain values."""
        return asdict(self) | {"leaks_in_time": self.leaks}


@dataclass(frozen=True)
class Cuts:
    """The moments of a time split: histories end at a cut, and items between it and the next cut are relevant."""

    validation: datetime
    test: datetime
    end: datetime


def find_cuts(connection: "DuckDBPyConnection", protocol: Protocol) -> Cuts:
    """Return the moments of a time split of the interactions up to `as_of` of the tables.

    Raises:
        UsageError: there are no interactions, or all of them happened at once.
    """
    try:
        return Cuts(*find_moments(connection, (protocol.validation, protocol.test, 1.0)))
    except UsageError as error:
        raise UsageError(f"{error}; `vlm4rec evaluate --protocol leave-one-out` needs no times") from None


def find_moments(
    connection: "DuckDBPyConnection", shares: Sequence[float], end: datetime | None = None
) -> list[datetime]:
    """Return the moments before which these shares of the first interactions of users with items happened.

    The share 1 is the end; None is the moment of the tables.

    Raises:
        UsageError: there are no interactions, or two moments are the same.
    """
    end = end or find_end(connection)
    inner = [share for share in shares if share < 1.0]
    found = _cuts(connection, inner, end)
    moments = [*found, end] if end else []
    if not found or any(later <= earlier for earlier, later in pairwise(moments)):
        raise UsageError("there are too few interactions or different times for a time split")
    return moments[: len(shares)]


def find_window_moments(connection: "DuckDBPyConnection", shares: Sequence[float]) -> list[datetime]:
    """Return the moments before which these shares of the first interactions happened, equal ones once.

    Raises:
        UsageError: there are fewer than two different moments.
    """
    moments = sorted(set(_cuts(connection, shares, find_end(connection))))
    if len(moments) < 2:
        raise UsageError("the interactions happened at too few different times for windows")
    return moments


def _cuts(connection: "DuckDBPyConnection", shares: Sequence[float], end: datetime | None) -> list[datetime]:
    """Return the moment of each share of the first interactions up to the end, none where there are none."""
    (found,) = connection.execute(_CUTS, {"shares": list(shares), "until": end}).fetchone() or (None,)
    return found or []


def find_end(connection: "DuckDBPyConnection") -> datetime | None:
    """Return the moment of the tables, None without interactions."""
    found: tuple[datetime | None] | None = connection.execute(_SPAN).fetchone()
    return found[0] if found else None


def taken_between(connection: "DuckDBPyConnection", histories: str, since: datetime, until: datetime) -> "DataFrame":
    """Return user_id and item_id of what shoppers took after a moment and had not sent back or hidden up to another.

    Args:
        connection: to the warehouse with all interactions.
        histories: the query of `histories_until`.
        since: only later events count.
        until: no later event is known.
    """
    parameters = {"since": since, "until": until}
    return connection.execute(_TAKEN.format(histories=histories, since="$since"), parameters).df()


def count_returning(
    connection: "DuckDBPyConnection", histories: str, protocol: Protocol, since: datetime, until: datetime
) -> int:
    """Return how many shoppers `find_targets` would ask about what they took between two moments, without any tables.

    It is never fewer: a shopper who takes what was hidden or sent back before counts here, too.

    Args:
        connection: to the warehouse with all interactions.
        histories: the query of `histories_until`.
        protocol: which items may be ranked, and how long a history has to be.
        since: the moment of the tables.
        until: no later event is known.
    """
    query = _RETURNING.format(
        seen=_TAKEN.format(histories=histories.replace("$until", "$since"), since="'-infinity'"),
        taken=_TAKEN.format(histories=histories, since="$since"),
    )
    rules = {"history": protocol.history, "all": protocol.candidates == "all"}
    (count,) = connection.execute(query, {"since": since, "until": until, **rules}).fetchone() or (0,)
    return int(count)


@cache
def histories_until(project: Path) -> str:
    """Return the query of histories.user_histories as of $until; the model says which purchases were sent back.

    Args:
        project: the SQLMesh project.
    """
    histories = render_model(project, "histories.user_histories")
    return "(" + histories.replace('"histories"."as_of"', "(SELECT $until::TIMESTAMP AS as_of)") + ")"


def hold_out_last(connection: "DuckDBPyConnection", protocol: Protocol) -> "DataFrame":
    """Hold out the last new item of each user of the temporary table `kept`, and return user_id and item_id.

    What is held out, the item and every later row of its user, is removed from `kept` (row_number, user_id, item_id,
    interacted_at, liked).
    """
    connection.execute(_LAST, {"history": protocol.history})
    connection.execute("DELETE FROM kept WHERE row_number IN (SELECT row_number FROM held_out)")
    return connection.execute("SELECT DISTINCT user_id, item_id FROM held_out").df()


def find_targets(split: Split, taken: "DataFrame", history: int) -> Targets:
    """Return the relevant items of each user: candidates taken later, new to the user unless the split allows repeats.

    Args:
        split: users with fewer than `history` different items there are left out, and so are unknown ones.
        taken: user_id, item_id.
        history: fewest different items.
    """
    users = pd.Index(split.user_ids).get_indexer(pd.Index(taken["user_id"])).astype(np.int64)
    items = split.catalogue.positions(taken["item_id"].to_numpy(dtype=object))
    known = (users >= 0) & (items >= 0)
    later = incidence(users[known], items[known], split.shape)
    if not split.repeat:
        later = later - later.multiply(split.excluded).tocsr()
    long_enough = np.diff(split.seen.indptr) >= history
    later = later.multiply(long_enough[:, None].astype(np.float32)).tocsr()
    later.eliminate_zeros()
    return Targets(np.arange(split.shape[0]), later).within(split.candidates)


# What a data set brings along for its evaluation (GIVEN.json): its own split, and its own vectors.

_FILES = {"vision": GIVEN_VECTORS["image"], "title": GIVEN_VECTORS["text"]}


def given_cuts(data: Path) -> Cuts | None:
    """Return the moments of the split that comes with a data set, None without one.

    Raises:
        UsageError: GIVEN.json cannot be read.
    """
    file = data / ABOUT_GIVEN
    if not file.is_file():
        return None
    try:
        days = json.loads(file.read_text("utf-8"))["splits"]
        return Cuts(*(datetime.fromisoformat(days[part]) for part in ("train", "validation", "test")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read the data set's own split in {file} ({error}): import it again") from None


def cuts_of(connection: "DuckDBPyConnection", data: Path, protocol: Protocol) -> Cuts:
    """Return the moments of the time split: those of the data set, or those of the protocol's shares.

    Raises:
        UsageError: GIVEN.json cannot be read, or there are too few interactions to split.
    """
    return given_cuts(data) or find_cuts(connection, protocol)


def given_vectors(data: Path, kind: str) -> "pd.DataFrame | None":
    """Return item_id and vector of the data set's own photo (`vision`) or title vectors (`title`), None without them.

    Raises:
        UsageError: the file cannot be read.
    """
    name = _FILES.get(kind)
    if name is None or not (data / name).is_file() or not (data / ABOUT_GIVEN).is_file():
        return None
    try:
        return pd.read_parquet(data / name, columns=["item_id", "vector"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"cannot read the given vectors {data / name} ({error}): import the data set again") from None
