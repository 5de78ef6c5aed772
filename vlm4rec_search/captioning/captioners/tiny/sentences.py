"""The sentences that the small model learns to write about a look, and the parser that reads them."""

import re

from vlm4rec_search.datasets.demo_shop.looks import COLOURS, MATERIALS_OF, STYLES, USES, Look

_NOUNS = {"trousers": "pair of trousers"}
_FURNISHING = ("cushion", "mug", "vase", "lamp", "chair")
_BAGS = ("tote", "backpack")
_PATTERNS = {
    "plain": "plain all over",
    "striped": "with {} stripes",
    "checked": "with {} checks",
    "dotted": "with {} dots",
    "floral": "with a {} floral print",
}
_TRIMS = {
    "minimal": "simple and clean",
    "romantic": "trimmed with lace and a bow",
    "sporty": "crossed by racing bands",
    "vintage": "decorated with old buttons",
}
_USES = {"office": "the office", "outdoor": "the outdoors", "party": "parties"}
_WORN = "A {style} {noun} in {colour} {material}, {pattern}, {trim}; made for {use}."
_CARRIED = "This {colour} {material} {noun} looks {style}, {trim}, {pattern}, and suits {use}."
_PLACED = "For {use}: a {style} {noun} of {colour} {material}, {pattern}, {trim}."


def describe(look: Look) -> str:
    """Return the sentence for a look, which names every attribute of `visible_attributes`.

    The product determines the template. With random templates, greedy decoding would only ever use the likeliest one.
    """
    template = _PLACED if look.shape in _FURNISHING else _CARRIED if look.shape in _BAGS else _WORN
    return template.format(
        style=look.style,
        noun=_NOUNS.get(look.shape, look.shape),
        colour=look.colour,
        material=look.material,
        pattern=_PATTERNS[look.pattern].format(look.second_colour),
        trim=_TRIMS[look.style],
        use=_USES[look.use],
    )


def visible_attributes(look: Look) -> dict[str, str]:
    """Return the attributes of a look that its photo shows; the second colour is "" without a pattern to show it."""
    second = "" if look.pattern == "plain" else look.second_colour
    return {
        "category": look.shape,
        "style": look.style,
        "material": look.material,
        "use": look.use,
        "colour": look.colour,
        "second colour": second,
        "pattern": look.pattern,
    }


def read_attributes(caption: str) -> dict[str, str]:
    """Return the attributes that a caption names, with the keys of `visible_attributes`; "" for a missing one."""
    colours = [*_COLOUR.findall(caption), "", ""]
    return {
        "category": _find_first(dict(zip(MATERIALS_OF, MATERIALS_OF, strict=True)), caption),
        "style": _find_first(dict(zip(STYLES, STYLES, strict=True)), caption),
        "material": _find_first({name: name for names in MATERIALS_OF.values() for name in names}, caption),
        "use": _find_first(_USES, caption),
        "colour": colours[0],
        "second colour": colours[1],
        "pattern": _find_first({name: phrase.split()[-1] for name, phrase in _PATTERNS.items()} | _PLAIN, caption),
    }


# Longest names first, so that "light blue" is not read as "blue".
_COLOUR = re.compile(rf"\b({'|'.join(sorted(COLOURS, key=len, reverse=True))})\b")
_PLAIN = {"plain": "plain"}


def _find_first(words: dict[str, str], caption: str) -> str:
    return next((name for name, word in words.items() if re.search(rf"\b{word}\b", caption)), "")


def vocabulary() -> list[str]:
    """Return every word and punctuation mark of the sentences, in a fixed order."""
    phrases = [_WORN, _CARRIED, _PLACED, *_PATTERNS.values(), *_TRIMS.values(), *_USES.values(), *_NOUNS.values()]
    names = [*MATERIALS_OF, *STYLES, *USES, *COLOURS, *(name for names in MATERIALS_OF.values() for name in names)]
    text = re.sub(r"\{\w*\}", " ", " ".join([*phrases, *names]))
    return sorted(set(re.findall(r"\w+|[^\w\s]", text)))
