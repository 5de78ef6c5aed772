"""The live release of a folder, for a backend that goes on with the next one."""

from pathlib import Path

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.embedded.backend import TURNS, EmbeddedBackend
from vlm4rec_search.indexes.embedded.pointer import current_release
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.backend import Backend, Reader, SentRequest
from vlm4rec_search.search.release import ReleaseMeta


class FollowedFolder(Backend):
    """Reads the release of a folder that was live at the last `reopen`.

    A reader keeps its release until its search has ended; then nothing refers to an old release, and it closes.

    Attributes:
        opened: the release that is open now.
    """

    turns = TURNS

    def __init__(self, folder: Path, shared: bool = False) -> None:
        """Open the live release.

        Args:
            folder: of the index.
            shared: share the memory of its arrays with other processes.

        Raises:
            UsageError: nothing is published, or the release was built for another package version.
            RunError: the release cannot be read.
        """
        self._folder, self._shared = folder, shared
        self._open(self._live_path())

    def _live_path(self) -> Path:
        path = current_release(self._folder)
        if path is None:
            raise UsageError(f"nothing is published in {self._folder}: run `vlm4rec index` first")
        return path

    @property
    def release(self) -> ReleaseMeta:
        return self.opened.release

    def reader(self, sent: list[SentRequest] | None = None) -> Reader:
        return self.opened.reader(sent)

    def live(self) -> str:
        path = self._live_path()
        if path.stem == self.release.name and path.stat().st_ino != self._inode:
            self._open(path)  # `vlm4rec forget` has put a new file in its place
        return path.stem

    def reopen(self) -> bool:
        self._open(self._live_path())
        return True

    def _open(self, path: Path) -> None:
        inode = path.stat().st_ino
        self.opened, self._inode = EmbeddedBackend(Store(path, self._shared)), inode

    def close(self) -> None:
        self.opened.close()
