"""The version of this package, which what it writes is marked with."""

from importlib.metadata import version


def package_version() -> str:
    """Return the version of the installed package."""
    return version("vlm4rec-search")
