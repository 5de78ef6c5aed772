"""Search and recommendation that understands product photos and shoppers.

The Python API is a few names::

    from vlm4rec_search import Query, open_index

    with open_index("index") as index:
        answer = index.search(Query(user="u001", k=10))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlm4rec_search.indexes import open_index
    from vlm4rec_search.search.query import Answer, Hit, Query

__all__ = ["Answer", "Hit", "Query", "open_index"]

_HOMES = {
    "Answer": "vlm4rec_search.search.query",
    "Hit": "vlm4rec_search.search.query",
    "Query": "vlm4rec_search.search.query",
    "open_index": "vlm4rec_search.indexes",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import vlm4rec_search` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
