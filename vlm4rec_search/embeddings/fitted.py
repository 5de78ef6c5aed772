"""Fitted systems: what `vlm4rec fit` learned about texts and photos, kept in a folder and applied with numpy.

A fitted system turns the text vector and the photo vector of an item into one unit vector. The folder holds `FILE`,
which says what was fitted on what, and the numbers of each of its fits as safetensors. There are several fits, each on
the interactions up to its own moment: tables as of an earlier moment use a fit that knows nothing later.
"""

import hashlib
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import duckdb
import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.numpy import load

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.paths import replacing_file
from vlm4rec_search.common.vectors import Vectors, unit
from vlm4rec_search.common.warehouse import in_environment
from vlm4rec_search.common.yaml_files import describe_validation_error
from vlm4rec_search.datasets.photos.decode import PREPROCESSING
from vlm4rec_search.profiles.histories import stack_vectors

logger = logging.getLogger(__name__)

FILE = "fitted.json"
SCHEMA = 1  # of the file; raise it when the arithmetic or the names of the numbers change
FittedName: TypeAlias = Literal["attention", "gating"]
NAMES: tuple[FittedName, ...] = get_args(FittedName)
Numbers: TypeAlias = Mapping[str, Vectors]
_INPUTS = """
SELECT texts.encoder, photos.encoder, (SELECT ANY_VALUE(recipe) FROM embeddings.item_texts)
FROM embeddings.item_embeddings AS texts INNER JOIN embeddings.image_embeddings AS photos USING (item_id) LIMIT 1
"""
_AGAIN = "run `vlm4rec fit` and `sqlmesh plan`"


class Inputs(NamedTuple):
    """What vectors were made by: text encoder, photo encoder with its preprocessing, and text recipe."""

    encoder: str
    image_encoder: str
    text_recipe: str

    @classmethod
    def of_tables(cls, encoder: str, image_encoder: str, text_recipe: str) -> "Inputs":
        """Return the inputs by the columns of embeddings.item_embeddings, image_embeddings and item_texts."""
        return cls(encoder, f"{image_encoder} {PREPROCESSING}", text_recipe)

    @classmethod
    def read(cls, connection: duckdb.DuckDBPyConnection, environment: str = "prod") -> "Inputs | None":
        """Return the inputs of the tables of an environment, None where no item has both vectors."""
        row = connection.execute(in_environment(_INPUTS, environment)).fetchone()
        return None if row is None or None in row else cls.of_tables(*row)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fit(_Strict):
    """One fit.

    Attributes:
        as_of: it knows the interactions up to this moment.
        text_recipe: of the tables as of this moment.
        interactions: how many it was fitted on.
        shoppers: of these interactions.
        judged: shoppers on whom the number of epochs was chosen, by what they took next.
        epochs: of the training; 0 where nothing was better than the mean of text and photo.
        ndcg: nDCG@10 of these shoppers after so many epochs, the best of all, and so never less than `ndcg_mean`.
        ndcg_mean: the same before training, which is the mean of text and photo.
        file: safetensors with the numbers, in the same folder; its name holds the hash of its content.
    """

    as_of: datetime
    text_recipe: str
    interactions: int
    shoppers: int
    judged: int
    epochs: int
    ndcg: float
    ndcg_mean: float
    file: str


class Choice(NamedTuple):
    """The fit that makes the vectors of some tables, None for no vectors, and why it is not the last fit."""

    fit: Fit | None
    problem: str | None


