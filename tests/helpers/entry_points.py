"""Installed packages with entry points, written as an installer would write them."""

from pathlib import Path


def write_distribution(folder: Path, package: str, *entry_points: str) -> None:
    """Write the metadata of a package into a folder of `sys.path`; each entry point is `name = module:factory`."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[vlm4rec_search.captioners]", *entry_points, ""]))
