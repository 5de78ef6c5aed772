"""The one trainer of all learned systems: the profile of a history against the item that was taken next.

The loss is the softmax over the items of a batch with the correction for how often an item stands in one (Bengio and
Senecal 2008; Yi et al., RecSys 2019): logit = cosine / temperature - ln Q(item), Q being its share of the questions.
What else the user has taken is no negative.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from vlm4rec_search.common.progress import Advance
from vlm4rec_search.common.vectors import Ints, Mask, Scores
from vlm4rec_search.evaluation.data import Split

HISTORY = 50  # the last items of a history that a question shows
BATCH = 512
PER_EPOCH = 16 * BATCH  # questions at most, drawn anew for every epoch
PATIENCE = 4  # epochs without a better validation
TEMPERATURE = 0.1
DECAY = 1e-4
Judge: TypeAlias = Callable[[], float]


class Model(Protocol):
    """What can be trained, see `fusion` and `smore`."""

    rate: float

    def views(self) -> Tensor:
        """Return the item vectors whose mean over a history is the profile, (n, w)."""

    def head(self, views: Tensor) -> Tensor:
        """Return the vectors (..., d) of items or profiles from their views (..., w)."""

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        """Return what is trained."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the same by name."""


@dataclass(frozen=True)
class Questions:
    """First times that users took items, r of them in order of user and time, m of which are asked.

    A question shows what the user took no later than the item, without the item: in a log whose times stand for days
    or baskets, that is the rest of the basket, too.

    Attributes:
        users, items, weights: (r,), rows of the split, and the item's weight in the profile.
        low, high: (r,), which of the r each question shows, the item itself included.
        asked: (m,), which of the r are questions.
        log_share: (n,), ln of each item's share of the questions.
    """

    users: Ints
    items: Ints
    weights: Scores
    low: Ints
    high: Ints
    asked: Ints
    log_share: Scores


def questions(split: Split, usable: Mask) -> Questions:
    """Return the questions of a log among usable items (n,); items that speak against a profile are not asked for."""
    _, first = np.unique(split.users * split.shape[1] + split.items, return_index=True)
    rows = np.sort(first)
    rows = rows[usable[split.items[rows]]]
    users, items, times = split.users[rows], split.items[rows], split.times[rows]
    starts = np.ones(len(rows), dtype=np.bool_)
    starts[1:] = (users[1:] != users[:-1]) | (times[1:] != times[:-1])
    ends = np.append(np.flatnonzero(starts)[1:], len(rows))
    high = ends[np.cumsum(starts) - 1]
    low = np.maximum(np.searchsorted(users, users), high - HISTORY - 1)
    weights = np.asarray(split.weights[users, items], dtype=np.float32)
    asked = np.flatnonzero((high - low > 1) & (weights > 0))
    counts = np.bincount(items[asked], minlength=split.shape[1])
    shares = np.log(np.maximum(counts, 1) / max(len(asked), 1)).astype(np.float32)
    return Questions(users, items, weights, low, high, asked, shares)


def train(
    model: Model,
    split: Split,
    asked: Questions,
    seed: Sequence[int],
    epochs: int,
    judge: Judge | None,
    advance: Advance = lambda _: None,
) -> tuple[int, list[float]]:
    """Train a model in place, and return the number of epochs that were best and what each was judged.

    Args:
        model: to be trained.
        split: what may be learned from.
        asked: its questions.
        seed: of the order of the questions.
        epochs: how many; at most so many with a judge.
        judge: the score of the model as it stands, larger is better; training stops when it has not grown for
            `PATIENCE` epochs. Zero epochs are an answer, too. None trains for exactly `epochs`.
        advance: called after each epoch with 1.

    Returns:
        The epochs, and the score before training and after each epoch, nothing without a judge.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=model.rate, weight_decay=DECAY)
    draw = np.random.default_rng(seed)
    scores = [judge()] if judge else []
    for epoch in range(1, epochs + 1):
        for batch in _batches(asked.asked, draw):
            optimiser.zero_grad()
            _loss(model, asked, batch, split.seen).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        advance(1)
        if judge:
            scores.append(judge())
            if epoch - int(np.argmax(scores)) >= PATIENCE:
                break
    return int(np.argmax(scores)) if judge else epochs, scores


def _batches(asked: Ints, draw: np.random.Generator) -> list[Ints]:
    order = draw.permutation(asked)[:PER_EPOCH]
    batches = [order[low : low + BATCH] for low in range(0, len(order), BATCH)]
    return [batch for batch in batches if len(batch) > 1]  # one question alone has no negative


def _loss(model: Model, asked: Questions, batch: Ints, seen: sparse.csr_array) -> Tensor:
    """Return the mean loss of a batch of questions."""
    views = model.views()
    targets = torch.from_numpy(asked.items[batch])
    items = functional.normalize(model.head(views[targets]), dim=-1)
    users = functional.normalize(model.head(_profiles(views, asked, batch)), dim=-1)
    logits = users @ items.T / TEMPERATURE - torch.from_numpy(asked.log_share)[targets]
    taken = (seen[asked.users[batch]][:, asked.items[batch]] > 0).toarray()
    np.fill_diagonal(taken, False)
    return functional.cross_entropy(logits.masked_fill(torch.from_numpy(taken), -torch.inf), torch.arange(len(batch)))


def _profiles(views: Tensor, asked: Questions, batch: Ints) -> Tensor:
    """Return the weighted mean of the views that each question shows, (b, w)."""
    lengths = (asked.high - asked.low)[batch]
    ends = np.cumsum(lengths)
    rows = np.repeat(asked.low[batch] - ends + lengths, lengths) + np.arange(ends[-1])
    weights = np.where(rows == np.repeat(batch, lengths), np.float32(0), asked.weights[rows])
    total = np.add.reduceat(np.abs(weights), ends - lengths)
    weights /= np.repeat(np.maximum(total, 1e-9), lengths)
    bags = torch.from_numpy(ends - lengths)
    flat = torch.from_numpy(asked.items[rows])
    return functional.embedding_bag(flat, views, bags, mode="sum", per_sample_weights=torch.from_numpy(weights))


def vectors(model: Model, weights: sparse.csr_array, usable: Mask) -> tuple[Scores, Scores]:
    """Return unit vectors of the items (n, d) and of the users (u, d), zeros where there is nothing to go by.

    Args:
        model: as it stands.
        weights: (u, n), of the items in each profile.
        usable: (n,), which items have a vector.
    """
    with torch.no_grad():
        views = model.views()
        total = np.asarray(abs(weights).sum(axis=1))
        known = weights.multiply(usable[None, :]).multiply((1.0 / np.maximum(total, 1e-9))[:, None]).tocsr()
        means = torch.from_numpy((known @ views.numpy()).astype(np.float32))
        found = [functional.normalize(model.head(side), dim=-1).numpy() for side in (views, means)]
    there = np.diff(known.indptr) > 0
    return found[0] * usable[:, None], found[1] * there[:, None]
