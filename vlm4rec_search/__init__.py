"""Search and recommendation that understands product photos and shoppers.

The Python API::

    from vlm4rec_search import Query, open_index

    with open_index("index") as index:
        for hit in index.search(Query(user="u001", k=10)).hits:
            print(hit.rank, hit.title)

Errors that a caller may expect are `UsageError` (the caller can mend it) and `RunError` (a run failed); both are
`Vlm4recError`. Plug-ins implement `Captioner`, `SentenceEncoder`, `ImageEncoder` or `System`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vlm4rec_search.common import old_paths

if TYPE_CHECKING:
    from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError, Context
    from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
    from vlm4rec_search.common.settings import Settings
    from vlm4rec_search.embeddings.base import ImageEncoder, SentenceEncoder
    from vlm4rec_search.indexes import open_index
    from vlm4rec_search.search.filters import Filter
    from vlm4rec_search.search.query import Answer, Explanation, Hit, Query
    from vlm4rec_search.search.ranking import Ranking
    from vlm4rec_search.search.rules import Rule
    from vlm4rec_search.search.searcher import Searcher

old_paths.install()

_MODULES = {
    "captioning.base": ("Caption", "CaptionError", "Captioner", "Context"),
    "common.errors": ("RunError", "UsageError", "Vlm4recError"),
    "common.settings": ("Settings",),
    "embeddings.base": ("ImageEncoder", "SentenceEncoder"),
    "indexes": ("open_index",),
    "search.filters": ("Filter",),
    "search.query": ("Answer", "Explanation", "Hit", "Query"),
    "search.ranking": ("Ranking",),
    "search.rules": ("Rule",),
    "search.searcher": ("Searcher",),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    "Answer",
    "Caption",
    "CaptionError",
    "Captioner",
    "Context",
    "Explanation",
    "Filter",
    "Hit",
    "ImageEncoder",
    "Query",
    "Ranking",
    "Rule",
    "RunError",
    "Searcher",
    "SentenceEncoder",
    "Settings",
    "UsageError",
    "Vlm4recError",
    "open_index",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import vlm4rec_search` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
