"""The split and the vectors that the paper's data set brings along are those of its evaluation."""

from pathlib import Path

import numpy as np
import pytest
from helpers.workspace import Workspace

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.evaluation.protocol import given_cuts
from vlm4rec_search.search.ranking import load_ranking

USERS, ITEMS = 40, 30


def write(folder: Path, users: int = USERS) -> None:
    """Write a folder split 70/10/20: shopper u took items u to u + 9 (of 30), in that order."""
    folder.mkdir()
    (folder / "users.txt").write_text(",0\n" + "".join(f"A{user},{user}\n" for user in range(users)))
    (folder / "items.txt").write_text(",item_id\n" + "".join(f"B{item:02d},{item}\n" for item in range(ITEMS)))
    for name, steps in {"train": range(7), "validation": [7], "test": [8, 9]}.items():
        pairs = [(user, (user + step) % ITEMS) for user in range(users) for step in steps]
        (folder / f"{name}.txt").write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in pairs))
    turns = 2 * np.pi * np.arange(ITEMS) / ITEMS  # items near each other are alike in photos, and in texts at random
    np.save(folder / "embed_image.npy", 3 * np.stack([np.cos(turns), np.sin(turns)], axis=1))
    np.save(folder / "embed_text.npy", np.random.default_rng(2).standard_normal((ITEMS, 3)))


def test_given_splits_and_vectors_are_respected(workspace: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "Shoes-clip_clip")
    workspace.vlm4rec("import", "kaggle", str(tmp_path / "Shoes-clip_clip"), "--to", "data")
    workspace.plan()
    found = workspace.json("evaluate", "--candidates", "all", "--systems", "vision-only,title-only,popularity,random")
    assert found["protocol"]["given_split"]
    assert found["protocol"]["as_of"][:10] == "2000-01-02"  # the day of validation: the test part is what came after
    assert found["protocol"]["users"] == USERS
    on_all = [row for row in found["rows"] if row["on"] == "all candidates"]
    values = {row["system"]: row["value"] for row in on_all if row["metric"] == "R@5"}
    # the mean of u to u + 7 points between them; of what is new, u + 8 and u - 1 are nearest, then u + 9 and u - 2
    assert values["vision-only"] == 1.0
    assert values["title-only"] < 0.6


@pytest.mark.usefixtures("in_process")
def test_a_choice_knows_nothing_after_the_moment_of_the_tables(workspace: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "Shoes-clip_clip", 120)
    workspace.vlm4rec("import", "kaggle", str(tmp_path / "Shoes-clip_clip"), "--to", "data")
    workspace.choose_ranking()
    workspace.settings["VLM4REC_AS_OF"] = "2000-01-01"  # the day of training
    workspace.plan()
    why = (
        "the tables end at 2000-01-01 00:00:00, before the window of the data set's own split (2000-01-02 00:00:00):"
        " run `sqlmesh plan` without VLM4REC_AS_OF, or with a later one"
    )
    assert why in " ".join(workspace.run("vlm4rec", "index", told=True).split())
    assert workspace.json("search", "--user", "A3")["ranking"] == load_ranking().version, "none that was chosen"
    assert why in " ".join(workspace.vlm4rec("tune", "--no-tables", code=1).split())
    workspace.settings["VLM4REC_AS_OF"] = "2000-01-02"  # of validation, which is the window
    workspace.plan()
    workspace.vlm4rec("index")
    assert workspace.json("search", "--user", "A3")["ranking"] == "shop-2000-01-02"


def test_a_broken_note_is_told_in_one_line(tmp_path: Path) -> None:
    assert given_cuts(tmp_path) is None
    for text in ("{", "[]", '{"splits": {"train": "yesterday"}}'):
        (tmp_path / "GIVEN.json").write_text(text)
        with pytest.raises(UsageError, match="import it again"):
            given_cuts(tmp_path)
