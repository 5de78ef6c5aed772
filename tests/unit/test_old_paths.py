"""Plug-ins that use the import paths of version 0.1 work, and a warning names the new paths."""

import importlib
import sys
import warnings
from pathlib import Path

import pytest

from vlm4rec_search.common.old_paths import OLD_PATHS


@pytest.mark.parametrize("old", sorted(OLD_PATHS))
def test_an_old_path_has_the_names_of_the_new_ones(old: str) -> None:
    name = f"vlm4rec_search.{old}"
    sys.modules.pop(name, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.import_module(name)
    for new in OLD_PATHS[old]:
        source = importlib.import_module(f"vlm4rec_search.{new}")
        public = [key for key in vars(source) if not key.startswith("_")]
        assert public
        assert all(getattr(module, key) is getattr(source, key) for key in public)
    messages = [str(warning.message) for warning in caught if warning.category is DeprecationWarning]
    assert [message for message in messages if f"{name} has moved" in message] or not OLD_PATHS[old]


def test_the_plug_in_types_are_the_same_classes() -> None:
    from vlm4rec_search import Captioner

    with pytest.warns(DeprecationWarning, match=r"captioning\.base"):
        sys.modules.pop("vlm4rec_search.captioners.base", None)
        module = importlib.import_module("vlm4rec_search.captioners.base")
    assert module.Captioner is Captioner


def test_the_warning_points_at_the_line_of_the_plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in = tmp_path / "old_plug_in.py"
    plug_in.write_text("from vlm4rec_search.captioners.base import Caption, Captioner, CaptionError, Context\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "vlm4rec_search.captioners.base", raising=False)
    with pytest.warns(DeprecationWarning, match=r"vlm4rec_search\.captioning\.base") as caught:
        importlib.import_module("old_plug_in")
    assert Path(caught[-1].filename) == plug_in


def test_a_module_that_never_existed_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("vlm4rec_search.nothing")
