"""The ranking configuration: one versioned YAML file for the tables, the searches and the tuner."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm4rec_search.common.yaml_files import read_yaml

DEFAULT = Path(__file__).with_name("default_ranking.yaml")

Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
ChainTier = Literal["profile", "session", "segment", "category", "popularity"]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class Weights(_Strict):
    """The weight of each kind of retriever in the fusion; 0 switches it off."""

    semantic: Weight
    lexical: Weight
    behaviour: Weight
    popularity: Weight

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("at least one weight has to be above 0")
        return self


class Ranking(_Strict):
    """How profiles are made and how the retrievers of a search are fused.

    Attributes:
        version: name of this configuration; every answer shows it.
        half_life_days: an interaction this much older counts half as much in vectors, words and interests.
        behaviour_half_life_days: the same for the items that co-purchases start from.
        co_purchase_days: how many days before `as_of` count in search.item_neighbours.
        popularity_days: how many days before `as_of` count in `recent` of search.item_popularity.
        profile: mean uses the profile vector as one semantic retriever, interests one retriever for each interest.
        interests: the most interests of a shopper, 1 to 4.
        terms: the most weighted words of a shopper.
        depth: candidates of each retriever before fusion.
        fusion: min-max weighted mean or reciprocal rank.
        weights: of each kind of retriever.
        diversity: share of maximal marginal relevance, 0 (off) to 1.
        fallback_chain: tiers in the order in which they are tried (key `ladder` of the file); the first that knows
            something about the shopper answers. A profile and a session answer together. Popularity comes last anyway.
    """

    version: str = Field(min_length=1)
    half_life_days: Days
    behaviour_half_life_days: Days
    co_purchase_days: Days
    popularity_days: Days
    profile: Literal["mean", "interests"]
    interests: int = Field(ge=1, le=4)
    terms: int = Field(ge=1, le=200)  # a server takes 1,000 clauses: four for each, and for each of 32 of a session
    depth: int = Field(ge=1, le=10_000)
    fusion: Literal["minmax", "rrf"]
    weights: Weights
    diversity: Share
    fallback_chain: tuple[ChainTier, ...] = Field(default=get_args(ChainTier), alias="ladder")

    def table_variables(self) -> dict[str, float]:
        """Return the values that SQLMesh models depend on, as variables of the project."""
        names = ("half_life_days", "behaviour_half_life_days", "co_purchase_days", "popularity_days")
        counts = {"interests": self.interests, "terms": self.terms}
        return {name: float(getattr(self, name)) for name in names} | counts


def write_ranking(ranking: Ranking, path: Path) -> None:
    """Write a configuration as YAML.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(yaml.safe_dump(ranking.model_dump(mode="json"), sort_keys=False), "utf-8")


@cache
def load_ranking(path: Path | None = None) -> Ranking:
    """Read a ranking configuration, by default the one that comes with the package.

    Raises:
        UsageError: the file is missing or not YAML, or a value is missing, unknown or outside its range.
    """
    return read_yaml(path or DEFAULT, Ranking, "the ranking configuration", "set VLM4REC_RANKING")
