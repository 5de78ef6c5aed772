"""Functions of the staging models for texts, ids and words: clean, decode, and find what stands for nothing."""

from sqlmesh.core.macros import SQL, MacroEvaluator, macro

# What programs write in place of nothing: MySQL and Hive dumps, pandas, Excel, SQL clients, JavaScript, web analytics.
MARKERS = (
    r"\N",
    "NULL",
    "null",
    "(null)",
    "nan",
    "NaN",
    "NAN",
    "<NA>",
    "#N/A",
    "#NV",
    "#REF!",
    "#VALUE!",
    "#NAME?",
    "#DIV/0!",
    "[null]",
    "NaT",
    "undefined",
    "(not set)",
)
WORDS = ("None", "N/A", "n/a", "N.A.", "n.a.", "-", "--")  # what people write as well; an attribute may mean them
_WIDE = "".join(map(chr, range(0xFF01, 0xFF5F)))  # full-width forms of the signs from ! to ~
_NARROW = "".join(map(chr, range(0x21, 0x7F))).replace("'", "''")


@macro()
def normal_form(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return a text so that equal looks are equal: NFC, one space for any space, nothing invisible; NULL if empty.

    Full-width letters become plain ones. Letters keep their case, and numbers their leading zeros. `="00123"`, as
    shops write ids for spreadsheets, is 00123.
    """
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    quoted = f"{text} LIKE '=\"%_\"'"
    inside = f"CASE WHEN {quoted} THEN SUBSTRING({text}, 3, LENGTH({text}) - 3) ELSE {text} END"
    visible = f"NFC_NORMALIZE(REGEXP_REPLACE({inside}, '\\p{{Cf}}', '', 'g'))"
    spaced = f"TRIM(REGEXP_REPLACE(TRANSLATE({visible}, '{_WIDE}', '{_NARROW}'), '[\\s\\p{{Z}}]+', ' ', 'g'))"
    plain = f"REGEXP_FULL_MATCH({text}, '[!-~]+( [!-~]+)*') AND NOT {quoted}"  # nearly every value
    return value.sql("TEXT", f"CASE WHEN {plain} THEN {text} ELSE NULLIF({spaced}, '') END")


@macro()
def something(evaluator: MacroEvaluator, text: SQL, column: str, declared: str) -> str:
    """Return a text, or NULL if it is a word for nothing such as `NULL`, `\\N` or `nan`.

    Args:
        evaluator: of SQLMesh.
        text: an SQL expression.
        column: the column of the raw contract, or `attributes`, for which the shop may declare other words.
        declared: the variable `declared_values`.
    """
    return _something(text, column, declared)


def _something(text: SQL, column: str, declared: str) -> str:
    from vlm4rec_search.common.sql import quote_text

    words = _words_for_nothing(column, declared)
    quoted = ", ".join(map(quote_text, words))
    return f"CASE WHEN NOT {text} IN ({quoted}) THEN {text} END" if words else text


def _words_for_nothing(column: str, declared: str) -> "list[str]":
    import json

    nothing = json.loads(declared).get("nothing", {})
    usual = MARKERS if column == "attributes" else (*MARKERS, *WORDS)
    return list(nothing.get(column, nothing.get("all", usual)))


@macro()
def may_be_unclean(evaluator: MacroEvaluator, attributes: SQL, declared: str) -> str:
    """Return whether a JSON object may have a text that cleaning changes, as few have.

    Such a text has an entity, an escape, a sign beyond ASCII or a space too many, or it is empty or a word for nothing.
    """
    import json
    import re

    from vlm4rec_search.common.spark.functions import Value
    from vlm4rec_search.common.sql import quote_text

    value = Value(evaluator.gateway, evaluator.runtime_stage, (attributes, "JSON"))
    (attributes,) = value.arguments
    words = "|".join(re.escape(json.dumps(word)[1:-1]) for word in ("", *_words_for_nothing("attributes", declared)))
    pattern = f'&[#a-zA-Z0-9]+;|[^ -~]|:"\\s|\\s"|\\s\\s|\\\\[^"\\\\]|:"({words})"'
    return value.sql("BOOLEAN", f"REGEXP_MATCHES(CAST({attributes} AS TEXT), {quote_text(pattern)})")


@macro()
def attributes_text(evaluator: MacroEvaluator, attributes: SQL, declared: str) -> str:
    """Return all attributes of a JSON object in one text, by name, such as "country FR, tier gold"."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, (attributes, "JSON"))
    (attributes,) = value.arguments
    told = _something("NULLIF(TRIM(pair.value), '')", "attributes", declared)
    pairs = f"LIST_TRANSFORM(MAP_ENTRIES(CAST({attributes} AS MAP(TEXT, TEXT))), pair -> pair.key || ' ' || {told})"
    return value.sql("TEXT", f"ARRAY_TO_STRING(LIST_SORT({pairs}), ', ')")


@macro()
def without_fraction(evaluator: MacroEvaluator, number: SQL, is_float: SQL) -> str:
    """Return an id of a column of floats as the whole number that it was: 4711 for 4711.0, 4711.0000 and 1e+16."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, number, (is_float, "BOOLEAN"))
    number, is_float = value.arguments
    exact = f"TRY_CAST(REGEXP_EXTRACT({number}, '^(\\d+)\\.0+$', 1) AS HUGEINT)"
    whole = f"COALESCE({exact}, TRY_CAST(TRY_CAST({number} AS DOUBLE) AS BIGINT))"
    return value.sql("TEXT", f"CASE WHEN {is_float} THEN COALESCE(CAST({whole} AS TEXT), {number}) ELSE {number} END")


@macro()
def matches(evaluator: MacroEvaluator, text: SQL, pattern: SQL) -> str:
    """Return whether a regular expression, a literal, matches a whole text."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    return value.sql("BOOLEAN", f"REGEXP_FULL_MATCH({text}, {pattern})")


@macro()
def contains(evaluator: MacroEvaluator, text: SQL, pattern: SQL) -> str:
    """Return whether a regular expression, a literal, matches a part of a text."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    return value.sql("BOOLEAN", f"REGEXP_MATCHES({text}, {pattern})")


@macro()
def is_cut_id(evaluator: MacroEvaluator, number: SQL) -> str:
    """Return whether an id is a number as Excel shows long ones, such as 4.00638E+12: its digits are lost."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, number)
    (number,) = value.arguments
    return value.sql("BOOLEAN", f"({number} LIKE '_.%E+%' AND REGEXP_FULL_MATCH({number}, '\\d\\.\\d+E\\+\\d+'))")


@macro()
def are_floats(evaluator: MacroEvaluator, number: SQL) -> str:
    """Return an aggregate: whether ids are whole numbers that became floats, as in pandas, or decimals."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, number)
    (number,) = value.arguments
    is_float = f"SUFFIX({number}, '0') AND REGEXP_FULL_MATCH({number}, '\\d+\\.0+') OR {number} LIKE '_%e+%'"
    return f"BOOL_AND({value.sql('BOOLEAN', is_float)})"


@macro()
def plain_text(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the text in NFC, without invisible signs, trimmed and with single spaces; NULL if it is empty.

    Joiners stay, because they are part of emoji and of some scripts.
    """
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    visible = "REGEXP_REPLACE(text, '[\\x{200B}\\x{2060}\\x{FEFF}\\x{00AD}]', '', 'g')"
    narrow = f"NFC_NORMALIZE(TRANSLATE({visible}, '{_WIDE}', '{_NARROW}'))"
    plain = f"NULLIF(TRIM(REGEXP_REPLACE({narrow}, '[\\s\\p{{Z}}]+', ' ', 'g')), '')"
    is_plain = "REGEXP_FULL_MATCH(text, '[!-~]+( [!-~]+)*')"  # nearly every text
    return value.sql("TEXT", f"LIST_TRANSFORM([{text}], text -> CASE WHEN {is_plain} THEN text ELSE {plain} END)[1]")


@macro()
def html_characters(evaluator: MacroEvaluator) -> str:
    """Return a subquery of one row: `characters`, which `@decoded` reads.

    On Spark each worker has the map, so that no row carries it.
    """
    from vlm4rec_search.common.spark.functions import is_spark

    on_spark = is_spark(evaluator.gateway, evaluator.runtime_stage)
    return "(SELECT CAST(NULL AS TEXT) AS characters)" if on_spark else _html_characters()


def _html_characters() -> str:
    """Return a subquery of one row: `characters`, the map of the names of HTML 5 entities to their characters.

    The names of HTML 4 stand first, because a map is searched from its beginning. Numbers from 128 to 159 are in the
    map, because browsers read them as Windows-1252 (https://html.spec.whatwg.org, "numeric character reference").
    """
    from html import unescape
    from html.entities import html5, name2codepoint

    common = sorted(name2codepoint, key=lambda name: (name not in ("amp", "quot", "lt", "gt", "nbsp"), name))
    full = [name[:-1] for name in html5 if name.endswith(";") and name[:-1] not in name2codepoint]
    names = [*common, *full, *(f"#{code}" for code in range(128, 160)), *(f"#x{code:x}" for code in range(128, 160))]
    characters = " ".join(unescape(f"&{name};") for name in names).replace("'", "''")
    split = f"MAP(STRING_SPLIT('{' '.join(names)}', ' '), STRING_SPLIT('{characters}', ' '))"
    return f"(SELECT {split} AS characters)"


@macro()
def decoded(evaluator: MacroEvaluator, text: SQL, characters: SQL) -> str:
    """Return the text with each HTML entity replaced by its character, once; what is no entity stays.

    `characters` is the column of `@html_characters`.
    """
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    source = f"{_html_characters()} AS html" if value.is_spark else ""
    characters = "html.characters" if value.is_spark else characters
    entity = "'&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]*);'"
    code = "TRY_CAST(REPLACE(LOWER(SUBSTRING(part[2], 2)), 'x', '0x') AS BIGINT)"
    is_character = f"({code} BETWEEN 1 AND 55295 OR {code} BETWEEN 57344 AND 1114111)"
    number = f"CASE WHEN part[2] LIKE '#%' AND {is_character} THEN CHR(CAST({code} AS INT)) END"
    character = f"COALESCE({characters}[part[2]], {number}, '&' || part[2] || ';', '')"
    parts = f"LIST_ZIP(STRING_SPLIT_REGEX({text}, {entity}), REGEXP_EXTRACT_ALL({text}, {entity}, 1))"
    joined = f"ARRAY_TO_STRING(LIST_TRANSFORM({parts}, part -> part[1] || {character}), '')"
    return value.sql("TEXT", f"CASE WHEN {text} LIKE '%&%;%' THEN {joined} ELSE {text} END", source)


@macro()
def is_broken_text(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return whether a text was read in a wrong encoding, such as `CafÃ©` or `itâ€™s`."""
    from vlm4rec_search.common.patterns import BROKEN_TEXT
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    return value.sql("BOOLEAN", f"REGEXP_MATCHES({text}, '{BROKEN_TEXT}')")


@macro()
def mended(evaluator: MacroEvaluator, text: SQL, declared: str) -> str:
    """Return a text that was UTF-8 and was read as Windows-1252 as it was before, if the shop declares `mend_texts`.

    Only texts with signs of this damage are changed, and in them only what is UTF-8: accented Latin letters, quotation
    marks, dashes and some signs.
    """
    import json

    from vlm4rec_search.common.patterns import MENDABLE
    from vlm4rec_search.common.spark.functions import Value

    if not json.loads(declared).get("mend_texts"):
        return text
    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    right = [chr(code) for code in (*range(0xA0, 0x180), *range(0x2010, 0x2045), 0x20AC, 0x2122)]
    broken = ["".join(_as_windows(byte) for byte in letter.encode()) for letter in right]
    split = "STRING_SPLIT('{}', chr(10))"
    names, letters = (split.format("\n".join(texts).replace("'", "''")) for texts in (broken, right))
    rest = "".join(_as_windows(byte) for byte in range(0x80, 0xC0)).replace("-", "\\-")
    sequence = f"([\u00c2-\u00c5][{rest}]|\u00e2[{rest}][{rest}])"
    letter = f"COALESCE(MAP({names}, {letters})[part[2]], part[2], '')"
    parts = f"LIST_ZIP(STRING_SPLIT_REGEX({text}, '{sequence}'), REGEXP_EXTRACT_ALL({text}, '{sequence}', 1))"
    joined = f"ARRAY_TO_STRING(LIST_TRANSFORM({parts}, part -> part[1] || {letter}), '')"
    return value.sql("TEXT", f"CASE WHEN REGEXP_MATCHES({text}, '{MENDABLE}') THEN {joined} ELSE {text} END")


def _as_windows(byte: int) -> str:
    """Return the sign of a byte in Windows-1252, or in Latin-1 where that has none."""
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


@macro()
def without_tags(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the text without HTML tags, and without the content of script and style elements."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    scripts = f"REGEXP_REPLACE({text}, '<(script|style)[^>]*>.*?</(script|style)>', ' ', 'gis')"
    return value.sql("TEXT", f"REGEXP_REPLACE({scripts}, '</?[a-z!][^>]*>', ' ', 'gi')")


@macro()
def declared(evaluator: MacroEvaluator, key: str, declared: str) -> str:
    """Return what the shop declares under a key as an SQL text; NULL if nothing."""
    import json

    from vlm4rec_search.common.sql import quote_text

    value = json.loads(declared).get(key)
    return "NULL" if value is None else quote_text(str(value))
