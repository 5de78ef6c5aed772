"""Local paths as Spark takes them: Hadoop reads the escapes of a URI, such as `%20`, as signs of the name."""

import re
from collections.abc import Sequence
from pathlib import Path

_GLOB = re.compile(r"[\\*?{}\[\]]")


def spark_path(path: Path) -> str:
    """Return the address of a file or folder."""
    return f"file://{path.resolve()}"


def spark_pattern(folder: Path, names: Sequence[str]) -> str:
    """Return the address of files of one folder, whose names have no sign of a pattern."""
    escaped = _GLOB.sub(r"\\\g<0>", spark_path(folder))
    return f"{escaped}/" + (f"{{{','.join(names)}}}" if len(names) > 1 else names[0])


def java_option(name: str, path: Path) -> str:
    """Return a Java property whose value is a path, for a line of options that Spark splits at spaces."""
    quoted = re.sub(r'[\\"]', r"\\\g<0>", str(path.resolve()))
    return f'-D{name}="{quoted}"'
