"""The pause that a busy server asks for, and the loader that keeps it."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from unittest.mock import Mock

import pytest

from vlm4rec_search.common.retry_after import retry_after
from vlm4rec_search.indexes.opensearch.bulk import post

TOMORROW = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", None),
        ("-1", None),
        ("nan", None),
        ("Thu, 01 Jan 2026 00:00:00 GMT", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_number_and_a_date_are_read(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_the_loader_reads_a_date_too() -> None:
    client = Mock()
    client.transport.get_connection.return_value.perform_request.return_value = (429, {"retry-after": TOMORROW}, "{}")
    assert 80_000 < post(client, "index", []).pause <= 86_400
