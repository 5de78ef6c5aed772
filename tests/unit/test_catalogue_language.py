"""The language of a catalogue is told by its function words."""

import pytest
from helpers import six_items

from vlm4rec_search.common.analyzer import load_analyzer
from vlm4rec_search.pipeline.catalogue_language import find_other_language, guess_language

TEXTS = {
    "english": "A dress of silk for the summer, with a belt and pockets on the sides",
    "german": "Ein Kleid aus Seide für den Sommer, mit einem Gürtel und Taschen an der Seite",
    "french": "Une robe en soie pour l'été, avec une ceinture et des poches sur le côté",
    "spanish": "Un vestido de seda para el verano, con un cinturón y bolsillos en los lados",
    "italian": "Un vestito di seta per l'estate, con una cintura e le tasche sui lati della gonna",
    "dutch": "Een jurk van zijde voor de zomer, met een riem en zakken aan de zijkant van het model",
    "portuguese": "Um vestido de seda para o verão, com um cinto e bolsos nos lados da saia",
    "swedish": "En klänning av siden för sommaren, med ett skärp och fickor på sidan som är djupa",
    "cjk": "夏のシルクのワンピース、ベルトとポケット付き",
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_texts_is_guessed(language: str) -> None:
    assert guess_language([TEXTS[language]] * 20)[0] == language


@pytest.mark.parametrize("text", ["", "Alder 42 cm XL", "Kleid Jacke Mantel S M L"])
def test_without_function_words_nothing_is_guessed(text: str) -> None:
    assert guess_language([text] * 20)[0] is None


def test_another_language_is_told_and_the_right_one_and_plain_are_not() -> None:
    frame = six_items.documents().assign(title="Kleider", description=TEXTS["german"])
    line = find_other_language(six_items.given(frame), load_analyzer("english"))
    assert line is not None
    assert "look german (56% of the words are its function words)" in line
    assert "VLM4REC_LANGUAGE=german" in line
    for fits in ("german", "plain"):
        assert find_other_language(six_items.given(frame), load_analyzer(fits)) is None
