"""The ranking configuration: one versioned YAML file that the tables, the searches and the tuner read."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vlm4rec_search.common.errors import UsageError

DEFAULT = Path(__file__).with_name("default_ranking.yaml")

Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Rung = Literal["profile", "session", "segment", "category", "popularity"]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Weights(_Strict):
    """What each kind of leg counts in the fusion; 0 leaves it out."""

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
    """How profiles are made and how the legs of a search are joined.

    Attributes:
        version: name of this configuration, told by every answer that it made.
        half_life_days: an interaction this much older counts half as much in vectors, words and interests.
        behaviour_half_life_days: the same for the items that the behaviour leg starts from.
        co_purchase_days: how far back from `as_of` search.item_neighbours looks.
        popularity_days: how far back from `as_of` `recent` of search.item_popularity looks.
        profile: mean sends the profile vector as one semantic leg, interests one leg for each interest.
        interests: at most so many interests per shopper, 1 to 4.
        terms: weighted words per shopper.
        depth: candidates of each leg before fusion.
        fusion: min-max weighted mean or reciprocal rank.
        weights: of each kind of leg.
        diversity: share of maximal marginal relevance, 0 (off) to 1.
        ladder: tiers by which a shopper is answered, the first that has something to say; a profile and a session
            that are both there answer together. Popularity comes last in any case.
    """

    version: str = Field(min_length=1)
    half_life_days: Days
    behaviour_half_life_days: Days
    co_purchase_days: Days
    popularity_days: Days
    profile: Literal["mean", "interests"]
    interests: int = Field(ge=1, le=4)
    terms: int = Field(ge=1, le=300)  # a server takes 1,024 clauses, three for each
    depth: int = Field(ge=1, le=10_000)
    fusion: Literal["minmax", "rrf"]
    weights: Weights
    diversity: Share
    ladder: tuple[Rung, ...] = get_args(Rung)

    def table_variables(self) -> dict[str, float]:
        """Return the values that tables depend on, as variables of the SQLMesh project."""
        names = ("half_life_days", "behaviour_half_life_days", "co_purchase_days", "popularity_days")
        counts = {"interests": self.interests, "terms": self.terms}
        return {name: float(getattr(self, name)) for name in names} | counts


def write_ranking(ranking: Ranking, path: Path) -> None:
    """Write a configuration as YAML.

    Raises:
        OSError: the file cannot be written.
    """
    import yaml

    path.write_text(yaml.safe_dump(ranking.model_dump(mode="json"), sort_keys=False), "utf-8")


@cache
def load_ranking(path: Path | None = None) -> Ranking:
    """Read a ranking configuration, by default the one that ships.

    Raises:
        UsageError: the file is missing, no YAML, or a value is missing, unknown or outside of its range.
    """
    import yaml

    path = path or DEFAULT
    try:
        return Ranking.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the ranking configuration {path} ({error}): set VLM4REC_RANKING") from None
    except yaml.YAMLError as error:
        raise UsageError(f"the ranking configuration {path} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"the ranking configuration {path}: {place}: {first['msg']}") from None
