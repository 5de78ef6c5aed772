"""Captioners by name, including those of other packages, and invalid settings."""

import sys
from pathlib import Path

import pytest
from helpers.entry_points import write_distribution
from pydantic import SecretStr

from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings, secret

PLUGIN = """
from vlm4rec_search.captioning.base import Caption, Captioner

class Echo(Captioner):
    prompt = "title@1"
    def __init__(self, argument, options):
        self.id = f"echo-{argument}@1"
    def render(self, context):
        return context.title
    def caption(self, photos, prompts):
        return [Caption(prompt) for prompt in prompts]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "echo_captioner.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "echo_captioner", raising=False)
    return tmp_path


def test_a_captioner_of_another_package_is_loaded_with_its_argument(site: Path) -> None:
    write_distribution(site, "echo-captioner", "echo = echo_captioner:Echo")
    captioner = load_captioner("echo:loud", Settings())
    assert captioner.id == "echo-loud@1"
    with pytest.raises(
        UsageError, match=r"unknown captioner 'oracle'.* one of attributes, tiny, .*openai:<model>, echo$"
    ):
        load_captioner("oracle", Settings())


def test_a_name_that_two_packages_offer_is_an_error(site: Path) -> None:
    for package in ("first", "second"):
        write_distribution(site, package, "twin = echo_captioner:Echo")
    with pytest.raises(UsageError, match=r"'twin' is offered by several packages \(first, second\)"):
        load_captioner("twin", Settings())


def test_a_captioner_that_cannot_be_imported_is_an_error(site: Path) -> None:
    write_distribution(site, "broken", "broken = no_such_module:make")
    with pytest.raises(UsageError, match="'broken' cannot be imported: No module named 'no_such_module'"):
        load_captioner("broken", Settings())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("openai", "needs a model: VLM4REC_CAPTIONER=openai:<model"),
        ("transformers:", "needs a model: VLM4REC_CAPTIONER=transformers:<folder"),
        ("tiny:large", "tiny takes no argument"),
        ("attributes:more", "attributes takes no argument"),
    ],
)
def test_a_missing_or_superfluous_argument_is_an_error(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        load_captioner(name, Settings())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"openai_url": "localhost:8000"}, "has to look like http://localhost:8000/v1"),
        ({"openai_url": "http://me:secret@host/v1"}, "put the key into VLM4REC_OPENAI_KEY"),
        ({"openai_key_file": "/no/such/file"}, "VLM4REC_OPENAI_KEY_FILE: cannot read"),
        ({"openai_key_file": "key", "openai_key": "secret"}, "not both"),
        ({"openai_key": "a\nsecret"}, "VLM4REC_OPENAI_KEY is empty or has characters"),
        ({"prompt": "poem"}, "unknown prompt 'poem'"),
    ],
)
def test_invalid_settings_are_an_error_without_the_key(options: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as raised:
        load_captioner("openai:llava", Settings.model_validate(options))
    assert "secret" not in str(raised.value)


def test_the_key_is_read_from_a_file_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret\n")
    options = Settings.model_validate({"openai_key_file": tmp_path / "key", "openai_revision": "2026-01"})
    captioner = load_captioner("openai:llava", options)
    assert (captioner.id, captioner.prompt, captioner.workers) == ("llava@2026-01", "product@1", 16)
    assert "sk-secret" not in repr(Settings.model_validate({"openai_key": "sk-secret"}))


def test_white_space_around_a_key_is_removed_and_that_of_a_password_stays(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(" sk-1 \n")
    assert secret("KEY", None, path) == secret("KEY", SecretStr("\tsk-1 "), None) == "sk-1"
    assert secret("PASSWORD", None, path, is_ascii=False) == " sk-1 "
    with pytest.raises(UsageError, match="KEY is empty"):
        secret("KEY", SecretStr("  "), None)
