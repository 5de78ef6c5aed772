"""contract.yaml beside the data: what is declared is read, and a mistake is one line that helps."""

from pathlib import Path

import pytest

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.declarations import Declarations, load_declarations, variable


def test_a_folder_without_the_file_declares_nothing(tmp_path: Path) -> None:
    assert load_declarations(tmp_path) == Declarations()
    (tmp_path / "contract.yaml").write_text("# nothing yet\n")
    assert load_declarations(tmp_path) == Declarations()
    assert variable(Declarations().values) == "{}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("value: {}", "unknown key value: did you mean values?"),
        ("colours: {}", "unknown key colours: known are "),
        ("- values", "the declarations"),
        ("values: [", "is not YAML"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "contract.yaml").write_text(content)
    with pytest.raises(UsageError) as caught:
        load_declarations(tmp_path)
    assert message in str(caught.value)
    assert "contract.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
