"""Validation and test parts of a protocol, on the product's own tables."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas import DataFrame
from scipy import sparse

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import Mask, Scores, Texts, unit
from vlm4rec_search.common.warehouse import in_environment, read
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.embeddings.tables import embed_texts
from vlm4rec_search.evaluation.data import Catalogue, Split, Targets
from vlm4rec_search.evaluation.protocol import (
    LIKED,
    TAKEN_EVER,
    Protocol,
    cuts_of,
    find_targets,
    given_vectors,
    histories_until,
    hold_out_last,
    taken_between,
)
from vlm4rec_search.evaluation.snapshots import Workbench, workbench
from vlm4rec_search.indexes.search_layer import SearchLayer, read_search_layer
from vlm4rec_search.pipeline.rendering import render_model

# From the tables of an environment to a split.

# What speaks for an item on the whole, as for what has to be found: what was hidden, sent back or merely shown was not
# taken. Answers leave such items out all the same: see `Split.excluded`.
HISTORIES = f"""
SELECT user_id, item_id, interacted_at
FROM histories.user_histories INNER JOIN profiles.likes USING (user_id, position, item_id)
WHERE (user_id, item_id) IN ({TAKEN_EVER}) ORDER BY user_id, position
"""  # noqa: S608  our own text alone
_WEIGHTS = "SELECT user_id, item_id, weight, counts::FLOAT AS counts FROM profiles.profile_weights"
# The weights of all systems but the product's own: the product's arithmetic, whatever the ranking file says.
_HALF_LIVES = (
    "(SELECT 120 AS half_life_days, 20 AS behaviour_half_life_days, 80 AS lasting_half_life_days)"  # of profiles.pace
)
_PHOTOS = "SELECT item_id, vector FROM embeddings.image_embeddings"
_MOMENT = "SELECT as_of FROM histories.as_of"


def load_split(
    settings: Settings, environment: str, protocol: Protocol, needs: frozenset[str], fixed: bool = True
) -> Split:
    """Read an environment into a split; titles and descriptions alone are encoded through the cache where a system
    needs them. Vectors that the data set brings along stand in for those of its photos and titles.

    Args:
        settings: its warehouse is read.
        environment: of `sqlmesh plan`.
        protocol: says which items are candidates.
        needs: kinds of item vectors.
        fixed: whether the split's weights have half-lives that no ranking file moves, for which SQLMesh is imported;
            else they are those of profiles.profile_weights.

    Raises:
        UsageError: a table is missing or empty.
        RunError: the warehouse is being written.
    """
    with read(settings.warehouse) as connection:
        handed = read_search_layer(connection, environment)
        own = [fixed_weights(settings.require_project())] if fixed else []
        queries = (HISTORIES, _WEIGHTS, _PHOTOS, _MOMENT, *own)
        frames = [connection.execute(in_environment(query, environment)).df() for query in queries]
    histories, profile_weights, photos, moment = frames[:4]
    catalogue = _catalogue(settings, handed, photos, needs)
    user_ids = np.array(sorted(histories["user_id"].unique()), dtype=object)
    items = catalogue.positions(histories["item_id"].to_numpy(dtype=object))
    histories, items = histories[items >= 0], items[items >= 0]
    return Split(
        catalogue=catalogue,
        user_ids=user_ids,
        users=pd.Index(user_ids).get_indexer(pd.Index(histories["user_id"])).astype(np.int64),
        items=items,
        times=histories["interacted_at"].to_numpy(dtype="datetime64[us]"),
        weights=_matrix(catalogue, user_ids, frames[-1] if fixed else profile_weights, "weight"),
        as_of=moment["as_of"].to_numpy(dtype="datetime64[us]")[0],
        candidates=_candidates(protocol, items, len(catalogue.item_ids)),
        repeat=protocol.repeat,
        seed=protocol.seed,
        tables=handed,
        profile_weights=_matrix(catalogue, user_ids, profile_weights, "weight"),
        counts=_matrix(catalogue, user_ids, profile_weights, "counts"),
    )


@cache
def fixed_weights(project: Path) -> str:
    """Return the query of profiles.profile_weights with half-lives of the evaluation's own."""
    weights = render_model(project, "profiles.profile_weights").replace('"profiles"."pace"', _HALF_LIVES)
    return f"SELECT user_id, item_id, weight FROM ({weights})"  # noqa: S608  our own text alone


