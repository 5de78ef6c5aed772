"""SMORE (Ong and Khong, WSDM 2025, arXiv 2412.14978) as a torch module for the shared trainer.

After the paper, by its sections:
- 3.2 spectrum modality fusion: x_m = W_m e_m + b_m, X_m = FFT(x_m); denoised h_m = IFFT(w_m * X_m) with a complex
  filter w_m, fused h_f = IFFT(w_f * X_1 * X_2), a product in the frequency domain being a convolution of the kinds;
- 3.3 item graphs: the 10 nearest items by the cosine of each kind, D^-1/2 S D^-1/2, the fused graph taking the larger
  entry; views E_id * sigmoid(W h + b), passed through their graph twice; the behaviour view is LightGCN's mean of
  layers over who took what (He et al. 2020);
- 3.4 modality-aware preference: side = mean of g_m(c) * softmax(q_m(f)) * v_m for both kinds and g_f(c) * f, where c
  is the behaviour view, v_m and f the views and g sigmoid gates; the vector is c + side.

Where it differs: a user is the mean of the history's views, as in every other system here, instead of an embedding of
its own (the authors' user views of the kinds are such means, too); and the loss is the shared one, instead of BPR with
a contrastive term.
"""

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from vlm4rec_search.common.vectors import Scores
from vlm4rec_search.evaluation.top_k import CELLS, top_k

WIDTH = 64
NEIGHBOURS = 10
LAYERS = 2


class Smore(nn.Module):
    """Views are (n, 4 x WIDTH): behaviour, first kind, second kind, fused.

    Attributes:
        rate: step size of the optimiser.
    """

    rate = 2e-3

    def __init__(self, first: Tensor, second: Tensor, graphs: tuple[Tensor, Tensor, Tensor], taken: Tensor) -> None:
        """Take what is not trained.

        Args:
            first: float32 (n, d1), vectors of the first kind.
            second: float32 (n, d2).
            graphs: sparse (n, n), item graphs of the first kind, the second kind and both, see `item_graphs`.
            taken: sparse (u, n), who took what, see `behaviour_graph`.
        """
        super().__init__()
        self.first, self.second, self.graphs = first, second, graphs
        self.taken, self.takers = taken, taken.t().coalesce()
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(first), WIDTH)))
        self.project_first = nn.Linear(first.shape[1], WIDTH)
        self.project_second = nn.Linear(second.shape[1], WIDTH)
        self.filters = nn.Parameter(torch.randn(3, WIDTH // 2 + 1, 2))
        self.gates, self.preferences = (nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3)) for _ in "12")
        self.queries = nn.ModuleList(_query() for _ in range(2))

    def views(self) -> Tensor:
        """Return the item vectors whose mean over a history is the profile, (n, 4 x WIDTH)."""
        views = [self._behaviour()]
        for graph, spectrum, gate in zip(self.graphs, self._spectra(), self.gates, strict=True):
            view = self.items * torch.sigmoid(gate(torch.fft.irfft(spectrum, n=WIDTH, norm="ortho")))
            for _ in range(LAYERS):
                view = torch.sparse.mm(graph, view)
            views.append(view)
        return torch.cat(views, dim=1)

    def head(self, views: Tensor) -> Tensor:
        """Return the vectors of items or of profiles from their views, (..., WIDTH)."""
        behaviour, first, second, fused = views.chunk(4, dim=-1)
        kinds = [
            torch.softmax(query(fused), dim=-1) * view
            for query, view in zip(self.queries, (first, second), strict=True)
        ]
        gated = [
            torch.sigmoid(gate(behaviour)) * view for gate, view in zip(self.preferences, (*kinds, fused), strict=True)
        ]
        return behaviour + torch.stack(gated).mean(dim=0)

    def _behaviour(self) -> Tensor:
        """Return the mean of the embeddings and of their layers, each from items to users and back."""
        layers: list[Tensor] = [self.items]
        for _ in range(LAYERS):
            layers.append(torch.sparse.mm(self.takers, torch.sparse.mm(self.taken, layers[-1])))
        return torch.stack(layers).mean(dim=0)

    def _spectra(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the filtered spectra of both kinds and of their fusion, complex (n, WIDTH / 2 + 1)."""
        one = torch.fft.rfft(self.project_first(self.first), norm="ortho")
        two = torch.fft.rfft(self.project_second(self.second), norm="ortho")
        filters = torch.view_as_complex(self.filters)
        return one * filters[0], two * filters[1], one * two * filters[2]


def _query() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH, bias=False))


def item_graphs(first: Scores, second: Scores) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sparse graphs (n, n) of the nearest items by each kind's unit vectors (n, d), and of both."""
    one, two = (_normalised(_nearest(vectors)) for vectors in (first, second))
    return _tensor(one), _tensor(two), _tensor(one.maximum(two))


def behaviour_graph(seen: sparse.csr_array) -> Tensor:
    """Return the user-item incidence, sparse (u, n), over the roots of both counts (He et al. 2020, LightGCN)."""
    users, items = (1.0 / np.sqrt(np.maximum(seen.sum(axis=axis), 1.0)) for axis in (1, 0))
    return _tensor(sparse.csr_array(seen.multiply(users[:, None]).multiply(items[None, :])))


def _nearest(vectors: Scores) -> sparse.csr_array:
    """Return the cosines with the `NEIGHBOURS` nearest other items of each item; negative ones are left out."""
    items = len(vectors)
    rows, columns, values = [], [], []
    for low in range(0, items, step := max(1, CELLS // items)):
        cosines = vectors[low : low + step] @ vectors.T
        cosines[np.arange(len(cosines)), low + np.arange(len(cosines))] = -np.inf
        found = top_k(cosines.copy(), NEIGHBOURS)
        row, place = np.nonzero((found >= 0) & (np.take_along_axis(cosines, np.maximum(found, 0), axis=1) > 0))
        rows.append(row + low)
        columns.append(found[row, place])
        values.append(cosines[row, found[row, place]])
    cells = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.coo_array(cells, shape=(items, items)).tocsr()


def _normalised(graph: sparse.csr_array) -> sparse.csr_array:
    scale = 1.0 / np.sqrt(np.maximum(graph.sum(axis=1), 1e-7))
    return sparse.csr_array(graph.multiply(scale[:, None]).multiply(scale[None, :]))


def _tensor(matrix: sparse.csr_array) -> Tensor:
    cells = matrix.tocoo()
    indices = torch.from_numpy(np.stack(cells.coords).astype(np.int64))
    values = torch.from_numpy(cells.data.astype(np.float32))
    return torch.sparse_coo_tensor(indices, values, matrix.shape, check_invariants=True).coalesce()
