"""The environment as one frozen object; nothing else reads the environment."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from vlm4rec_search.errors import UsageError

PROJECT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """Every option that is shared between `sqlmesh plan` and the `vlm4rec` commands.

    Each field is read from the environment variable `VLM4REC_<FIELD>`; relative paths are
    relative to the working directory.
    """

    model_config = SettingsConfigDict(env_prefix="VLM4REC_", frozen=True, extra="ignore", env_ignore_empty=True)

    project: Path = Field(default=PROJECT, description="SQLMesh project: the folder with models/ and expectations/")
    data_dir: Path = Field(default=Path("data"), description="raw data: items.*, interactions.* and the photos")
    warehouse: Path = Field(default=Path("warehouse.duckdb"), description="DuckDB file that `sqlmesh plan` writes")
    published: Path = Field(default=Path("published"), description="folder of the analysts' copy of the warehouse")
    index_url: str = Field(default="index", description="where releases live: a folder for the embedded index")
    cache: Path = Field(default=Path(".cache/vlm4rec"), description="folder of the paid-for results of model calls")
    quality: Path = Field(default=Path("quality"), description="folder of the Data Docs that `vlm4rec check` writes")
    results: Path = Field(default=Path("results.duckdb"), description="DuckDB file that `vlm4rec evaluate` adds to")
    captioner: str = Field(default="attributes", description="who describes the photos")
    encoder: str = Field(default="all-MiniLM-L6-v2", description="sentence encoder: packaged, a name, or a path")
    image_encoder: str = Field(default="efficientnet-lite0", description="photo encoder")
    as_of: datetime | None = Field(default=None, description="moment of the tables; default: the latest interaction")
    max_age_days: float = Field(default=30.0, description="newest interaction older than this, at as_of: a warning")

    @field_validator("as_of")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        """A time with an offset becomes UTC, in which the tables are; dropping the offset would let the future in."""
        try:
            return moment.astimezone(UTC).replace(tzinfo=None) if moment and moment.tzinfo else moment
        except OverflowError:
            raise ValueError("it lies outside of the calendar") from None


@cache
def settings() -> Settings:
    """Return the settings of this process.

    Raises:
        UsageError: an environment variable cannot be parsed.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "VLM4REC_" + "_".join(str(part) for part in first["loc"]).upper()
        raise UsageError(f"{name} is set to {first['input']!r}: {first['msg']}") from None