class FittedSystem(_Strict):
    """A fitted system.

    Attributes:
        schema_version: of the file.
        system: attention or gating, see `project`.
        encoder, image_encoder: see `Inputs`; vectors made otherwise cannot be projected.
        text_dimension, photo_dimension, dimension: of the vectors that go in and of those that come out.
        seed: of the training.
        package: version of this package.
        fits: ordered by their moments.
    """

    schema_version: int = SCHEMA
    system: FittedName
    encoder: str
    image_encoder: str
    text_dimension: int
    photo_dimension: int
    dimension: int
    seed: int
    package: str
    fits: tuple[Fit, ...]

    def choose(self, inputs: Inputs | None, as_of: datetime | None, is_earlier: bool = False) -> Choice:
        """Return the last fit on such vectors that knows nothing after a moment.

        Args:
            inputs: of the tables, None where no item has both vectors.
            as_of: moment of the tables, None without interactions.
            is_earlier: whether somebody asked for tables of an earlier moment, where an older fit is no problem.
        """
        if inputs is None:
            return Choice(None, "no item has both a text and a photo vector")
        for name, fitted, present in (
            ("encoder", self.encoder, inputs.encoder),
            ("image encoder", self.image_encoder, inputs.image_encoder),
        ):
            if fitted != present:
                return Choice(None, self._stale(name, fitted, present))
        if as_of is None:
            return Choice(None, "the tables have no interactions")
        earlier = [fit for fit in self.fits if fit.as_of <= as_of]
        if not earlier:
            return Choice(None, f"every fit of the system {self.system} knows more than {as_of}; {_AGAIN}")
        for fit in reversed(earlier):
            if fit.text_recipe == inputs.text_recipe:
                return Choice(fit, None if is_earlier else self._explain_older(fit, as_of))
        return Choice(None, self._stale("text recipe", earlier[-1].text_recipe, inputs.text_recipe))

    def _stale(self, name: str, fitted: str, present: str) -> str:
        return f"the fitted system {self.system} is stale: its {name} is {fitted}, now {present}; {_AGAIN}"

    def _explain_older(self, fit: Fit, as_of: datetime) -> str | None:
        last = self.fits[-1]
        if fit == last:
            return None
        if last.as_of > as_of:
            why = f"ends at {last.as_of}, after the tables ({as_of})"
        else:
            why = f"has the text recipe {last.text_recipe}, now {fit.text_recipe}"
        return f"the last fit {why}, so an older one ({fit.as_of}) is used; {_AGAIN}"


def write_fitted(folder: Path, system: FittedSystem, numbers: Mapping[str, bytes]) -> None:
    """Replace the fitted system of a folder in one step, and remove the files that the one before names, and no others.

    Args:
        folder: made where it is missing.
        system: what `FILE` will say.
        numbers: content of each of its files, by name.

    Raises:
        OSError: the folder cannot be written.
    """
    before = _read_before(folder / FILE)
    for name, content in {**numbers, FILE: system.model_dump_json(indent=1).encode()}.items():
        with replacing_file(folder / name) as part:
            part.write_bytes(content)
    for fit in before.fits if before else ():
        if fit.file not in numbers:
            (folder / fit.file).unlink(missing_ok=True)


def _read_before(path: Path) -> FittedSystem | None:
    """Return what `FILE` says, None where it says nothing: a new fit mends a damaged one."""
    try:
        return FittedSystem.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def file_name(content: bytes) -> str:
    """Return the name of a file of numbers."""
    return f"{hashlib.sha256(content).hexdigest()[:16]}.safetensors"


def read_fitted(folder: Path) -> FittedSystem | None:
    """Return the fitted system of a folder, None without one.

    Raises:
        UsageError: the folder is a file, `FILE` cannot be read, or a file of numbers is missing.
    """
    check_folder(folder)
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        system = FittedSystem.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        detail = describe_validation_error(error) if isinstance(error, ValidationError) else error.strerror
        raise UsageError(f"cannot read the fitted system {path} ({detail}): {_AGAIN}") from None
    if system.schema_version != SCHEMA:
        raise UsageError(f"{path} has schema {system.schema_version}, this package reads {SCHEMA}: {_AGAIN}")
    for fit in system.fits:
        if not (folder / fit.file).is_file():
            raise UsageError(f"{folder / fit.file} is missing, which {path} names: put it back, or {_AGAIN}")
    return system


