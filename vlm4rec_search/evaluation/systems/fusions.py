"""Learned fusions of two kinds of item vectors, as torch modules that `training` trains.

Every module first projects both kinds into one space of `WIDTH` dimensions. Projections start as the identity and
fusions as the mean, so an untrained module is the 50/50 mean of the leading directions of both kinds. Training stops at
once where it does not improve on that mean.

Only this module, `smore` and `training` import torch, which is an optional dependency.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 128
HEADS, TOKENS = 4, 4


class Fusion(nn.Module):
    """Two kinds of vectors to one vector for each item.

    Attributes:
        rate: step size of the optimiser.
    """

    rate = 1e-3

    def __init__(self, first: Tensor, second: Tensor) -> None:
        """Take the vectors float32 (n, d1) and (n, d2), which are not trained."""
        super().__init__()
        self.first, self.second = first, second
        self.project_first, self.project_second = _projection(first), _projection(second)

    def views(self) -> Tensor:
        """Return the unit item vectors whose mean over a history is the profile, (n, width)."""
        fused = self.fuse(self.project_first(self.first), self.project_second(self.second))
        return functional.normalize(fused, dim=-1)  # as the vectors whose mean a profile is

    def head(self, views: Tensor) -> Tensor:
        """Return the vectors of items or of profiles from their views, (..., width)."""
        return views

    def fuse(self, first: Tensor, second: Tensor) -> Tensor:
        """Return one vector (n, width) from two projected ones."""
        raise NotImplementedError


class AttentionFusion(Fusion):
    """a = softmax(w . tanh(W p_m)) over the two projected kinds m of each item; the vector is the sum of a_m p_m.

    Additive attention (Bahdanau et al. 2015) over modalities, the paper's best fusion.
    """

    def __init__(self, first: Tensor, second: Tensor) -> None:
        """Start with equal weights."""
        super().__init__(first, second)
        self.hidden, self.score = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def fuse(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the weighted sum (n, width)."""
        both = torch.stack([first, second], dim=1)
        weights = torch.softmax(self.score(torch.tanh(self.hidden(both))), dim=1)
        return (weights * both).sum(dim=1)


class GatingFusion(Fusion):
    """g = sigmoid(W [p_1; p_2] + b) for each number; the vector is g p_1 + (1 - g) p_2 (Arevalo et al. 2017)."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        """Start with gates half open."""
        super().__init__(first, second)
        self.gate = nn.Linear(2 * WIDTH, WIDTH)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def fuse(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the gated sum (n, width)."""
        gate = torch.sigmoid(self.gate(torch.cat([first, second], dim=1)))
        return gate * first + (1 - gate) * second


class CrossAttention(Fusion):
    """Each kind asks the other, with 4 heads each way (Vaswani et al. 2017); the answers are added to the mean.

    A projected vector is read as 4 tokens of 32 numbers: with a single token for each kind, as in the paper's code,
    the softmax runs over one key and is always 1, so that nothing attends.
    """

    def __init__(self, first: Tensor, second: Tensor) -> None:
        """Start with answers of zero."""
        super().__init__(first, second)
        self.to_second, self.to_first = (nn.MultiheadAttention(WIDTH // TOKENS, HEADS, batch_first=True) for _ in "12")
        for attention in (self.to_second, self.to_first):
            nn.init.zeros_(attention.out_proj.weight)

    def fuse(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the mean of both kinds and of what they learn from each other (n, width)."""
        one, two = (vectors.view(len(vectors), TOKENS, -1) for vectors in (first, second))
        from_second, _ = self.to_second(one, two, two, need_weights=False)
        from_first, _ = self.to_first(two, one, one, need_weights=False)
        fused: Tensor = 0.5 * (one + two + from_second + from_first)
        return fused.flatten(1)


def _projection(vectors: Tensor) -> nn.Linear:
    linear = nn.Linear(vectors.shape[1], WIDTH)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
