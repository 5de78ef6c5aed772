"""Writes the pages of docs/reference from the code: `python docs/generate.py`. A test compares them."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from sqlmesh import Context

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.report import LEGEND
from vlm4rec_search.evaluation.systems import registry
from vlm4rec_search.evaluation.systems.base import System
from vlm4rec_search.evaluation.systems.learned import Learned
from vlm4rec_search.evaluation.systems.peers import Factors
from vlm4rec_search.indexes.opensearch.mapping import INDEX_KINDS, index_body
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.pipeline.analysts_copy import RECORDS

FOLDER = Path(__file__).parent / "reference"
_LAYERS = ("raw", "staging", "histories", "captions", "embeddings", "profiles", "search")
_FIELDS = {
    "items": {
        "item_id": "the shop's id, also the `_id`",
        "title": "name of the item",
        "description": "text of the shop",
        "caption": "what the photo shows",
        "details": "category and attribute values that are words",
        "category": "category of the shop; filters use `facets.category`",
        "price": "price; filters use `numbers.price`",
        "available": "whether the item can be bought",
        "image": "path or URL of the photo",
        "attributes": "the shop's other columns as they are, by name",
        "popularity": "score of the popularity retriever: recent_shoppers, and below the point shoppers ever",
        "shoppers": "number of shoppers who took the item: any event of positive weight, views too",
        "recent_shoppers": "how many of them for the first time in the last popularity_days days (profiles.pace)",
        "words": "the item's weighted words: term, word, weight",
        "neighbours.item_id": "items that the same shoppers took, the nearest first",
        "neighbours.similarity": "their similarities, in the same order",
        "ease.item_id": "items that histories connect with it",
        "ease.weight": "their weights in EASE, in the same order",
        "content_hash": "hash of what the item is made of",
        "body_hash": "hash of the document",
        "facets.FIELD": "values of the attribute FIELD as texts, for `term` and `terms`; `category`, `price` and"
        " `available` are attributes, too",
        "numbers.FIELD": "those values of the attribute FIELD that are numbers, for `range`",
        "vector": "unit vector of the item's text",
        "fitted": "unit vector that `vlm4rec fit` learned; only in releases with a fit",
        "photo": "unit vector of the item's photo; only in releases made with `VLM4REC_INDEX_PHOTOS`, for items with a"
        " readable photo",
    },
    "profiles": {
        "user_id": "the shop's id, also the `_id`",
        "items": "number of items behind the vector",
        "vector": "unit vector of the shopper: the weighted mean of the history; missing without a history",
        "history": "`item_id` and `weight` of the items whose vectors the profile sums",
        "seen": "item ids that answers leave out",
        "terms": "the shopper's words: `term`, `word`, `weight`",
        "interests": "`vector`, `importance`, `medoid` and `items` of each interest",
        "behaviour": "items from which co-purchases (`weight`) and EASE (`lasting`) start",
        "shoppers": "`item_id` and `score` of what similar shoppers took",
        "repeats": "`item_id`, `score`, `times`, `last_on` of what may be bought again",
        "fitted": "unit vector that `vlm4rec fit` learned",
        "segment": "segment of the shopper, a document of the index of segments",
        "categories": "favourite categories, best first",
        "body_hash": "hash of the document",
    },
    "segments": {
        "segment": "name of the segment, or `category:NAME`, also the `_id`",
        "items": "`item_id` and `score` of its most popular items, best first",
        "body_hash": "hash of the document",
    },
}


def index_page() -> str:
    """Return the page of the fields of the OpenSearch indices, with the types of the mapping."""
    lines = [
        "# Fields of the OpenSearch indices",
        "",
        "A release is three indices behind the aliases `items`, `profiles` and `segments`, with the prefix",
        "`VLM4REC_INDEX_PREFIX`. [contract.md](../contract.md) says how to search them. A field of type object is",
        "stored and not searched. `FIELD` is the name of an attribute, percent-encoded, a dot as `%2E`.",
    ]
    meta = new_release("encoder@1", 384, "captioner@1", "prompt@1", None, "image@1", 1280)
    meta = replace(meta, fitted="fit@1", fitted_dimension=64)
    for kind in INDEX_KINDS:
        lines += ["", f"## {kind}", "", "| field | type | searched | meaning |", "|---|---|---|---|"]
        properties = index_body(kind, meta, ["FIELD"])["mappings"]["properties"]
        for name, body in _leaves(properties):
            type_ = body["type"] + (f", dimension of the {_SIZES[name]}" if "dimension" in body else "")
            searched = "no" if body.get("index") is False or body.get("enabled") is False else "yes"
            lines.append(f"| `{name}` | {type_} | {searched} | {_cell(_FIELDS[kind][name])} |")
    return "\n".join(lines) + "\n"


_SIZES = {"vector": "encoder", "fitted": "fit", "photo": "image encoder"}


def _leaves(properties: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each field that is not made of other fields, by its path."""
    for name, body in properties.items():
        if "properties" in body:
            yield from _leaves(body["properties"], f"{above}{name}.")
        else:
            yield above + name, body


