"""Functions of the models for numbers and switches as shops write them, and for sums."""

from sqlmesh.core.macros import SQL, MacroEvaluator, macro

_CODES = (
    "USD|EUR|GBP|JPY|CHF|CAD|AUD|NZD|SEK|NOK|DKK|ISK|PLN|CZK|HUF|RON|BGN|TRY|RUB|UAH|INR|CNY|HKD|SGD|KRW|TWD|THB|IDR"
    "|MYR|PHP|VND|BRL|MXN|ARS|CLP|COP|ZAR|ILS|AED|SAR"
)
_CURRENCY = f"(?:[A-Z]{{0,3}}\\s?\\p{{Sc}}|{_CODES}|Euros?|Kč|kr\\.?|zł|Rs\\.?|Ft|Fr\\.?|lei|руб\\.?)"  # noqa: RUF001
_FROM = "(?:from|starting at|ab|à partir de|dès|a partir de|desde|a partire da|da|vanaf|från|fra|od|от)"
# sign, number with its separators, sign behind it as SAP writes it; "24,-" and "24:-" are whole amounts
_AMOUNT = (
    f"(?i)^(?:{_FROM}\\s+)?([+-]?)\\s?(?:{_CURRENCY})?\\s?([+-]?)\\s?"
    "(\\d(?:[\\d.,'\\x{2019} ]*\\d)?|[.,]\\d+)(?:[.,]?[-\\x{2013}\\x{2014}]{2}|[.,]-|[.,]?[\\x{2013}\\x{2014}]|:-)?(-?)"
    f"\\s?(?:{_CURRENCY})?\\s?\\*?$"
).replace("'", "''")
_PLAIN = "[+-]?(\\d+|\\d*\\.(\\d{1,2}|\\d{4,})|0\\.\\d+|\\d{4,}\\.\\d+)([eE][+-]?\\d+)?"
_AMBIGUOUS = "[1-9]\\d{0,2}[.,]\\d{3}"
IN_STOCK = (
    *("true", "t", "yes", "y", "on", "in stock", "instock", "available", "preorder", "pre order", "backorder"),
    *("back order", "available for order", "limited availability", "limited stock", "low stock", "online only"),
    *("onlineonly", "in store only", "instoreonly", "limitedavailability", "active", "ja", "oui", "si", "sí", "sim"),
    *("lieferbar", "verfügbar", "auf lager", "en stock", "disponible", "disponibile", "disponível", "op voorraad"),
    *("i lager", "en existencia"),
)
OUT_OF_STOCK = (
    *("false", "f", "no", "n", "off", "out of stock", "outofstock", "sold out", "soldout", "unavailable"),
    *("not available", "discontinued", "inactive", "nein", "non", "não", "nicht lieferbar", "nicht verfügbar"),
    *("ausverkauft", "épuisé", "rupture de stock", "indisponible", "agotado", "sin existencias", "esaurito"),
    *("non disponibile", "esgotado", "uitverkocht", "niet op voorraad", "slut i lager", "slutsåld"),
)


@macro()
def parse_number(evaluator: MacroEvaluator, text: SQL, decimal: SQL) -> str:
    """Return a number as a shop writes it ("1.299,00 €", "from 9.99", "USD 1,299.00", "2-") as DOUBLE, or NULL.

    "1,299" and "1.299" have two meanings: they are read only if `decimal`, the decimal sign of the column (`.` or `,`),
    is not NULL.
    """
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text, decimal)
    text, decimal = value.arguments
    parts = f"REGEXP_EXTRACT({text}, '{_AMOUNT}', ['before', 'sign', 'digits', 'behind'])"
    digits = "TRIM(amount.digits)"
    # Spaces and apostrophes separate thousands, or this is no number.
    grouped = f"REGEXP_FULL_MATCH({digits}, '\\d{{1,3}}([ ''\\x{{2019}}]\\d{{3}})+([.,]\\d+)?')"
    joined = f"CASE WHEN {grouped} THEN REGEXP_REPLACE({digits}, '[ ''\\x{{2019}}]', '', 'g') ELSE {digits} END"
    without_comma, without_dot = "REPLACE(digits, ',', '')", "REPLACE(digits, '.', '')"
    with_dot = "REPLACE(digits, ',', '.')"
    plain = f"""CASE
      WHEN REGEXP_FULL_MATCH(digits, '\\d+') THEN digits
      WHEN REGEXP_FULL_MATCH(digits, '{_AMBIGUOUS}')
        THEN CASE {decimal} WHEN '.' THEN {without_comma} WHEN ',' THEN REPLACE({without_dot}, ',', '.') END
      WHEN REGEXP_FULL_MATCH(digits, '\\d*[.,]\\d+') THEN {with_dot}
      WHEN REGEXP_FULL_MATCH(digits, '\\d{{1,3}}(,\\d{{2,3}})*,\\d{{3}}(\\.\\d+)?') THEN {without_comma}
      WHEN REGEXP_FULL_MATCH(digits, '\\d{{1,3}}(\\.\\d{{3}})+(,\\d+)?') THEN REPLACE({without_dot}, ',', '.')
    END"""
    number = f"LIST_TRANSFORM([{joined}], digits -> TRY_CAST({plain} AS DOUBLE))[1]"
    signs = "amount.before || amount.sign || amount.behind"
    signed = f"CASE {signs} WHEN '-' THEN -1 WHEN '' THEN 1 WHEN '+' THEN 1 END * {number}"
    return value.sql(
        "DOUBLE",
        f"""CASE
      WHEN REGEXP_FULL_MATCH({text}, '{_PLAIN}') THEN TRY_CAST({text} AS DOUBLE)
      ELSE LIST_TRANSFORM([{parts}], amount -> {signed})[1]
    END""",
    )