def check_folder(folder: Path) -> None:
    """Check that a fitted system can be in a folder, which may be missing.

    Raises:
        UsageError: there is a file in its place.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"VLM4REC_FITTED is {folder}, which is a file: name the folder of {FILE}")


def fitted_variable(folder: Path) -> str:
    """Return a hash that changes with the fitted system, empty without one.

    Raises:
        UsageError: as `read_fitted`.
    """
    system = read_fitted(folder)
    return hashlib.sha256(system.model_dump_json().encode()).hexdigest()[:16] if system else ""


def fitted_items(
    folder: Path,
    as_of: datetime,
    recipe: str,
    texts: pd.DataFrame,
    photos: pd.DataFrame,
    is_earlier: bool = False,
) -> pd.DataFrame:
    """Return the rows of embeddings.fitted_items; a fitted system that cannot be used is logged and gives no rows.

    Args:
        folder: of the fitted system.
        as_of: moment of the tables, NaT without interactions; the fit knows nothing later.
        recipe: of the texts.
        texts: item_id, encoder, vector.
        photos: the same of photos.
        is_earlier: see `FittedSystem.choose`.

    Returns:
        item_id, fit (name of the system, and of its numbers), vector (float32 of length 1), for each item with a text
        and a photo.
    """
    system = read_fitted(folder)
    both = texts.merge(photos, on="item_id", suffixes=("_text", "_photo"))
    nothing = pd.DataFrame(columns=["item_id", "fit", "vector"])
    if system is None:
        return nothing
    made_by = None
    if not both.empty:
        made_by = Inputs.of_tables(both["encoder_text"].iloc[0], both["encoder_photo"].iloc[0], recipe)
    fit, problem = system.choose(made_by, None if pd.isna(as_of) else as_of, is_earlier)
    if problem:
        logger.warning("%s%s", "" if fit else "no learned vectors: ", problem)
    if fit is None:
        return nothing
    numbers = read_numbers(folder / fit.file)
    vectors = project(system.system, numbers, *(stack_vectors(both[name]) for name in ("vector_text", "vector_photo")))
    name = f"{system.system}@{Path(fit.file).stem}"
    return pd.DataFrame({"item_id": both["item_id"], "fit": name, "vector": list(vectors)})


def read_numbers(path: Path) -> Numbers:
    """Read the numbers of a fit.

    Raises:
        RunError: the file is missing, or its content is not that of its name.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read the fitted numbers {path} ({error.strerror}): {_AGAIN}") from None
    if file_name(content) != path.name:
        raise RunError(f"the fitted numbers {path} are damaged: {_AGAIN}")
    numbers: Numbers = load(content)
    return numbers


def project(system: FittedName, numbers: Numbers, texts: Vectors, photos: Vectors) -> Vectors:
    """Return the unit vector of each item, float32 (n, w): the forward pass of `evaluation.systems.fusions`.

    Both kinds are turned to their leading directions and projected to w dimensions. Attention adds them up by weights
    softmax(v . tanh(W p + b)); gating by g = sigmoid(W [p1; p2] + b) for each dimension.

    Args:
        system: attention or gating.
        numbers: of the fit, by the names of its torch module.
        texts: float32 (n, d1).
        photos: float32 (n, d2).
    """
    first, second = (
        _linear(numbers, f"project_{name}", unit(unit(vectors) @ numbers[f"{name}_directions"]))
        for name, vectors in (("first", texts), ("second", photos))
    )
    if system == "gating":
        gate = _sigmoid(_linear(numbers, "gate", np.hstack([first, second])))
        return unit(gate * first + (1 - gate) * second)
    # The softmax of two numbers is the sigmoid of their difference.
    one, two = (np.tanh(_linear(numbers, "hidden", each)) @ numbers["score.weight"].T for each in (first, second))
    weight = _sigmoid(one - two)
    return unit(weight * first + (1 - weight) * second)


def _linear(numbers: Numbers, name: str, rows: Vectors) -> Vectors:
    projected: Vectors = rows @ numbers[f"{name}.weight"].T + numbers[f"{name}.bias"]
    return projected


def _sigmoid(values: Vectors) -> Vectors:
    open_share: Vectors = 0.5 * np.tanh(0.5 * values) + 0.5  # never overflows
    return open_share
