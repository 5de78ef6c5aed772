"""Systems that learn how to put two kinds of vectors together, from what users took next."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from vlm4rec_search.common.errors import UsageError, missing_extra
from vlm4rec_search.common.progress import Advance
from vlm4rec_search.common.vectors import Mask, Scores, unit
from vlm4rec_search.evaluation.data import Catalogue, Split, Targets, has_vector
from vlm4rec_search.evaluation.metrics import accuracy
from vlm4rec_search.evaluation.systems.base import CosineSystem, require
from vlm4rec_search.evaluation.systems.content import directions, leading
from vlm4rec_search.evaluation.top_k import rank

if TYPE_CHECKING:
    from vlm4rec_search.evaluation.systems.training import Model


SEEDS = 3
INPUT = 128  # leading directions of each kind that are learned from
LONGEST = 100  # epochs at most
UNVALIDATED = 5  # epochs where there is no validation part to choose them on
JUDGED = 2000  # users of the validation part, at most, that each epoch is judged by
JUDGED_BY = "nDCG@10"
ARCHITECTURES = ("attention", "gating", "cross-attention", "smore")


class Learned(CosineSystem):
    """One learned fusion: fitted on validation to find the number of epochs, then on everything for as many.

    The same profile weights as everywhere, the same trainer for all; deterministic for a seed on one machine.

    Attributes:
        epochs: of the last training that a validation part judged, None before it.
        judged: nDCG@10 before this training and after each of its epochs.
    """

    learns = True

    def __init__(
        self,
        name: str,
        first: str,
        second: str,
        architecture: str,
        copy: int = 0,
        advance: Advance = lambda _: None,
    ) -> None:
        """Fuse two kinds of vectors.

        Args:
            name: in the registry.
            first, second: kinds.
            architecture: one of `ARCHITECTURES`.
            copy: which of the seeds.
            advance: called after each epoch with 1.
        """
        self.name, self.kinds, self._architecture, self._copy = name, (first, second), architecture, copy
        self.needs = frozenset(self.kinds)
        self._advance = advance
        self.epochs: int | None = None
        self.judged: list[float] = []

    def copies(self) -> Sequence["Learned"]:
        """Return one for each of `SEEDS` seeds."""
        return [Learned(self.name, *self.kinds, self._architecture, copy) for copy in range(SEEDS)]

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Train; with validation until that gets no better, without for as many epochs as were best there.

        Raises:
            UsageError: torch is not installed, no item has one of the kinds, or there is nothing to learn from.
        """
        first, second = (_input(split.catalogue, kind, require(split, kind)) for kind in self.kinds)
        usable = has_vector(first) & has_vector(second)
        seed = [split.seed, self._copy]
        with _reproducible(int(np.random.SeedSequence(seed).generate_state(1)[0])):
            self._model = _model(self._architecture, split, first, second)
            self._train(self._model, split, usable, validation)

    def numbers(self) -> dict[str, Scores]:
        """Return what the last fit learned, by the names of the torch module, and the directions of its inputs."""
        first, second = (directions(unit(require(self._split, kind)), INPUT) for kind in self.kinds)
        learned = {name: tensor.numpy() for name, tensor in self._model.state_dict().items()}
        return {"first_directions": first, "second_directions": second, **learned}

    def _train(self, model: "Model", split: Split, usable: Mask, validation: Targets | None) -> None:
        from vlm4rec_search.evaluation.systems import training

        asked = training.questions(split, usable)
        if len(asked.asked) < 2:
            raise UsageError("there is nothing to learn from: no user has taken two items that have both vectors")

        def take() -> None:
            self._split = split
            self._items, self._profiles = training.vectors(model, split.weights, usable)

        def judge() -> float:
            take()
            return self._judged(validation) if validation else 0.0

        limit = LONGEST if validation else UNVALIDATED if self.epochs is None else self.epochs
        seed = (split.seed, self._copy)
        judge_or_none = judge if validation else None
        self.epochs, judged = training.train(model, split, asked, seed, limit, judge_or_none, self._advance)
        self.judged = judged or self.judged
        self.setting = f"{self.epochs} epochs"
        take()

    def _judged(self, validation: Targets) -> float:
        draw = np.random.default_rng(self._split.seed)
        users = len(validation.users)
        rows = np.sort(draw.choice(users, JUDGED, replace=False)) if users > JUDGED else np.arange(users)
        ranking = rank(self.scores, self._split, validation.users[rows], 10)
        return float(accuracy(ranking, validation.relevant[rows], (JUDGED_BY,)).mean())


def require_torch() -> None:
    """Check that torch can be imported.

    Raises:
        UsageError: torch is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise missing_extra(error, "models") from None


def _input(catalogue: Catalogue, kind: str, vectors: Scores) -> Scores:
    """Return the leading directions of a kind; they are kept in the catalogue, since every copy asks for them."""
    name = f"{kind}: {INPUT} leading directions"
    if name not in catalogue.vectors:
        catalogue.vectors[name] = leading(unit(vectors), INPUT)
    return catalogue.vectors[name]


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Let torch draw from a seed and add in one order; its state is as before afterwards.

    One thread is also what so small products want: several spend more time waiting for each other on a busy machine.

    Raises:
        UsageError: torch is not installed.
    """
    require_torch()
    import torch

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _model(architecture: str, split: Split, first: Scores, second: Scores) -> "Model":
    """Return an untrained module of two inputs, float32 (n, <= INPUT) each."""
    import torch

    from vlm4rec_search.evaluation.systems.fusions import AttentionFusion, CrossAttention, GatingFusion
    from vlm4rec_search.evaluation.systems.smore import Smore, behaviour_graph, item_graphs

    inputs = torch.from_numpy(first), torch.from_numpy(second)
    if architecture == "smore":
        return Smore(*inputs, item_graphs(first, second), behaviour_graph(split.seen))
    fusions = {"attention": AttentionFusion, "gating": GatingFusion, "cross-attention": CrossAttention}
    return fusions[architecture](*inputs)
