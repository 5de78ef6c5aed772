"""Tables of commands fit the terminal."""

import pytest

from vlm4rec_search.cli.output import print_rows

NAMES = ("release", "found_at", "share_of_all")
ROWS = [("items__v8__all-minilm-l6-v2__20261129t010649150", "2026-11-29 01:06:49", 0.25), ("short", "2026-11-30", None)]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (100, "items__v8__all-minilm-l6-v2__20261129t010649150   2026-11-29 01:06:49           0.25"),
        (60, "items__v8__all-minilm-l6-v2__202   2026-11-29        0.25"),  # folded
        (30, "share_of_all  0.25"),  # below each other
    ],
)
def test_a_table_is_folded_before_its_rows_stand_below_each_other(
    width: int, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_rows(NAMES, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert width == 30 or max(map(len, lines)) <= width
    assert expected in "\n".join(lines)