def _candidates(protocol: Protocol, taken: "np.typing.NDArray[np.int64]", items: int) -> Mask:
    """Return which items may be ranked: all, or those in any history, which were taken before the cut."""
    mask = np.full(items, protocol.candidates == "all")
    mask[taken] = True
    return mask


def _matrix(
    catalogue: Catalogue, user_ids: "np.typing.NDArray[np.object_]", frame: "pd.DataFrame", column: str
) -> sparse.csr_array:
    rows = pd.Index(user_ids).get_indexer(pd.Index(frame["user_id"]))
    columns = catalogue.positions(frame["item_id"].to_numpy(dtype=object))
    known = (rows >= 0) & (columns >= 0)
    cells = (frame[column].to_numpy(np.float32)[known], (rows[known], columns[known]))
    matrix = sparse.coo_array(cells, shape=(len(user_ids), len(catalogue.item_ids))).tocsr()
    matrix.eliminate_zeros()
    return matrix


def _catalogue(settings: Settings, handed: SearchLayer, photos: "pd.DataFrame", needs: frozenset[str]) -> Catalogue:
    documents = handed.tables.documents
    columns = documents.select(["item_id", "title", "image"]).to_pydict()
    ids, titles, images = (np.array(columns[name], dtype=object) for name in ("item_id", "title", "image"))
    numbers = documents["vector"].combine_chunks().flatten().to_numpy()
    vectors = {"document": numbers.reshape(len(ids), -1).astype(np.float32, copy=False)}
    catalogue = Catalogue(ids, titles, images, vectors)
    texts = {"title": titles, "description": _descriptions(documents)}
    for kind in needs & {"vision", "photo", *texts}:
        given = given_vectors(settings.data_dir, kind)
        if given is None and kind in texts:
            vectors[kind] = _encoded(settings, ids, texts[kind], handed.encoder)
            continue
        frame = photos if given is None else given
        vectors[kind] = unit(_stack(list(frame["vector"]), len(ids), catalogue.positions(frame["item_id"])))
    return catalogue


def _descriptions(documents: "pa.Table") -> Texts:
    """Return the caption of each item; a catalogue without captions uses the shop's text, or else the title."""
    rows = [documents[name].to_pylist() for name in ("caption", "description", "title")]
    if any(rows[0]):
        return np.array([caption or "" for caption in rows[0]], dtype=object)
    return np.array([next(filter(None, row)) for row in zip(*rows, strict=True)], dtype=object)


def captions_note(documents: "pa.Table", captioner: str) -> str:
    """Say how many items with a photo have a caption, and what that means; empty where all of them have one.

    Args:
        documents: columns image and caption of search.item_documents.
        captioner: its id.
    """
    shown = documents.filter(pc.is_valid(documents["image"]))
    missing, photos = shown["caption"].null_count, len(shown)
    if not missing:
        return ""
    told = f"{photos - missing:,} of {photos:,} items with a photo have a caption by {captioner}"
    return f"{told}: description-only {'does not know the others' if missing < photos else 'uses texts of the shop'}"


def _encoded(settings: Settings, ids: Texts, texts: Texts, encoder: str) -> Scores:
    """Return vectors by the encoder of the tables, which the settings name: the id of one in a folder does not."""
    loaded = load_sentence_encoder(settings.encoder, settings.weights).id
    if loaded != encoder:
        raise UsageError(f"the tables have vectors by {encoder}, VLM4REC_ENCODER is {loaded}: run `sqlmesh plan` first")
    told = np.flatnonzero(texts != "")
    frame = pd.DataFrame({"item_id": ids[told], "text": texts[told]})
    embedded = embed_texts(frame, settings.encoder, settings.cache, settings.weights)
    return _stack(list(embedded["vector"]), len(ids), told)


