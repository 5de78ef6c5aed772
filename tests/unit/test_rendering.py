"""Edited models as plain SQL: statements beside the query do not matter, and what is wrong is told with the file."""

import shutil
from pathlib import Path

import pytest
from helpers.workspace import ROOT

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.pipeline.rendering import render_model

MODEL = "histories.user_histories"


def edited(folder: Path, more: str) -> Path:
    """Return a project whose model of histories has more text at its end."""
    shutil.copytree(ROOT / "macros", folder / "macros", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "models" / "histories").mkdir(parents=True)
    text = (ROOT / "models" / "histories" / "user_histories.sql").read_text("utf-8").rstrip()
    (folder / "models" / "histories" / "user_histories.sql").write_text(f"{text}\n{more}\n", "utf-8")
    return folder


def test_a_statement_after_the_query_is_left_out(tmp_path: Path) -> None:
    assert render_model(edited(tmp_path, ";\nANALYZE"), MODEL) == render_model(ROOT, MODEL)


@pytest.mark.parametrize(
    ("more", "told"),
    [("AND @no_such_macro(1) = 2", "Macro 'no_such_macro' does not exist"), ("WHERE )", "Required keyword: 'this'")],
)
def test_a_wrong_model_is_named(tmp_path: Path, more: str, told: str) -> None:
    with pytest.raises(RunError, match=rf"user_histories\.sql cannot be run outside a plan: {told}"):
        render_model(edited(tmp_path, more), MODEL)
