"""The ranking configuration: one versioned YAML file for the tables, the searches and the tuner."""

from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.yaml_files import describe_validation_error, read_yaml
from vlm4rec_search.embeddings.recipes import Recipe
from vlm4rec_search.search.query import Fusion
from vlm4rec_search.search.release import ReleaseMeta

DEFAULT = Path(__file__).with_name("default_ranking.yaml")

Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
ChainTier = Literal["profile", "session", "segment", "category", "popularity"]
CHOSEN = "shop-"  # a configuration that was chosen for a shop has a version that begins with this
SCHEMA = 2  # of a ranking file; 2 knows ease, shoppers and fitted, blends, and weights by length of the history
DURATIONS = ("pace_days", "half_life_days", "behaviour_half_life_days", "co_purchase_days", "popularity_days")
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class Weights(_Strict):
    """The weight of each kind of retriever in the fusion; 0 switches it off. Files of schema 1 lack the last three."""

    semantic: Weight
    lexical: Weight
    behaviour: Weight
    popularity: Weight
    ease: Weight = 0.0
    shoppers: Weight = 0.0
    fitted: Weight = 0.0


class HistoryWeights(_Strict):
    """Other weights for shoppers, or sessions, with at most `up_to` different items."""

    up_to: int = Field(ge=1)
    weights: Weights


class Ranking(_Strict):
    """How profiles are made and how the retrievers of a search are fused.

    Attributes:
        schema_version: of the file (key `schema`); a larger number than `SCHEMA` needs a newer package.
        version: name of this configuration; every answer shows it.
        pace_days: half-life of what shoppers take; None lets profiles.pace_trials choose it for the shop.
        half_life_days: an interaction this much older counts half as much in vectors, words and interests. This and the
            next three follow from the pace where they are None, see profiles.pace.
        behaviour_half_life_days: the same for the items that co-purchases start from.
        co_purchase_days: how many days before the latest event count in search.item_neighbours.
        popularity_days: how many days before the latest event count in `recent` of search.item_popularity.
        text: what of an item is embedded, see `embeddings.recipes`; None lets embeddings.recipe_trials choose it.
        profile: mean uses the profile vector as one semantic retriever, interests one retriever for each interest.
        interests: the most interests of a shopper, 1 to 4.
        terms: the most weighted words of a shopper.
        depth: candidates of each retriever before fusion.
        fusion: reciprocal rank (rrf), weighted mean of min-max (minmax) or standard scores (zscore), or a blend of rrf
            and minmax; searches with a text use minmax.
        weights: of each kind of retriever.
        rank_weights: of the ranks of each kind in a blend.
        by_history: other weights for short histories; the first that holds is used, not with a blend.
        diversity: share of maximal marginal relevance, 0 (off) to 1.
        buy_again: weight of the items that a shopper may buy again, as a share of the largest weight of a retriever; 0
            leaves out all items of the history.
        min_score: hits with a lower score are left out, except of the tiers segment, category and popularity; None
            keeps all.
        fallback_chain: tiers in the order in which they are tried (key `ladder` of the file); the first that knows
            something about the shopper answers. A profile and a session answer together. Popularity comes last anyway.
    """

    schema_version: int = Field(default=1, ge=1, le=SCHEMA, alias="schema")
    version: str = Field(min_length=1)
    pace_days: Days | None = None
    half_life_days: Days | None = None
    behaviour_half_life_days: Days | None = None
    co_purchase_days: Days | None = None
    popularity_days: Days | None = None
    text: Recipe | None = None
    profile: Literal["mean", "interests"]
    interests: int = Field(ge=1, le=4)
    terms: int = Field(ge=1, le=200)  # a server takes 1,000 clauses: four for each, and for each of 32 of a session
    depth: int = Field(ge=1, le=10_000)
    fusion: Fusion
    weights: Weights
    rank_weights: Weights = Weights(**dict.fromkeys(Weights.model_fields, 0.0))
    by_history: tuple[HistoryWeights, ...] = ()
    diversity: Share
    buy_again: Share = 0.0
    min_score: Annotated[float, Field(allow_inf_nan=False)] | None = None
    fallback_chain: tuple[ChainTier, ...] = Field(default=get_args(ChainTier), alias="ladder")

    @model_validator(mode="after")
    def _check(self) -> Self:
        by_rank = self.rank_weights.model_dump().values()
        if self.fusion != "blend" and any(by_rank):
            raise ValueError("rank_weights belong to the fusion blend")
        if self.fusion == "blend" and self.by_history:
            raise ValueError("a blend has no by_history")
        for weights in (self.weights, *(each.weights for each in self.by_history)):
            if not any((*weights.model_dump().values(), *by_rank)):
                raise ValueError("at least one weight has to be above 0")
        if list(self.by_history) != sorted(self.by_history, key=lambda each: each.up_to):
            raise ValueError("by_history has to be in the order of up_to")
        return self

    @property
    def by_interest(self) -> bool:
        """Whether each interest of a shopper is a retriever of its own."""
        return self.profile == "interests"

    def weights_for(self, items: int) -> Weights:
        """Return the weights for a history of this many different items."""
        found = (each.weights for each in self.by_history if items <= each.up_to)
        return next(found, self.weights) if self.fusion != "blend" else self.weights

    def describe_missing(self, release: ReleaseMeta) -> str | None:
        """Return a line where a release lacks the only thing that has weight beside popularity.

        Learned vectors are what a whole release can lack. Other kinds of retrievers may find nothing for one shopper.
        """
        weights = [self.weights, *(each.weights for each in self.by_history)]
        kinds = [{kind for kind, weight in each.model_dump().items() if weight > 0.0} for each in weights]
        kinds[0] |= {kind for kind, weight in self.rank_weights.model_dump().items() if weight > 0.0}
        if release.fitted is not None or not any(each - {"popularity"} == {"fitted"} for each in kinds):
            return None
        alone = f"the ranking {self.version} weighs fitted alone beside popularity"
        return f"{alone}, and the release has no learned vectors, which `vlm4rec fit` makes"

    def table_variables(self) -> dict[str, float | None]:
        """Return the numbers that SQLMesh models depend on, as variables of the project."""
        durations = {name: getattr(self, name) for name in DURATIONS}
        return {**durations, "interests": self.interests, "terms": self.terms}


