"""Our analyzers and those of an index on a server cut a text into the same terms, in every language."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
from helpers import search_tables, six_items
from helpers.backends import Backend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm4rec_search import Query
from vlm4rec_search.common.analyzer import Analyzer, load_analyzer
from vlm4rec_search.common.languages import LANGUAGES
from vlm4rec_search.indexes.opensearch.mapping import analysis

ODD = [
    "The women's O'Neill caf\u00e9s\u2019 d\u00e9cor",
    "T-shirt 3.5mm 1,000;2 pcs. U.S.A. foo_bar ad:hoc don't",
    "t-shirt T SHIRTS tshirt \u2011 e\u2011reader E reader a-line 5-inch 2.5 KG, 9 pcs 3-seater 2-in-1 t-shirt-dress",
    "H&M h & m's M&S AT&T R&B&Q salt & pepper & co, \u00e9-cole \u00df-rad \u0661-inch wi-fi WI FI x-ray 10 packs",
    "C++ & C# @home #1 \u00b8 a\u00b8b",
    "\u4f60\u597d \u30ab\u30bf\u30ab\u30ca \u304b\u306a \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22",
    "\u03a3\u0391\u03a3 \u0130stanbul stra\u00dfe \ufb01ne na\u00efve e\u0301te\u0301 A\u030angstr\u00f6m man\u0303ana",
    "x" * 600,
    "\U0001f600 sale!!! 50% off",
    "trekking hopping biology technology anthologie possibly agreed skies dying",
]
# Words of shops by their stems: each stem with each ending gives a vocabulary that meets every rule of a stemmer.
ENDINGS = {
    "english": "|s|es|ed|ing|er|ers|ly|ness|ation|ational|fulness|ization|'s|y|ies|able|ement|ous|ive",
    "german": "|e|en|em|er|ern|es|s|st|est|ste|sten|in|innen|ung|ungen|heit|lich|bar|igkeit|ens|els|ts",
    "french": "|s|x|e|es|aux|eaux|euse|euses|teur|teuse|trice|ateur|atrice|cateur|catrice|ficateur|ficatrice|issement"
    "|issant|ement|ivement|ive|if|ière|ières|ier|ème|ète|ique|esse|inage|isation|ualisation|ation|ition|nnelle|nnel|ie|ée",
    "spanish": "|o|a|e|os|as|es|eses|ces|ción|ciones|idad|idades|mente|ito|ita|illos|ísimo|able|ador|adora|ería|ñas",
    "italian": "|o|a|e|i|à|zione|zioni|ità|mente|issimo|issima|atore|atrice|ato|ata|ando|endo|ino|ina|oso|osa|abile",
    "dutch": "|e|en|s|'s|heid|heden|ing|ingen|lijk|lijke|baar|end|ig|je|jes|tje|tjes|aar|eren|ën|ïn",
    "portuguese": "|o|a|s|os|as|ão|ões|ães|al|ais|éis|óis|uis|mente|idade|ção|ções|inho|inha|íssimo|ável|ador|adora|ês",
    "swedish": "|a|ar|arna|arne|are|aren|aste|en|er|erna|et|or|orna|else|elser|het|heten|ande|at|ast|te|s|t|n|na",
    "plain": "|é|ş|ğ|ő|ů|ń|ž|ώ|ά|й|ё|ў",
    "cjk": "|ー|の|\uff9e|\uff9f",
}
STEMS = {
    "english": "bag dress shoe fit women strap hop trek possib techno relat gener colour knit box child",
    "german": "kleid Schuh Jacke größ Übergröß Straße Müsli Muesli Handschuh Fahrradhelm grün Blau Quelle neu Löffel"
    " Kühlschrank Steuer Bauer Ärmel weiß Ägäis Poesie Frauen Damenbekleidung",
    "french": "robe chauss l'été d'hiver bijou cheval gât légèr élégant aujourd'hui qu'une jusqu'au manteau œuvre noël"
    " chic lav fabric publi indust actuel nouv pantal coeur ll bleu première",
    "spanish": "vestid zapat niñ año camiset luz pantal azul mujer corazón pingüin chaquet bols inglés",
    "italian": "vestit scarp l'estat dell'anno giacc borsett caffè perché ragazz blu c'è quest'ann maglion un'altr",
    "dutch": "jas schoen broek foto auto café één hemd kleding groot zeeën geel fiets Curaçao",
    "portuguese": "vestid sapat cal bot cora limã azul casu lenç mulher pã avó camiset móv",
    "swedish": "klänning skor tröj jack byxor grön blå barn hand värld flick arbet kläd smörgås idé café",
    "plain": "naïve straße Ηλεκτρικά Куртка зелёный dzień Łódź İstanbul ırmak tiếng",  # noqa: RUF001
    "cjk": "日本語 テスト ﾃｽﾄ カバン 東京 한국어 韓国a １２３ Ｔシャツ 茶 ｶﾞﾗｽ 靴 2色",  # noqa: RUF001
}
WORDS = {
    "french": "vingt-et-un l\u2019eau D'Artagnan",
    "cjk": "東京 タワー、赤い靴。茶 T-shirt & 5 cm",
    "dutch": "foto\u2019s",
}


@contextmanager
def on_server(url: str, prefix: str, analyzer: Analyzer) -> Iterator[Callable[[str], list[str]]]:
    index = f"{url}/{prefix}{analyzer.language.name}"
    httpx.put(index, json={"settings": {"analysis": analysis(analyzer)}}, timeout=60).raise_for_status()
    with httpx.Client(timeout=60) as client:

        def terms(text: str) -> list[str]:
            answer = client.post(f"{index}/_analyze", json={"analyzer": analyzer.name, "text": text})
            return [token["token"] for token in answer.raise_for_status().json()["tokens"]]

        yield terms


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_terms_equal_those_of_the_server(opensearch_url: str, own_prefix: str, language: str) -> None:
    analyzer = load_analyzer(language)
    stems, endings = STEMS[language].split(), ENDINGS[language].split("|")
    vocabulary = [stem + ending for stem in stems for ending in endings]
    vocabulary += [stem.upper() + ending.upper() for stem in stems for ending in endings[:8]]
    titles = [*search_tables.shop()["title"], *(search_tables.luma()["title"] if search_tables.LUMA.exists() else ())]
    stop_words = sorted(LANGUAGES[language].stop_words.split())
    alone = [" ".join(stop_words), "; ".join(stop_words[:3]) + "!", " ".join(stop_words[:2]).upper(), *stop_words[:5]]
    texts = [*ODD, *alone, ", ".join(stop_words) + " 1", " ".join(vocabulary), WORDS.get(language, ""), *titles[:20]]
    with on_server(opensearch_url, own_prefix, analyzer) as terms:
        for text in [*texts, " ".join(titles[-200:])]:
            assert terms(text) == analyzer.analyze(text), text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(
        st.characters(min_codepoint=0x20, max_codepoint=0x24F)
        | st.characters(min_codepoint=0x300, max_codepoint=0x36F)
        | st.sampled_from("ueaoUEAOqyß'\u2019-.,! \u3042\u30a2\u4e00\uac00\uff71\uff9e\uff41"),
        max_size=60,
    )
)
def test_any_text_gives_the_terms_of_the_server(server_terms: dict[str, Callable[[str], list[str]]], text: str) -> None:
    for language, terms in server_terms.items():
        assert terms(text) == load_analyzer(language).analyze(text), language


@pytest.fixture
def server_terms(opensearch_url: str, own_prefix: str) -> Iterator[dict[str, Callable[[str], list[str]]]]:
    """The analyzers of three languages that differ most in their steps."""
    one, two, three = (load_analyzer(language) for language in ("german", "swedish", "cjk"))
    with (
        on_server(opensearch_url, own_prefix, one) as german,
        on_server(opensearch_url, own_prefix, two) as swedish,
        on_server(opensearch_url, own_prefix, three) as cjk,
    ):
        yield {"german": german, "swedish": swedish, "cjk": cjk}


GERMAN = {
    "a": ("Gelbe Kleider", "Für den Sommer"),
    "b": ("Müsli mit Äpfeln", None),
    "c": ("Handschuhe", "Größe 8"),
    "d": ("Die", None),
    "e": ("Schwarze Straßenschuhe", None),
    "f": ("Das ist es", None),
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("kleid", ["a"]),
        ("gelbes Kleid", ["a"]),
        ("muesli", ["b"]),
        ("MÜSLI", ["b"]),
        ("apfeln", ["b"]),
        ("GROESSE", ["c"]),
        ("handschuh", ["c"]),
        ("strassenschuh", ["e"]),
        ("die", ["d"]),  # a text of stop words alone finds the titles that are such texts
        ("das ist es!", ["f"]),
        ("für", []),
    ],
)
def test_a_release_is_searched_in_its_own_language(german: Backend, text: str, found: list[str]) -> None:
    with german.open() as index:
        answer = index.search(Query(text=text, mode="lexical"))
    assert index.release.analyzer == "vlm4rec_german@1"
    assert [hit.item_id for hit in answer.hits] == found


@pytest.fixture(scope="module")
def german(backend: Backend) -> Backend:
    frame = six_items.documents()
    frame["title"] = [GERMAN[item][0] for item in frame["item_id"]]
    frame["description"] = [GERMAN[item][1] for item in frame["item_id"]]
    backend.publish(six_items.given(frame), replace(six_items.meta(), analyzer=load_analyzer("german").id))
    return backend
