"""What every index can do, whatever its backend."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from vlm4rec_search.queries.query import Answer, Query


class Index(ABC):
    """An open index; use it in a `with` block. Several threads may search at once."""

    @abstractmethod
    def search(self, query: Query) -> Answer:
        """Answer a query.

        Raises:
            UsageError: a filter names an unknown field, or the text needs an encoder that is not there.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what the index holds."""

    def __enter__(self) -> Self:
        """Return the index itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the index."""
        self.close()