def write_ranking(ranking: Ranking, path: Path) -> None:
    """Write a configuration as YAML.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(yaml.safe_dump(ranking.model_dump(mode="json"), sort_keys=False), "utf-8")


@cache
def load_ranking(path: Path | None = None, hint: str = "set VLM4REC_RANKING") -> Ranking:
    """Read a ranking configuration, by default the one that comes with the package.

    Args:
        path: of the file.
        hint: end of the message about a file that cannot be read.

    Raises:
        UsageError: the file is missing or not YAML, or a value is missing, unknown or outside its range.
    """
    return read_yaml(path or DEFAULT, Ranking, "the ranking configuration", hint)


def pinned_ranking(path: Path | None) -> Ranking | None:
    """Read the ranking configuration that the settings pin, None where they pin none.

    Raises:
        UsageError: as `load_ranking`.
    """
    return load_ranking(path) if path else None


def ranking_of(release: ReleaseMeta, given: Ranking | None = None) -> Ranking:
    """Return the ranking by which a release answers: the one that is given, else the release's own.

    Raises:
        UsageError: this package cannot read the release's.
    """
    if given is not None:
        return given
    return load_ranking() if release.ranking is None else parse_ranking(release.ranking)


@lru_cache(maxsize=8)
def parse_ranking(text: str) -> Ranking:
    """Read the ranking configuration that a release holds as JSON.

    Raises:
        UsageError: this package cannot read it.
    """
    try:
        return Ranking.model_validate_json(text)
    except ValidationError as error:
        detail = describe_validation_error(error)
        raise UsageError(f"cannot read the release's ranking configuration ({detail}): set VLM4REC_RANKING") from None
