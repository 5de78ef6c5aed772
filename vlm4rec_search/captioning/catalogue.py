"""The items to caption, the most wanted first, read without holding the warehouse."""

from dataclasses import dataclass

from vlm4rec_search.captioning.registry import Context
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import read, schema

BY_PRIORITY = """
    WITH taken AS (
      SELECT histories.item_id, COUNT(*) AS times, EPOCH(MAX(histories.interacted_at)) AS latest
      FROM "{histories}".user_histories AS histories
      GROUP BY histories.item_id
    ), wanted AS (
      SELECT
        taken.item_id,
        0.7 * taken.times / MAX(taken.times) OVER () + 0.3 * COALESCE(
          (taken.latest - MIN(taken.latest) OVER ()) / NULLIF(MAX(taken.latest) OVER () - MIN(taken.latest) OVER (), 0),
          1
        ) AS priority
      FROM taken
    )
    SELECT
      items.item_id, items.image, items.title, COALESCE(items.category, ''), COALESCE(wanted.priority, 0) AS priority
    FROM "{staging}".items AS items
    LEFT JOIN wanted ON wanted.item_id = items.item_id
    ORDER BY priority DESC, items.item_id
"""


@dataclass(frozen=True)
class Item:
    """An item of staging.items; `image` is a path in the data folder, a URL, or None; `priority` is from 0 to 1."""

    item_id: str
    image: str | None
    title: str
    category: str
    priority: float

    @property
    def context(self) -> Context:
        """What a captioner may know of the item."""
        return Context(self.title, self.category)


def items_by_priority(settings: Settings, environment: str = "prod") -> list[Item]:
    """Return every item, the highest priority first.

    The priority is the paper's: 0.7 x popularity + 0.3 x recency, each from 0 to 1: interactions as a share of the
    most popular item's, and the latest interaction's place between the earliest and the newest of all items; 0 for an
    item without any. While a plan writes the warehouse, the published copy is read.

    Raises:
        UsageError: no plan has built the tables yet.
        RunError: the warehouse is being written, and there is no published copy.
    """
    query = BY_PRIORITY.format(staging=schema("staging", environment), histories=schema("histories", environment))
    copy = settings.published / settings.warehouse.name
    try:
        with read(settings.warehouse) as connection:
            rows = connection.execute(query).fetchall()
    except RunError:
        if not copy.is_file():
            raise
        with read(copy) as connection:
            rows = connection.execute(query).fetchall()
    return [Item(*row) for row in rows]
