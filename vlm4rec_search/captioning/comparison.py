"""A page that compares two captioners: photos, both captions, and the nearest neighbours by each caption."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vlm4rec_search.captioning.run import CatalogueCaptions, look_up_captions
from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.pages import write_page
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import Vectors
from vlm4rec_search.datasets.photos.decode import thumbnail_url
from vlm4rec_search.embeddings.tables import embed_texts

NEIGHBOURS, THUMBNAIL_SIDE = 5, 128


@dataclass(frozen=True)
class Neighbour:
    """A neighbouring item: title, photo as a data URL ("" without a photo), and cosine similarity of the texts."""

    title: str
    photo: str
    similarity: float


@dataclass(frozen=True)
class Side:
    """The caption of an item by one captioner, and the items with the nearest captions, nearest first."""

    text: str
    neighbours: list[Neighbour]


@dataclass(frozen=True)
class Pair:
    """One item with the captions of both captioners; `shared` is the share of neighbours that are the same."""

    item_id: str
    title: str
    photo: str
    sides: tuple[Side, Side]
    shared: float


def compare_captioners(
    settings: Settings, first: str, second: str, path: Path, count: int = 24, environment: str = "prod"
) -> dict[str, object]:
    """Write the page about the items that both captioners have described, by descending priority.

    Neighbours are found among these items by the sentence encoder of the settings, over caption and title. Nothing is
    captioned or fetched.

    Returns:
        items: number of items on the page. described: number of items that both captioners have described.
        captioners: for each captioner id: ok (items), characters (mean length), different (share of distinct texts),
        seconds (mean of a call). shared: mean share of equal neighbours.

    Raises:
        UsageError: a captioner is unknown, both are the same, the tables do not exist yet, or fewer than two items are
            described by both.
        RunError: warehouse, cache or encoder cannot be used, or the page cannot be written.
    """
    with Cache(settings.cache) as cache:
        both = [look_up_captions(settings, cache, name, environment) for name in (first, second)]
    if both[0].captioner.id == both[1].captioner.id:
        raise UsageError(f"{first} and {second} are the same captioner: name two different ones")
    common = sorted(set(both[0].positions(("ok",))) & set(both[1].positions(("ok",))))
    if len(common) < 2:
        raise UsageError(
            f"{first} and {second} have described {len(common)} items together, and two are needed: "
            "run `vlm4rec captions run --captioner NAME --limit N` for each"
        )
    pairs = _pair_items(both, common, settings, count)
    facts = {captions.captioner.id: _summarise(captions) for captions in both}
    shared = float(np.mean([pair.shared for pair in pairs]))
    _write_page(path, pairs=pairs, facts=facts, shared=shared, described=len(common), encoder=settings.encoder)
    return {"items": len(pairs), "described": len(common), "captioners": facts, "shared": round(shared, 4)}


def _summarise(captions: CatalogueCaptions) -> dict[str, float]:
    ok = [outcome for outcome in captions.outcomes if outcome.status == "ok" and outcome.answer]
    answers = [outcome.answer or "" for outcome in ok]
    seconds = [outcome.seconds for outcome in ok if outcome.seconds is not None]
    return {
        "ok": len(ok),
        "characters": round(float(np.mean([len(text) for text in answers])), 1),
        "different": round(len(set(answers)) / len(answers), 4),
        "seconds": round(float(np.mean(seconds)) if seconds else 0.0, 4),
    }


def _pair_items(both: list[CatalogueCaptions], common: list[int], settings: Settings, count: int) -> list[Pair]:
    vectors = [_embed_captions(captions, common, settings) for captions in both]
    nearest = [_find_nearest(matrix, min(count, len(common))) for matrix in vectors]
    thumbnails: dict[int, str] = {}

    def thumbnail(at: int) -> str:
        if at not in thumbnails:
            thumbnails[at] = thumbnail_url(both[0].photos[common[at]], THUMBNAIL_SIDE)
        return thumbnails[at]

    items = [both[0].items[position] for position in common]
    pairs = []
    for at in range(len(nearest[0])):
        sides = []
        for captions, matrix, neighbours in zip(both, vectors, nearest, strict=True):
            near = [Neighbour(items[n].title, thumbnail(n), float(matrix[at] @ matrix[n])) for n in neighbours[at]]
            sides.append(Side(captions.outcomes[common[at]].answer or "", near))
        shared = len(set(nearest[0][at]) & set(nearest[1][at])) / len(nearest[0][at])
        pairs.append(Pair(items[at].item_id, items[at].title, thumbnail(at), (sides[0], sides[1]), shared))
    return pairs


def _embed_captions(captions: CatalogueCaptions, positions: list[int], settings: Settings) -> Vectors:
    """Embed caption and title, as the recipe `caption_title` does; return unit vectors (n, d), float32."""
    items = [captions.items[position] for position in positions]
    answers = [captions.outcomes[position].answer for position in positions]
    joined = [f"{(text or '').rstrip('.')}. {item.title}" for item, text in zip(items, answers, strict=True)]
    ids = [item.item_id for item in items]
    frame = embed_texts(
        pd.DataFrame({"item_id": ids, "text": joined}), settings.encoder, settings.cache, settings.weights
    )
    matrix: Vectors = np.stack(list(frame["vector"]))
    return matrix


def _find_nearest(vectors: Vectors, rows: int) -> list[list[int]]:
    """Return the nearest other rows of each of the first rows by cosine; ties are in the order of the rows."""
    similar = vectors[:rows] @ vectors.T
    similar[np.arange(rows), np.arange(rows)] = -np.inf
    order = np.argsort(-similar, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(vectors) - 1)]
    return [[int(other) for other in row] for row in order]


def _write_page(path: Path, **values: object) -> None:
    try:
        write_page(path, "vlm4rec_search.captioning", "comparison.html", **values)
    except OSError as error:
        raise RunError(f"the page {path} cannot be written: {error.strerror or error}") from None
