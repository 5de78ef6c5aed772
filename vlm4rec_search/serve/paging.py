"""Where a page stands among the pages of a recommendation: how many items it has, and which page comes next."""

from dataclasses import dataclass

from vlm4rec_search.serve.schemas import LARGEST_PAGE

DEPTH = 200  # items of all pages of a recommendation together


@dataclass(frozen=True)
class Paging:
    """The place of a page.

    Attributes:
        recommendation_id: of all pages.
        number: of the page, from 1.
        k: items of each page, as the request asks for them.
        before: items of the pages before.
    """

    recommendation_id: str
    number: int
    k: int
    before: int

    @property
    def size(self) -> int:
        """The most items of the page; 0 behind the last one."""
        return min(self.k, LARGEST_PAGE, DEPTH - self.before)

    def following(self, items: int) -> str | None:
        """Return the address of the next page, None where this one, with so many items, is the last.

        A page with fewer items than it may have is the last one, and so is the one that reaches `DEPTH`.
        """
        if items < self.size or self.before + items >= DEPTH:
            return None
        return f"/v1/recommendations/{self.recommendation_id}?page={self.number + 1}"