def _stack(vectors: list[list[float]], items: int, rows: "np.typing.NDArray[np.int64]") -> Scores:
    """Return float32 (items, d) with the vectors in their rows and zeros elsewhere; d is 1 without vectors."""
    stacked = np.zeros((items, len(vectors[0]) if vectors else 1), dtype=np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        if row >= 0:
            stacked[row] = vector
    return stacked


Say = Callable[[str], None]
VALIDATION, TEST = "evaluate_validation", "evaluate_test"

KEPT = f"""
CREATE OR REPLACE TEMP TABLE kept AS
SELECT row_number, user_id, item_id, interacted_at, {LIKED} AND (user_id, item_id) IN ({TAKEN_EVER}) AS liked
FROM staging.interactions
WHERE interacted_at <= (SELECT as_of FROM histories.as_of)
"""  # noqa: S608  our own text alone


@dataclass(frozen=True)
class Part:
    """What every system may see, and what is relevant afterwards."""

    split: Split
    targets: Targets


@dataclass(frozen=True)
class Parts:
    """The validation part, None where there is nothing to choose or no user takes part, and the test part."""

    validation: Part | None
    test: Part


def build_parts(settings: Settings, protocol: Protocol, needs: frozenset[str], choose: bool, say: Say) -> Parts:
    """Build the tables as of the protocol's moments and read them.

    Args:
        settings: of the warehouse that is evaluated; it is only read.
        protocol: where to cut.
        needs: kinds of item vectors to load.
        choose: whether a validation part is needed.
        say: told each long step.

    Raises:
        UsageError: no tables yet, or nobody can be asked.
        RunError: the warehouse is being written, or a plan fails.
    """
    with workbench(settings) as bench:
        cut = _leave_one_out if protocol.rule == "leave-one-out" else _in_time
        later = cut(bench, protocol, choose, say)
        test = _part(bench, protocol, needs, TEST, later[TEST])
        validation = None
        if choose:
            with suppress(UsageError):  # without it defaults are taken, and the results say so
                validation = _part(bench, protocol, needs, VALIDATION, later[VALIDATION])
    return Parts(validation, test)


def _in_time(bench: Workbench, protocol: Protocol, choose: bool, say: Say) -> "dict[str, DataFrame]":
    with read(bench.settings.warehouse) as connection:
        cuts = cuts_of(connection, bench.settings.data_dir, protocol)
        histories = histories_until(bench.settings.require_project())
        later = {TEST: taken_between(connection, histories, cuts.test, cuts.end)}
        if choose:
            later[VALIDATION] = taken_between(connection, histories, cuts.validation, cuts.test)
    moments = {TEST: cuts.test, **({VALIDATION: cuts.validation} if choose else {})}
    for environment, moment in moments.items():
        say(f"Building the tables as of {moment:%Y-%m-%d %H:%M} ({environment.removeprefix('evaluate_')})")
    bench.build_moments(moments)
    return later


def _leave_one_out(bench: Workbench, protocol: Protocol, choose: bool, say: Say) -> "dict[str, DataFrame]":
    later, rows, held = {}, {}, []
    with read(bench.settings.warehouse) as connection:
        connection.execute(KEPT)
        for environment in (TEST, VALIDATION) if choose else (TEST,):
            later[environment] = hold_out_last(connection, protocol)
            held += [row for (row,) in connection.execute("SELECT row_number FROM held_out").fetchall()]
            rows[environment] = list(held)
    for environment, without in rows.items():
        say(f"Building the tables without each user's last item ({environment.removeprefix('evaluate_')})")
        bench.plan_without(environment, without)
    return later


def _part(bench: Workbench, protocol: Protocol, needs: frozenset[str], environment: str, later: "DataFrame") -> Part:
    split = load_split(bench.settings_of(environment), environment, protocol, needs)
    targets = find_targets(split, later, protocol.history)
    if not len(targets.users):
        options = ["--candidates all"] if protocol.candidates == "known" else []
        options += [] if protocol.leaks else ["--protocol leave-one-out, which has no cut"]
        instead = f", or `vlm4rec evaluate` with {' or '.join(options)}" if options else ""
        raise UsageError(
            f"nobody can be evaluated: no user has at least {protocol.history} items before the cut and a new candidate"
            f" after it; use a longer log{instead}"
        )
    return Part(split, targets if protocol.sample is None else targets.some(protocol.sample, protocol.seed))