@macro()
def is_ambiguous_number(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return whether a text is a number such as "1,299", whose sign separates thousands or decimals."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    return value.sql("BOOLEAN", f"REGEXP_FULL_MATCH(REGEXP_EXTRACT({text}, '{_AMOUNT}', 3), '{_AMBIGUOUS}')")


@macro()
def decimal_sign(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the decimal sign that the number must have, `.` or `,`; NULL if it may be either, or has none.

    The last of two signs separates decimals. A sign that occurs twice separates thousands, and so does none that has
    not three digits behind it.
    """
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    last = f"NULLIF(REGEXP_EXTRACT({text}, '([.,])\\d+\\D*$', 1), '')"
    return value.sql(
        "TEXT",
        f"""CASE
      WHEN NOT REGEXP_MATCHES({text}, '[.,]\\d') THEN NULL
      WHEN REGEXP_MATCHES({text}, '\\.\\d+,\\d|,\\d+\\.\\d') THEN {last}
      WHEN REGEXP_MATCHES({text}, '\\.\\d{{3}}\\.\\d{{3}}') THEN ','
      WHEN REGEXP_MATCHES({text}, ',\\d{{2,3}},\\d{{3}}') THEN '.'
      WHEN REGEXP_MATCHES({text}, '(^|\\D)[1-9]\\d{{0,2}}[.,]\\d{{3}}\\D*$') THEN NULL
      ELSE {last}
    END""",
    )


@macro()
def the_only(evaluator: MacroEvaluator, value: SQL) -> str:
    """Return an aggregate: the value of all rows that have one; NULL if two rows differ."""
    return f"CASE WHEN MIN({value}) = MAX({value}) THEN MIN({value}) END"


@macro()
def parse_available(evaluator: MacroEvaluator, text: SQL, declared: str) -> str:
    """Return whether an item can be bought: from words such as in_stock, or from the number in stock; else NULL.

    What can be ordered ahead is available. Words that the shop declares come first.
    """
    import json

    from vlm4rec_search.common.spark.functions import Value
    from vlm4rec_search.common.sql import quote_text

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    own = json.loads(declared)
    word = f"REGEXP_REPLACE(LOWER(REGEXP_REPLACE({text}, '^https?://schema\\.org/', '')), '[\\s_-]+', ' ', 'g')"

    def words(values: "list[str] | tuple[str, ...]") -> str:
        return ", ".join(quote_text(value.lower()) for value in values)

    declared_words = "".join(
        f"WHEN LOWER({text}) IN ({words(own[name])}) THEN {truth} "
        for name, truth in (("available", "TRUE"), ("unavailable", "FALSE"))
        if own.get(name)
    )
    return value.sql(
        "BOOLEAN",
        f"""CASE
      {declared_words}
      WHEN {word} IN ({words(IN_STOCK)}) THEN TRUE
      WHEN {word} IN ({words(OUT_OF_STOCK)}) THEN FALSE
      WHEN ISFINITE(TRY_CAST({text} AS DOUBLE)) THEN TRY_CAST({text} AS DOUBLE) > 0
    END""",
    )


@macro()
def is_finite(evaluator: MacroEvaluator, number: SQL) -> str:
    """Return whether a number is below 1e308 in size, as audits demand, so neither infinite nor NaN; NULL for NULL."""
    return f"(ABS({number}) < 1e308)"  # both engines sort NaN above infinity


@macro()
def as_number(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return a text that is a number as a computer writes it as DOUBLE, which may be infinite; else NULL."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    return value.sql("DOUBLE", f"TRY_CAST({text} AS DOUBLE)")


@macro()
def number_text(evaluator: MacroEvaluator, number: SQL) -> str:
    """Return a number as the shortest text that reads as the same number, such as 5.0 or 1e+16."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, (number, "DOUBLE"))
    (number,) = value.arguments
    return value.sql("TEXT", f"CAST({number} AS TEXT)")


@macro()
def nine_digits(evaluator: MacroEvaluator, total: SQL, of: SQL) -> str:
    """Return a sum rounded to nine or ten digits of its largest parts; what is below 1e-300 becomes 0.

    An engine adds in no fixed order, and the last digits of a sum depend on the order: without them, equal rows have
    equal sums, two plans on the same data give the same order, and parts that cancel have the sum 0.

    Args:
        evaluator: of the model.
        total: the sum, a DOUBLE.
        of: the same sum of the parts' absolute values.
    """
    digits = f"POWER(10, LEAST(9 - CEIL(LOG10(NULLIF({of}, 0))), 300))"
    return f"(ROUND(({total}) * {digits}) / {digits})"
