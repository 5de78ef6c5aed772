"""Plug-ins that use the import paths of version 0.1 still work, and are told the new ones."""

import importlib
import sys
import warnings

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
    told = [str(warning.message) for warning in caught if warning.category is DeprecationWarning]
    assert [message for message in told if f"{name} has moved" in message] or not OLD_PATHS[old]


def test_the_plug_in_types_are_the_same_classes() -> None:
    from vlm4rec_search import Captioner

    with pytest.warns(DeprecationWarning, match=r"captioning\.base"):
        sys.modules.pop("vlm4rec_search.captioners.base", None)
        module = importlib.import_module("vlm4rec_search.captioners.base")
    assert module.Captioner is Captioner


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("vlm4rec_search.nothing")
