"""A drawn picture shows at the beginning of a run whether the served model sees photos."""

from pathlib import Path

import pytest
from helpers.caption_server import CaptionServer, answer, serving
from helpers.colour_catalogue import write_catalogue
from PIL import Image

from vlm4rec_search.captioning.captioners.openai.captioner import sendable
from vlm4rec_search.captioning.run import run_captions
from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings


def shop(folder: Path, server: CaptionServer, **options: object) -> Settings:
    """Return the settings of a shop with three photos and a served captioner."""
    settings = write_catalogue(folder, *[(f"item {number}", (number, 0, 0), 0) for number in range(3)])
    return settings.model_copy(update={"captioner": "openai:llava", "openai_url": server.url, **options})


def test_one_question_is_asked_in_each_run_that_captions_and_the_ledger_counts_it(tmp_path: Path) -> None:
    with serving(lambda title, earlier: answer(f"A red {title}.")) as server:
        options = shop(tmp_path, server)
        assert run_captions(options).statuses == {"ok": 3}
        assert run_captions(options).computed == 0
    assert len(server.canaries) == 1
    assert len(server.calls) == 3
    with Cache(options.cache) as cache:
        row = next(row for row in cache.ledger() if row.kind == "caption" and row.computed)
    assert (row.computed, row.tokens_in, row.tokens_out) == (3, 4 * 30, 4 * 7)


@pytest.mark.parametrize("says", ["I do not see an image.", "A red mug.", "red, green, blue, yellow, black"])
def test_a_blind_model_is_told_and_may_end_the_run_before_a_photo_is_paid_for(
    tmp_path: Path, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(lambda title, earlier: answer("A red bag.")) as server:
        server.blind = says
        options = shop(tmp_path, server, caption_canary="stop")
        with pytest.raises(RunError, match="llava does not see photos: asked for the two colours of a picture"):
            run_captions(options)
        assert not server.calls
        assert len(server.canaries) == 2, "once for all threads"
        with Cache(options.cache) as cache:
            row = cache.ledger()[-1]
        assert (row.finished, row.computed, row.tokens_in, row.tokens_out) == (False, 0, 2 * 30, 2 * 7)
        assert run_captions(options.model_copy(update={"caption_canary": "warn"})).statuses == {"ok": 3}
    assert [record.message for record in caplog.records if "llava does not see photos" in record.message]


def test_a_model_that_answers_nothing_is_not_called_blind(tmp_path: Path) -> None:
    with serving(lambda title, earlier: answer("A red bag.")) as server:
        server.blind = ""
        assert run_captions(shop(tmp_path, server)).statuses == {"ok": 3}


@pytest.mark.parametrize(
    ("size", "sent"),
    [((96, 64), (96, 64)), ((16, 24), (56, 84)), ((1, 1), (56, 56)), ((1000, 1), (1120, 56)), ((2, 1024), (56, 1103))],
)
def test_photos_have_the_size_that_models_accept(size: tuple[int, int], sent: tuple[int, int]) -> None:
    photo = sendable(Image.new("RGB", size, "red"))
    assert photo.size == sent
    colours = [colour for _, colour in photo.getcolors(photo.width * photo.height) or []]
    assert all(colour[0] == 255 for colour in colours), "red, or white beside it"
