"""Import paths of version 0.1 that plug-ins may use; they work for one release, with a DeprecationWarning."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = "vlm4rec_search"
OLD_PATHS = {
    "captioners": ("captioning.base", "captioning.registry"),
    "captioners.base": ("captioning.base",),
    "encoders": ("embeddings.encoders", "embeddings.base"),
    "encoders.base": ("embeddings.base", "common.vectors"),
    "errors": ("common.errors",),
    "queries": (),
    "queries.query": ("search.query",),
    "settings": ("common.settings",),
}


class OldPathFinder(MetaPathFinder, Loader):
    """Finds modules under their old paths and fills them with the names of the new ones."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for an old path, None for every other module."""
        package, _, old = fullname.partition(".")
        if package != PACKAGE or old not in OLD_PATHS:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        """Copy the public names of the new modules, and warn."""
        old = module.__name__.partition(".")[2]
        for new in OLD_PATHS[old]:
            source = import_module(f"{PACKAGE}.{new}")
            vars(module).update({name: value for name, value in vars(source).items() if not name.startswith("_")})
        if OLD_PATHS[old]:
            homes = " and ".join(f"{PACKAGE}.{new}" for new in OLD_PATHS[old])
            message = f"{module.__name__} has moved to {homes}; the old path goes away in version 0.3"
            warnings.warn(message, DeprecationWarning, stacklevel=2)


def install() -> None:
    """Let Python find the old paths; a second call does nothing."""
    if not any(isinstance(finder, OldPathFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, OldPathFinder())  # before folders that an old checkout left behind
