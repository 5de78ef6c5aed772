"""Two captioners on one page: photo, both texts, and what each text makes of the item's neighbourhood."""

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from vlm4rec_search.captioning.run import Standing, standing
from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import Vectors
from vlm4rec_search.datasets.photos.decode import PhotoError, PhotoFile, read_photo

NEIGHBOURS, SIDE = 5, 128


@dataclass(frozen=True)
class Neighbour:
    """A neighbouring item: title, photo as a data URL ("" without one), and cosine similarity of the texts."""

    title: str
    photo: str
    similarity: float


@dataclass(frozen=True)
class Side:
    """What one captioner said of an item, and the items that are nearest by it, the nearest first."""

    text: str
    neighbours: list[Neighbour]


@dataclass(frozen=True)
class Pair:
    """One item under both captioners; `shared` is the share of neighbours that both name."""

    item_id: str
    title: str
    photo: str
    sides: tuple[Side, Side]
    shared: float


def compare(
    settings: Settings, first: str, second: str, path: Path, count: int = 24, environment: str = "prod"
) -> dict[str, object]:
    """Write the page over items that both captioners have described, the most wanted first.

    Neighbours are found by the sentence encoder of the settings over caption and title, among the items that both
    have described. Nothing is captioned or fetched.

    Returns:
        items (on the page), described (by both), and for each captioner: ok (items), characters (mean), different
        (share of texts that no other item has), seconds (mean of a call); shared: mean share of equal neighbours.

    Raises:
        UsageError: unknown captioner, no tables yet, or fewer than two items that both have described.
        RunError: warehouse, cache or encoder cannot be used, or the page cannot be written.
    """
    with Cache(settings.cache) as cache:
        both = [standing(settings, cache, name, environment) for name in (first, second)]
    if both[0].maker.id == both[1].maker.id:
        raise UsageError(f"{first} and {second} are the same captioner: name two")
    ours = sorted(set(both[0].at(("ok",))) & set(both[1].at(("ok",))))
    if len(ours) < 2:
        raise UsageError(
            f"{first} and {second} have described {len(ours)} items together: "
            "run `vlm4rec captions run --captioner NAME --limit N` for each"
        )
    pairs = _pairs(both, ours, settings, count)
    facts = {known.maker.id: _facts(known) for known in both}
    shared = float(np.mean([pair.shared for pair in pairs]))
    _write(path, pairs=pairs, facts=facts, shared=shared, described=len(ours), encoder=settings.encoder)
    return {"items": len(pairs), "described": len(ours), "captioners": facts, "shared": round(shared, 4)}


def _facts(known: Standing) -> dict[str, float]:
    good = [one for one in known.outcomes if one.status == "ok" and one.answer]
    said = [one.answer or "" for one in good]
    times = [one.seconds for one in good if one.seconds is not None]
    return {
        "ok": len(good),
        "characters": round(float(np.mean([len(text) for text in said])), 1),
        "different": round(len(set(said)) / len(said), 4),
        "seconds": round(float(np.mean(times)) if times else 0.0, 4),
    }


def _pairs(both: list[Standing], ours: list[int], settings: Settings, count: int) -> list[Pair]:
    vectors = [_vectors(known, ours, settings) for known in both]
    nearest = [_nearest(matrix, min(count, len(ours))) for matrix in vectors]
    photos: dict[int, str] = {}

    def photo(at: int) -> str:
        return photos.setdefault(at, photos.get(at) or _photo(both[0].found[ours[at]]))

    items = [both[0].items[position] for position in ours]
    pairs = []
    for at in range(len(nearest[0])):
        sides = []
        for known, matrix, lists in zip(both, vectors, nearest, strict=True):
            near = [Neighbour(items[n].title, photo(n), float(matrix[at] @ matrix[n])) for n in lists[at]]
            sides.append(Side(known.outcomes[ours[at]].answer or "", near))
        equal = len(set(nearest[0][at]) & set(nearest[1][at])) / len(nearest[0][at])
        pairs.append(Pair(items[at].item_id, items[at].title, photo(at), (sides[0], sides[1]), equal))
    return pairs


def _vectors(known: Standing, ours: list[int], settings: Settings) -> Vectors:
    """Embed caption and title as embeddings.item_texts does; returns float32 (n, d), rows of length 1."""
    import pandas as pd

    from vlm4rec_search.embeddings.tables import embed_texts

    items = [known.items[position] for position in ours]
    said = [known.outcomes[position].answer for position in ours]
    joined = [f"{(text or '').rstrip('.')}. {item.title}" for item, text in zip(items, said, strict=True)]
    ids = [item.item_id for item in items]
    frame = embed_texts(pd.DataFrame({"item_id": ids, "text": joined}), settings.encoder, settings.cache)
    matrix: Vectors = np.stack(list(frame["vector"]))
    return matrix


def _nearest(vectors: Vectors, rows: int) -> list[list[int]]:
    """Return the nearest others of each of the first rows by cosine; equal ones in the order of the items."""
    similar = vectors[:rows] @ vectors.T
    similar[np.arange(rows), np.arange(rows)] = -np.inf
    order = np.argsort(-similar, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(vectors) - 1)]
    return [[int(other) for other in row] for row in order]


def _photo(found: PhotoFile) -> str:
    """Return a small photo as a data URL, "" when it cannot be read any more."""
    try:
        image = read_photo(found).image
    except PhotoError:
        return ""
    image.thumbnail((SIDE, SIDE))
    content = BytesIO()
    image.save(content, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def _write(path: Path, **values: object) -> None:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("vlm4rec_search.captioning"), autoescape=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.get_template("comparison.html").render(**values), encoding="utf-8")
    except OSError as error:
        raise RunError(f"the page {path} cannot be written: {error.strerror or error}") from None
