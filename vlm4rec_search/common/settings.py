"""The environment as one frozen object; nothing else reads the environment."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from vlm4rec_search.common.errors import UsageError

PROJECT = Path(__file__).resolve().parents[2]


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
    index_url: str = Field(default="index", repr=False, description="where releases live: a folder, or a server")
    index_user: str | None = Field(default=None, description="user of the OpenSearch server (basic authentication)")
    index_password: SecretStr | None = Field(default=None, description="that user's password")
    index_password_file: Path | None = Field(default=None, description="file with that password")
    index_api_key: SecretStr | None = Field(default=None, description="sent as `Authorization: ApiKey ...`")
    index_api_key_file: Path | None = Field(default=None, description="file with that API key")
    index_ca: Path | None = Field(default=None, description="PEM file of the CA to trust in place of the system's")
    index_prefix: str = Field(
        default="", pattern=r"^([a-z0-9][a-z0-9_-]*)?$", description="what the names of indexes on a server begin with"
    )
    index_vectors: Literal["float32", "on_disk", "faiss"] = Field(
        default="float32", description="how a server keeps vectors"
    )
    releases: Path = Field(default=Path("releases.duckdb"), description="DuckDB file that records every publication")
    cache: Path = Field(default=Path(".cache/vlm4rec"), description="folder of the paid-for results of model calls")
    quality: Path = Field(default=Path("quality"), description="folder of the Data Docs that `vlm4rec check` writes")
    results: Path = Field(default=Path("results.duckdb"), description="DuckDB file that `vlm4rec evaluate` adds to")
    opensearch: Path = Field(
        default=Path(".cache/vlm4rec/opensearch"), description="folder of `vlm4rec opensearch`: data, log, plug-ins"
    )
    opensearch_java: Path | None = Field(default=None, description="Java of that server; default: the packaged one")
    captioner: str = Field(default="attributes", description="who describes the photos")
    prompt: str = Field(default="product", description="what captioners are asked: a packaged prompt or a YAML file")
    captioner_batch: int = Field(default=8, ge=1, le=1024, description="photos at once in a model on this machine")
    captioner_quantize: Literal["none", "4bit", "8bit"] = Field(default="none", description="weights on a GPU")
    openai_url: str = Field(default="http://localhost:8000/v1", repr=False, description="OpenAI-compatible server")
    openai_key: SecretStr | None = Field(default=None, description="sent as `Authorization: Bearer ...`")
    openai_key_file: Path | None = Field(default=None, description="file with that key")
    openai_revision: str = Field(default="1", description="label of what is served; another one captions again")
    openai_workers: int = Field(default=16, ge=1, le=512, description="requests in flight")
    openai_rpm: int | None = Field(default=None, ge=1, description="requests per minute, at most")
    openai_tpm: int | None = Field(default=None, ge=1, description="tokens per minute, at most")
    openai_timeout: float = Field(default=120.0, gt=0, description="seconds to wait for an answer")
    caption_budget: int = Field(default=5000, ge=0, description="most captions, and photos by URL, that a plan makes")
    caption_edits: Path | None = Field(default=None, description="CSV of captions written by hand")
    caption_max_cost: float | None = Field(default=None, ge=0, description="most money that one run may spend")
    other_captioners: str | None = Field(
        default=None, description="captioners beside the active one, with commas between"
    )
    price_in: float = Field(default=0.0, ge=0, description="price of a million tokens that are sent to the captioner")
    price_out: float = Field(default=0.0, ge=0, description="price of a million tokens that it answers")
    allow_private_addresses: bool = Field(default=False, description="photo URLs may lead into private networks")
    encoder: str = Field(default="all-MiniLM-L6-v2", description="sentence encoder: packaged, a name, or a path")
    image_encoder: str = Field(default="efficientnet-lite0", description="photo encoder")
    as_of: datetime | None = Field(default=None, description="moment of the tables; default: the latest interaction")
    ranking: Path | None = Field(default=None, description="ranking configuration (YAML); default: the one that ships")
    rules: Path | None = Field(default=None, description="rules of the business (YAML): pin, boost, bury, drop")
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


def secret(variable: str, value: SecretStr | None, file: Path | None, *, is_ascii: bool = True) -> str | None:
    """Return what `variable` holds, or the first line of the file that `<variable>_FILE` names; None for neither.

    A key travels in a header as it is, which takes ASCII only; a password is encoded.

    Raises:
        UsageError: both are set, the file cannot be read, or there is nothing printable in it.
    """
    if value and file:
        raise UsageError(f"set {variable} or {variable}_FILE, not both")
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n") if file else value and value.get_secret_value()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{variable}_FILE: cannot read {file}: {getattr(error, 'strerror', error)}") from None
    if text is not None and not (text and text.isprintable() and (text.isascii() or not is_ascii)):
        raise UsageError(f"{variable}{'_FILE' if file else ''} is empty or has characters that cannot be sent")
    return text or None
