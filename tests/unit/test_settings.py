"""Settings from the environment, and messages for values that cannot be parsed."""

from datetime import datetime
from pathlib import Path

import pytest

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings, settings


def test_a_time_with_an_offset_becomes_utc() -> None:
    moments = {
        "2025-06-30T00:00:00+02:00": datetime(2025, 6, 29, 22),
        "2025-06-30T00:00:00Z": datetime(2025, 6, 30),
        "2025-06-30": datetime(2025, 6, 30),
    }
    for text, moment in moments.items():
        assert Settings.model_validate({"as_of": text}).as_of == moment


def test_a_time_outside_of_the_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="outside of the calendar"):
        Settings.model_validate({"as_of": "9999-12-31T23:59:59-05:00"})


def test_a_setting_that_cannot_be_parsed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM4REC_MAX_AGE_DAYS", "soon")
    settings.cache_clear()
    with pytest.raises(UsageError, match="VLM4REC_MAX_AGE_DAYS is set to 'soon'"):
        settings()
    monkeypatch.delenv("VLM4REC_MAX_AGE_DAYS")
    monkeypatch.setenv("VLM4REC_WAREHOUSE_MEMORY", "8")
    with pytest.raises(UsageError, match="VLM4REC_WAREHOUSE_MEMORY is set to '8': write a size with its unit"):
        settings()


def test_variables_that_are_no_settings_are_named_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.py").write_text("import vlm4rec_search\n")
    (tmp_path / ".env").write_text("VLM4REC_CAPTION_MAXCOST=1\nVLM4REC_CAPTION_BUDGET=7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLM4REC_CAPTION_MAXCOST", "1")  # so that the file's value goes away with the test
    monkeypatch.setenv("VLM4REC_CAPTION_BUDGET", "7")
    monkeypatch.setenv("VLM4REC_QQQ", "1")
    for name in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_8000_TCP_ADDR", "SEARCH_SERVICE_PORT"):
        monkeypatch.setenv(f"VLM4REC_{name}", "of a Kubernetes service")
    for _ in range(2):
        settings.cache_clear()
        assert settings().caption_budget == 7
    assert [record.getMessage() for record in caplog.records] == [
        "no such setting, so that it has no effect: VLM4REC_CAPTION_MAXCOST (the nearest is VLM4REC_CAPTION_MAX_COST),"
        " VLM4REC_QQQ"
    ]


def test_every_setting_as_a_variable_is_known(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(f"VLM4REC_{name.upper()}", "")
    settings.cache_clear()
    settings()
    assert caplog.records == []


def test_a_size_of_memory_has_a_unit() -> None:
    assert Settings.model_validate({"warehouse_memory": "8.5 GiB"}).warehouse_memory == "8.5 GiB"
    with pytest.raises(ValueError, match="write a size with its unit, such as 8GB"):
        Settings.model_validate({"warehouse_memory": "8"})


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
