"""The names that the package exports."""

import pytest

import vlm4rec_search
from vlm4rec_search.common.settings import Settings


@pytest.mark.parametrize("name", vlm4rec_search.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(vlm4rec_search, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = vlm4rec_search.Nothing


def test_open_index_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlm4rec_search import indexes

    seen: list[Settings] = []

    def keep(url: str, settings: Settings, follows: bool, shared: bool) -> None:
        seen.append(settings)
        raise LookupError(url)

    monkeypatch.setenv("VLM4REC_INDEX_USER", "somebody")
    monkeypatch.setenv("VLM4REC_INDEX_PREFIX", "other-")
    monkeypatch.setattr(indexes, "_open_backend", keep)
    with pytest.raises(LookupError):
        vlm4rec_search.open_index("https://search.example", user="reader", password="secret", prefix="shop-")  # noqa: S106  of nobody
    (settings,) = seen
    assert (settings.index_user, settings.index_prefix) == ("reader", "shop-")
    assert settings.index_password is not None
    assert settings.index_password.get_secret_value() == "secret"
    assert "secret" not in repr(settings)