def settings_page() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        "",
        "Environment variables, or lines of the file `.env` of the project, which wins. In the folder of a project and",
        "below it, a relative path is relative to the project, elsewhere to the working directory. Secrets are never",
        "printed.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default in (None, "") else f"`{field.default}`"
        lines.append(f"| `VLM4REC_{name.upper()}` | {default} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def tables_page(context: Context) -> str:
    """Return the page of all tables, with the comments of their columns."""
    lines = [
        "# Tables",
        "",
        "Every model of the project with its columns, in the order of the layers, then the tables of records, which",
        "only the analysts' copy has ([analysts.md](../analysts.md)). The same comments stand in the copy.",
        "[models/README.md](../../models/README.md) draws how the models depend on each other.",
    ]
    models = sorted(context.models.values(), key=lambda model: (_LAYERS.index(model.name.split(".")[0]), model.name))
    for model in models:
        lines += [
            "",
            f"## {model.name}",
            "",
            _line(model.description or ""),
            "",
            "| column | type | meaning |",
            "|---|---|---|",
        ]
        for name, kind in (model.columns_to_types or {}).items():
            meaning = _cell(model.column_descriptions.get(name, ""))
            lines.append(f"| `{name}` | {kind.sql(dialect='duckdb')} | {meaning} |")
    for table, described in yaml.safe_load(RECORDS.read_text("utf-8")).items():
        lines += ["", f"## {table}", "", described["table"], "", "| column | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in described.items() if name != "table"]
    return "\n".join(lines) + "\n"


def systems_page() -> str:
    """Return the page of the systems and metrics of `vlm4rec evaluate`."""
    legend = yaml.safe_load(LEGEND.read_text("utf-8"))
    lines = [
        "# Systems and metrics of an evaluation",
        "",
        "`vlm4rec evaluate --systems A,B` takes some of these systems, without the option all of them. A system that",
        "lacks its extra is left out. [evaluation.md](../evaluation.md) says how they are compared.",
        "",
        "| system | extra | what it ranks by |",
        "|---|---|---|",
    ]
    for name, make in registry().items():
        lines.append(f"| `{name}` | {_extra(make())} | {_cell(legend['systems'][name])} |")
    lines += ["", "| metric | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in legend["metrics"].items()]
    return "\n".join(lines) + "\n"


def _extra(system: System) -> str:
    if isinstance(system, Learned):
        return "`models`"
    return "`peers`" if isinstance(system, Factors) else ""


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    os.environ.setdefault("VLM4REC_DATA_DIR", "tests/data/raw")  # SQLMesh loads no project without data
    (FOLDER / "index-fields.md").write_text(index_page(), "utf-8")
    (FOLDER / "settings.md").write_text(settings_page(), "utf-8")
    (FOLDER / "systems.md").write_text(systems_page(), "utf-8")
    (FOLDER / "tables.md").write_text(tables_page(Context(paths=[str(Path(__file__).parents[1])])), "utf-8")
