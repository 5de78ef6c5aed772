"""Our analyzer and the one of an index on a server cut a text into the same terms."""

import httpx
from helpers import search_tables

from vlm4rec_search.common.analyzer import NAME, analyze
from vlm4rec_search.indexes.opensearch.mapping import ANALYSIS

ODD = [
    "The women's O'Neill caf\u00e9s\u2019 d\u00e9cor",
    "T-shirt 3.5mm 1,000;2 pcs. U.S.A. foo_bar ad:hoc don't",
    "t-shirt T SHIRTS tshirt \u2011 e\u2011reader E reader a-line 5-inch 2.5 KG, 9 pcs 3-seater 2-in-1 t-shirt-dress",
    "H&M h & m's M&S AT&T R&B&Q salt & pepper & co, \u00e9-cole \u00df-rad \u0661-inch wi-fi WI FI x-ray 10 packs",
    "C++ & C# @home #1",
    "\u4f60\u597d \u30ab\u30bf\u30ab\u30ca \u304b\u306a \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22",
    "\u03a3\u0391\u03a3 \u0130stanbul stra\u00dfe \ufb01ne na\u00efve e\u0301te\u0301",
    "x" * 600,
    "\U0001f600 sale!!! 50% off",
    "trekking hopping biology technology possibly agreed skies dying",
]


def test_the_terms_equal_those_of_the_server(opensearch_url: str, own_prefix: str) -> None:
    index = f"{opensearch_url}/{own_prefix}words"
    httpx.put(index, json={"settings": {"analysis": ANALYSIS}}, timeout=60).raise_for_status()
    titles = [*search_tables.shop()["title"], *(search_tables.luma()["title"] if search_tables.LUMA.exists() else ())]
    texts = [*ODD, " ".join(titles[:150]), " ".join(titles[-150:])]
    for text in texts:
        answer = httpx.post(f"{index}/_analyze", json={"analyzer": NAME, "text": text}, timeout=60)
        assert [token["token"] for token in answer.raise_for_status().json()["tokens"]] == analyze(text), text
