"""Guesses the language of a catalogue from its function words, and tells when the words are made for another one."""

from collections import Counter
from collections.abc import Iterable

import duckdb

from vlm4rec_search.common.analyzer import Analyzer, is_cjk, load_analyzer
from vlm4rec_search.common.languages import FUNCTION_WORDS, LANGUAGES
from vlm4rec_search.indexes.search_layer import Frame, SearchTables

_SAMPLE = 2_000  # documents
_FEWEST = 30  # function words, below which nothing is said
_SHARE = 0.05  # of the words; in running text a third are function words, in titles far fewer
_TIMES = 2.0  # how much more frequent than those of the language in use
_TEXTS = """
SELECT concat_ws(' ', title, description) FROM documents ORDER BY hash(item_id) LIMIT $sample
"""


def guess_language(texts: Iterable[str]) -> tuple[str | None, dict[str, float]]:
    """Return the language whose function words are most frequent in some texts, and the share of each language's.

    Words of one letter do not count: they are sizes. The language is None where function words are too rare to tell.
    For `cjk` the share is that of Chinese, Japanese and Korean characters among all tokens.
    """
    cut = load_analyzer("plain")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(cut.words(text))
    total = max(counts.total(), 1)
    found: dict[str, int] = {}
    for name in LANGUAGES:
        words = {word for each in FUNCTION_WORDS[name] for word in cut.words(each) if len(word) > 1}
        found[name] = sum(counts[word] for word in words)
    found["cjk"] = sum(count for word, count in counts.items() if not word.isascii() and is_cjk(word))
    shares = {name: count / total for name, count in found.items()}
    best = max(found, key=lambda name: found[name])
    return (best if found[best] >= _FEWEST and shares[best] >= _SHARE else None), shares


def find_other_language(tables: SearchTables[Frame], analyzer: Analyzer) -> str | None:
    """Return a line where the catalogue seems to be of another language than the analyzer that made its words.

    The analyzer `plain` fits every language but Chinese, Japanese and Korean.
    """
    with duckdb.connect() as connection:
        connection.register("documents", tables.documents)
        texts = [text for (text,) in connection.execute(_TEXTS, {"sample": _SAMPLE}).fetchall()]
    guessed, shares = guess_language(texts)
    used = analyzer.language.name
    if used == "plain" and guessed != "cjk":
        return None
    if guessed is None or guessed == used or shares[guessed] < _TIMES * shares[used]:
        return None
    what = "characters" if guessed == "cjk" else "function words"
    return (
        f"titles and descriptions look {guessed} ({shares[guessed]:.0%} of the words are its {what}), but their words"
        f" are made for {used}: set VLM4REC_LANGUAGE={guessed}, then run sqlmesh plan and vlm4rec index"
    )
