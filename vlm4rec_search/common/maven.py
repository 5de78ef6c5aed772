"""Files of Maven Central, each pinned by its sha256, from Central itself, a mirror or a folder."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.paths import file_sha256, replacing_file
from vlm4rec_search.common.progress import Advance, bar

CENTRAL = "https://repo.maven.apache.org/maven2"
_TIMEOUT = 60.0  # seconds without a byte
_ATTEMPTS = 3
_CHUNK = 1_000_000  # bytes, a step of the progress bar


def repository_path(coordinate: str) -> str:
    """Return the path of a file below the root of a Maven repository.

    Args:
        coordinate: `group:artifact:packaging:version`, with a classifier before the version if it has one.
    """
    group, name, packaging, *classifier, version = coordinate.split(":")
    file = "-".join([name, version, *classifier])
    return f"{group.replace('.', '/')}/{name}/{version}/{file}.{packaging}"


def download(coordinate: str, sha256: str, target: Path, source: str = CENTRAL, label: str | None = None) -> None:
    """Bring a file to its target. It appears there complete and verified, or not at all.

    Args:
        coordinate: as in `repository_path`.
        sha256: pinned hash of the file, in hex.
        target: path of the file; its folder is created.
        source: URL of a Maven repository, or a folder that has the file, flat or in the layout of a repository.
        label: of the progress bar in megabytes; None shows none.

    Raises:
        RunError: the file cannot be had, has another content than the pinned one, or cannot be written.
    """
    path = repository_path(coordinate)
    try:
        with replacing_file(target) as part:
            if "://" in source:
                _fetch(coordinate, f"{source.rstrip('/')}/{path}", part, label)
            else:
                shutil.copyfile(_find(Path(source), path), part)
            if file_sha256(part) != sha256:
                raise RunError(
                    f"the content of {coordinate} differs from the pinned one: check {_shown(source)} and the proxy"
                    " before it"
                )
    except OSError as error:
        raise RunError(f"{coordinate} cannot be stored in {target.parent}: {error.strerror}") from None


def _find(folder: Path, path: str) -> Path:
    """Return the file in a folder, where it stands flat or in the layout of a repository."""
    for candidate in (folder / path, folder / Path(path).name):
        if candidate.is_file():
            return candidate
    raise RunError(f"VLM4REC_WEIGHTS: {folder} does not have {Path(path).name}: copy it there, or unset the variable")


def _fetch(coordinate: str, url: str, part: Path, label: str | None) -> None:
    import httpx
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    attempts = Retrying(
        retry=retry_if_exception_type((httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError)),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(max=5),
        reraise=True,
    )
    try:
        attempts(_stream, url, part, label)
    except httpx.HTTPStatusError as error:
        raise _failure(coordinate, url, f"HTTP {error.response.status_code}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _failure(coordinate, url, type(error).__name__) from None


def _failure(coordinate: str, url: str, cause: str) -> RunError:
    return RunError(
        f"{coordinate} could not be downloaded from {_shown(url)} ({cause}): check the network or proxy, or set"
        " VLM4REC_WEIGHTS to a mirror or a folder; then start again"
    )


def _stream(url: str, part: Path, label: str | None) -> None:
    import httpx

    with httpx.stream("GET", url, follow_redirects=True, timeout=_TIMEOUT) as answer, part.open("wb") as file:
        answer.raise_for_status()
        size = int(answer.headers.get("content-length", 0))
        with _bar(label, size) as advance:
            for chunk in answer.iter_bytes(_CHUNK):
                file.write(chunk)
                advance(1)


@contextmanager
def _bar(label: str | None, size: int) -> Iterator[Advance]:
    if label is None:
        yield lambda count: None
        return
    with bar(f"{label}, in MB", -(-size // _CHUNK)) as advance:
        yield advance


def _shown(source: str) -> str:
    """Return where the files come from: the host of a URL, without user and password, or the folder."""
    return urlsplit(source).hostname or "" if "://" in source else source
