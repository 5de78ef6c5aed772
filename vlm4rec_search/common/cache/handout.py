"""Batches of a fill: each key to one process, as far as the money goes."""

from collections.abc import Callable, Iterator, Sequence

from vlm4rec_search.common.cache.claims import Claims
from vlm4rec_search.common.cache.policy import Result, batches
from vlm4rec_search.common.cache.spending import Meter
from vlm4rec_search.common.errors import RunError

Finished = Callable[[Sequence[str]], set[str]]
"""From keys to those of them that another process has finished meanwhile."""


class Handout:
    """Hands out positions in `keys` to compute; what another process is at comes last, and mostly is done by then.

    Attributes:
        left: positions that were not handed out because the money was spent.
    """

    def __init__(self, keys: Sequence[str], claims: Claims | None, finished: Finished, meter: Meter) -> None:
        self._keys, self._claims, self._finished, self._meter = keys, claims, finished, meter
        self._unanswered = 0
        self._elsewhere: list[int] = []
        self._rest: Sequence[int] = []
        self.left = 0

    def rounds(self, todo: Sequence[int], size: int) -> Iterator[Iterator[Sequence[int]]]:
        """Yield rounds of batches; a round ends when its batches are answered, before the next begins.

        The next one has what the money did not allow beside unanswered calls, which may have cost less than feared,
        and what another process was at. Where the money allows not one batch, nothing follows.
        """
        while todo:
            self._rest, self._elsewhere, before = [], [], len(todo)
            yield self._batches(todo, size)
            if len(self._rest) == before:
                self.left = before
                return
            todo = [*self._rest, *self._elsewhere]
            if self._elsewhere and self._claims and not self._rest:
                self._claims.wait(self._keys[todo[0]])

    def named(self, batch: Sequence[int], results: Sequence[Result], maker: str) -> dict[str, Result]:
        """Return the results of a batch by key.

        Raises:
            RunError: there are not as many as were asked for.
        """
        if len(results) != len(batch):
            told = f"{len(results)} results for a batch of {len(batch)}"
            raise RunError(f"{maker} returned {told}: this is a defect in it")
        return dict(zip((self._keys[position] for position in batch), results, strict=True))

    def answered(self, batch: Sequence[int]) -> None:
        """Let go of a batch whose results are kept."""
        self._unanswered -= len(batch)
        self._release(batch)

    def _batches(self, todo: Sequence[int], size: int) -> Iterator[Sequence[int]]:
        for start, batch in zip(range(0, len(todo), size), batches(todo, size), strict=True):
            if not self._meter.allows(len(batch), self._unanswered):
                self._rest = todo[start:]
                return
            if ours := self._claimed(batch):
                self._unanswered += len(ours)
                yield ours

    def _claimed(self, batch: Sequence[int]) -> Sequence[int]:
        """Return what of a batch is ours, and not finished; looked up under the claim, so that nobody comes between."""
        if self._claims is None:
            return batch
        ours = [position for position in batch if self._claims.take(self._keys[position])]
        self._elsewhere += [position for position in batch if position not in ours]
        finished = self._finished([self._keys[position] for position in ours])
        self._release([position for position in ours if self._keys[position] in finished])
        return [position for position in ours if self._keys[position] not in finished]

    def _release(self, batch: Sequence[int]) -> None:
        for position in batch:
            if self._claims:
                self._claims.give(self._keys[position])
