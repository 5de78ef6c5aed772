"""Writes the pages of docs/reference from the code: `python docs/generate.py`. A test compares them."""

from pathlib import Path

from sqlmesh import Context

from vlm4rec_search.common.settings import Settings

FOLDER = Path(__file__).parent / "reference"
_LAYERS = ("raw", "staging", "histories", "captions", "embeddings", "profiles", "search")


def settings_page() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        "",
        "Environment variables, or lines of the file `.env` of the project, which wins. A relative path is relative to",
        "the working directory. Secrets are never printed.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f"`{field.default}`"
        lines.append(f"| `VLM4REC_{name.upper()}` | {default} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def tables_page(context: Context) -> str:
    """Return the page of all tables, with the comments of their columns."""
    lines = [
        "# Tables",
        "",
        "Every model of the project with its columns, in the order of the layers.",
        "[models/README.md](../../models/README.md) draws how they depend on each other. The same comments stand in",
        "the analysts' copy, see [analysts.md](../analysts.md).",
    ]
    models = sorted(context.models.values(), key=lambda model: (_LAYERS.index(model.name.split(".")[0]), model.name))
    for model in models:
        lines += [
            "",
            f"## {model.name}",
            "",
            _line(model.description or ""),
            "",
            "| column | type | meaning |",
            "|---|---|---|",
        ]
        for name, kind in (model.columns_to_types or {}).items():
            meaning = _cell(model.column_descriptions.get(name, ""))
            lines.append(f"| `{name}` | {kind.sql(dialect='duckdb')} | {meaning} |")
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "settings.md").write_text(settings_page(), "utf-8")
    (FOLDER / "tables.md").write_text(tables_page(Context(paths=[str(Path(__file__).parents[1])])), "utf-8")
