"""Settings from the environment, and messages for values that cannot be parsed."""

from datetime import datetime

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
    settings.cache_clear()


def test_a_size_of_memory_has_a_unit() -> None:
    assert Settings.model_validate({"warehouse_memory": "8.5 GiB"}).warehouse_memory == "8.5 GiB"
    with pytest.raises(ValueError, match="write a size with its unit, such as 8GB"):
        Settings.model_validate({"warehouse_memory": "8"})


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
