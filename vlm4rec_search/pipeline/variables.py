"""The variables of the SQLMesh project, computed before it loads: hashes of the input, and versions of the models."""

import logging
import re
from pathlib import Path

import duckdb

from vlm4rec_search import profiles
from vlm4rec_search.captioning.table import caption_variables
from vlm4rec_search.common.analyzer import ENGLISH, load_analyzer
from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.patterns import MARKUP
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import check_writable
from vlm4rec_search.datasets import raw
from vlm4rec_search.datasets.declarations import CONTRACT, load_declarations, variable
from vlm4rec_search.datasets.events.compaction import compact
from vlm4rec_search.datasets.photos.decode import PREPROCESSING
from vlm4rec_search.datasets.photos.locate import fingerprint
from vlm4rec_search.embeddings import recipes
from vlm4rec_search.embeddings.encoders import NO_PHOTOS, load_image_encoder, load_sentence_encoder
from vlm4rec_search.embeddings.fitted import fitted_variable
from vlm4rec_search.search.ranking import load_ranking

_RESERVED = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
logger = logging.getLogger(__name__)


def project_variables(settings: Settings) -> dict[str, str | float | None]:
    """Check the raw files and the warehouse, and return the SQLMesh variables. New events become raw files before.

    A changed variable rebuilds the models that use it and all models below. The path of the data folder is no variable,
    because the same files in another folder are the same data.

    Raises:
        UsageError: a raw file, a setting or the warehouse cannot be used.
        RunError: the warehouse is locked by another process.
    """
    check_warehouse_name(settings.warehouse)
    check_writable(settings.warehouse)
    values = load_declarations(settings.data_dir).values
    if moved := compact(settings.events_file, settings.events_folder, values.events):
        logger.info("%s new events are in %s", f"{moved:,}", settings.events_folder)
    ranking = load_ranking(settings.ranking)
    images = settings.image_encoder
    with Cache(settings.cache) as cache:
        tables = {table: raw.inspect_table(settings, table) for table in CONTRACT}
        names = raw.image_names(settings.cache, tables["items"])
        photos = f"{fingerprint(settings.data_dir, cache, names)} {cache.revision('photo', 'http')}"
        captions = caption_variables(settings, cache)
    raw.remove_unused(settings.cache)
    for table in tables.values():
        notes, warnings = raw.describe(table)
        for note in notes:
            logger.info("%s", note)
        for warning in warnings:
            logger.warning("%s", warning)
    return {
        **{f"{name}_file": table.version for name, table in tables.items()},
        "declared_values": variable(values),
        "photos": photos,
        "as_of": settings.as_of.isoformat(sep=" ") if settings.as_of else None,
        **captions,
        "encoder": settings.encoder,
        "encoder_id": load_sentence_encoder(settings.encoder).id,
        "image_encoder": images,
        "image_encoder_id": images if images == NO_PHOTOS else f"{load_image_encoder(images).id} {PREPROCESSING}",
        "fitted": fitted_variable(settings.fitted),
        "markup": MARKUP,
        "analyzer": load_analyzer(settings.language).id,
        "caption_analyzer": ENGLISH.id,  # captions are English, whatever the language of the catalogue
        "recipes": str(recipes.VERSION),
        "text_recipe": ranking.text,
        "profiles": str(profiles.VERSION),
        **ranking.table_variables(),
    }


def check_warehouse_name(warehouse: Path) -> None:
    """Check that SQL can name the catalog of the warehouse, which has the name of the file, without quotes.

    Raises:
        UsageError: the name of the file, without its suffix, is no plain identifier or is a reserved word of SQL.
    """
    with duckdb.connect() as connection:
        reserved = connection.execute(_RESERVED).fetchall()
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", warehouse.stem) or (warehouse.stem.lower(),) in reserved:
        raise UsageError(
            f"VLM4REC_WAREHOUSE is {warehouse}: its name is part of table names, so use only letters, digits and _ and"
            " no reserved word of SQL"
        )
