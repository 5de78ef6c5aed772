"""Functions of the staging models for times as logs write them."""

from sqlmesh.core.macros import SQL, MacroEvaluator, macro

# Abbreviations with one meaning, in minutes east of UTC. BST, IST, EST, CST, PST and others have several.
OFFSETS = {
    **dict.fromkeys(("Z", "UT", "UTC", "GMT", "WET"), 0),
    **dict.fromkeys(("CET", "MEZ", "WEST"), 60),
    **dict.fromkeys(("CEST", "MESZ", "EET"), 120),
    **dict.fromkeys(("EEST", "MSK"), 180),
    "AWST": 480,
    **dict.fromkeys(("JST", "KST"), 540),
    "ACST": 570,
    "AEST": 600,
    "ACDT": 630,
    "AEDT": 660,
    "NZST": 720,
    "NZDT": 780,
}
_ISO = "\\d{4}-\\d\\d-\\d\\d([ T]\\d\\d:\\d\\d(:\\d\\d(\\.\\d+)?)?)?"
_ISO_WITH_ZONE = "\\d{4}-\\d\\d-\\d\\d[ T]\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?(Z|[+-](0\\d|1[0-4])(:?[0-5]\\d)?)"
_NUMBER = "[+-]?\\d+(\\.\\d*)?([eE][+-]?\\d+)?"
_DIGITS = "((19|20)\\d{6}|9999\\d{4})(\\d\\d){0,3}"  # also of a far future, which programs write for no end
_OTHER_DIGITS = "\\d{4}(19|20)\\d\\d"  # the year last
_OF_TWO = "^\\d\\d?[./ -]\\d\\d?[./ -]\\d\\d"  # a year of two digits, which may stand first
_ONLY_MONTH = "(19|20)\\d\\d(0[1-9]|1[0-2])?"
_OFFSET = "(?:UTC|GMT)?[+-](?:\\d\\d?(?::[0-5]\\d)?|\\d\\d[0-5]\\d)"
_ZONE = f"(?:{_OFFSET}|[A-Za-z]{{1,5}}|[A-Za-z_]+/[A-Za-z_/+-]+\\d*)"
# date, clock, fraction, half of the day, zone, and the year that follows the zone in the output of `date` and of Java
_PARTS = (
    "^(.*?)(?:T|[\\s,]+)?(?:(\\d{1,2}:\\d\\d(?::\\d\\d)?)(?:[.,](\\d{1,9}))?\\s?([AaPp]\\.?[Mm]\\.?)?"
    f"\\s?({_ZONE})?(?:\\s(\\d{{4}}))?)?$"
)
_NAMES = "['date', 'clock', 'fraction', 'half', 'zone', 'year']"
_DATES = "['%Y %m %d', '%d %b %Y', '%b %d %Y', '%d %B %Y', '%B %d %Y', '%Y %b %d', '%Y%m%d', '%G W%V %u']"
_CLOCKS = "['%H:%M:%S', '%H:%M', '%I:%M:%S %p', '%I:%M %p']"


@macro()
def parse_time(evaluator: MacroEvaluator, text: SQL, form: SQL, declared: str) -> str:
    """Return the text as a UTC timestamp; NULL if it is no time, or if it may be several.

    ISO 8601 and its relatives, RFC 2822, the output of `date`, dates without separators, and epochs are read. A date
    without a clock is the first moment of its day. The size of an epoch tells its unit; 8 to 14 digits that begin with
    a year from 1900 to 2099 are a date, or no time at all. Eight digits with such a year at the end need a known order
    of day and month, and a year or month alone is no time.

    Args:
        evaluator: of SQLMesh.
        text: an SQL expression, in the form of `@normal_form`.
        form: what the column says about its values: `dmy` or `mdy`, the order of day and month in dates such as
            01/03/2024; `days`, since 1899-12-30, in which spreadsheets count; or NULL.
        declared: the variable `declared_values`, with the zone of times without one (else UTC) and the meanings of
            abbreviated zones.
    """
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text, form)
    return value.sql("TIMESTAMP", _parsed(*value.arguments, declared))


def _parsed(text: str, form: str, declared: str) -> str:
    is_day = f"LENGTH({text}) = 10"
    return f"""CASE
      WHEN REGEXP_FULL_MATCH({text}, '{_ISO}') THEN {_in_zone(f"TRY_CAST({text} AS TIMESTAMP)", is_day, declared)}
      WHEN REGEXP_FULL_MATCH({text}, '{_ISO_WITH_ZONE}')
        THEN MAKE_TIMESTAMP(EPOCH_US(TRY_CAST({text} AS TIMESTAMPTZ)))
      WHEN REGEXP_FULL_MATCH({text}, '1[0-8]\\d{{8}}(\\d{{3}})?')
        THEN MAKE_TIMESTAMP(CAST({text} AS BIGINT) * CASE LENGTH({text}) WHEN 10 THEN 1000000 ELSE 1000 END)
      WHEN REGEXP_FULL_MATCH({text}, '{_NUMBER}') THEN {_from_number(text, form, declared)}
      ELSE {_from_text(text, form, declared)}
    END"""


@macro()
def time_problem(evaluator: MacroEvaluator, text: SQL, form: SQL, declared: str) -> str:
    """Return why `@parse_time` gives NULL for a text."""
    import json

    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text, form)
    text, form = value.arguments
    known = json.loads(declared)
    own = known.pop("time_zone", None)
    of_two = "" if known.get("time_form") else f"OR REGEXP_MATCHES({text}, '{_OF_TWO}([^\\d]|$)')"
    in_utc = f"NOT {_parsed(text, form, json.dumps(known))} IS NULL"
    twice = f"WHEN {in_utc} THEN 'time does not exist or occurs twice in {own}'" if own else ""
    digits = _digits(text)
    problem = f"""CASE
      WHEN REGEXP_FULL_MATCH({digits}, '{_ONLY_MONTH}') THEN 'time is only a year or a month'
      WHEN {form} IS NULL AND {_is_other_date(digits)} THEN 'time may be a date such as 31122024 or an epoch'
      WHEN REGEXP_FULL_MATCH(zone, '[A-Za-z]+') AND {_offset("zone", declared)} IS NULL
        THEN 'time zone ' || UPPER(zone) || ' is unknown or has several meanings'
      WHEN zone LIKE '%/%' THEN 'time zone is unknown, or the time does not exist or occurs twice in it'
      WHEN {form} IS NULL AND REGEXP_MATCHES({text}, '^\\d\\d?[./ -]\\d\\d?[./ -]\\d{{4}}([^\\d]|$)') {of_two}
        THEN 'day and month of the time cannot be told apart'
      {twice}
      ELSE 'time cannot be parsed'
    END"""
    zone = f"REGEXP_EXTRACT({_bare(text)}, '{_PARTS}', 5)"
    return value.sql("TEXT", f"LIST_TRANSFORM([{zone}], zone -> {problem})[1]")


@macro()
def date_order(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the order of day and month that a date such as 31/03/2024 must have: `dmy` or `mdy`; else NULL.

    With two digits of a year, 24-07-01 may begin with it, so that such a date shows nothing.
    """
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    first, second = (f"CAST(REGEXP_EXTRACT({text}, '^(\\d\\d?)[./ -](\\d\\d?)', {group}) AS INT)" for group in (1, 2))
    return value.sql(
        "TEXT",
        f"""CASE
      WHEN NOT REGEXP_MATCHES({text}, '^\\d\\d?[./ -]\\d\\d?[./ -]\\d{{4}}') THEN NULL
      WHEN {first} > 12 AND {second} BETWEEN 1 AND 12 THEN 'dmy'
      WHEN {second} > 12 AND {first} BETWEEN 1 AND 12 THEN 'mdy'
    END""",
    )


@macro()
def has_dots(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return whether a date such as 01.03.2024 has dots, which come with the day first; NULL for other texts."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    is_date = f"REGEXP_MATCHES({text}, '^\\d\\d?[./ -]\\d\\d?[./ -]\\d{{4}}')"
    return value.sql("BOOLEAN", f"CASE WHEN {is_date} THEN REGEXP_MATCHES({text}, '^\\d\\d?\\.\\d\\d?\\.') END")


@macro()
def are_days(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return an aggregate: whether all values count days as spreadsheets do, which for seconds would be in 1970."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    is_day = f"REGEXP_FULL_MATCH({text}, '[345]\\d{{4}}([.]\\d*)?')"
    return f"BOOL_AND({value.sql('BOOLEAN', is_day)})"


def _in_zone(local: str, is_day: str, declared: str) -> str:
    """Read a time without a zone: in UTC, or in the declared zone."""
    import json

    zone = json.loads(declared).get("time_zone")
    return local if zone is None else _unique(local, is_day, f"'{zone}'")


def _unique(local: str, is_day: str, zone: str) -> str:
    """Return a local time as UTC; NULL if clocks skipped it or showed it twice.

    Where `is_day` holds, `local` is a date without a clock: it is the first moment of its day, also where clocks change
    at midnight, and NULL only if they skipped the whole day.
    """
    instant = f"TIMEZONE({zone}, clock)"
    earlier = f"{instant} - INTERVAL 1 HOUR"

    def shown(moment: str) -> str:
        return f"TIMEZONE({zone}, {moment})"

    unique = f"{shown(instant)} = clock AND NOT {shown(earlier)} = clock"
    unique = f"{unique} AND NOT {shown(f'{instant} + INTERVAL 1 HOUR')} = clock"
    return f"""LIST_TRANSFORM([{local}], clock -> CASE
      WHEN {unique} THEN TIMEZONE('UTC', {instant})
      WHEN {is_day} AND {shown(earlier)} = clock THEN TIMEZONE('UTC', {earlier})
      WHEN {is_day} AND CAST({shown(instant)} AS DATE) = CAST(clock AS DATE) THEN TIMEZONE('UTC', {instant})
    END)[1]"""


def _digits(text: str) -> str:
    return f"REGEXP_REPLACE({text}, '\\.0*$', '')"


def _is_other_date(digits: str) -> str:
    """Return whether digits are a date that ends with its year."""
    is_date = f"NOT TRY_STRPTIME({digits}, ['%d%m%Y', '%m%d%Y']) IS NULL"
    return f"(REGEXP_FULL_MATCH({digits}, '{_OTHER_DIGITS}') AND {is_date})"


def _from_number(text: str, form: str, declared: str) -> str:
    digits = _digits(text)
    date = f"TRY_STRPTIME({digits}, ['%Y%m%d', '%Y%m%d%H', '%Y%m%d%H%M', '%Y%m%d%H%M%S'])"
    number = f"TRY_CAST({text} AS DOUBLE)"
    size = f"ABS({number})"
    unit = f"CASE WHEN {size} < 1e11 THEN 1e6 WHEN {size} < 1e14 THEN 1e3 WHEN {size} < 1e17 THEN 1 ELSE 1e-3 END"
    days = f"CAST(ROUND(({number} - 25569) * 86400000) AS BIGINT) * 1000"
    ordered = {"dmy": "%d%m%Y", "mdy": "%m%d%Y"}
    orders = " ".join(f"WHEN '{name}' THEN TRY_STRPTIME({digits}, '{order}')" for name, order in ordered.items())
    other = f"CASE {form} {orders} END"
    is_days = f"{form} = 'days' OR REGEXP_FULL_MATCH({text}, '[345]\\d{{4}}\\.\\d{{5,}}')"
    return f"""CASE
      WHEN REGEXP_FULL_MATCH({digits}, '{_DIGITS}') THEN {_in_zone(date, f"LENGTH({digits}) = 8", declared)}
      WHEN {is_days} THEN {_in_zone(f"MAKE_TIMESTAMP({days})", f"{number} = FLOOR({number})", declared)}
      WHEN REGEXP_FULL_MATCH({digits}, '{_ONLY_MONTH}') THEN NULL
      WHEN {_is_other_date(digits)} THEN {_in_zone(other, "TRUE", declared)}
      ELSE MAKE_TIMESTAMP(TRY_CAST(ROUND({number} * {unit}) AS BIGINT))
    END"""


def _bare(text: str) -> str:
    """Return a time without a remark in brackets, and with the clock that a date with a zone or all digits lacks."""
    without_remark = f"REGEXP_REPLACE({text}, '\\s?(\\([^)]*\\)|\\[[^]]*\\])$', '')"
    with_clock = f"REGEXP_REPLACE({without_remark}, '^(\\d{{4}}-\\d\\d-\\d\\d)(Z|[+-]\\d\\d:?\\d\\d)$', '\\1T00:00\\2')"
    with_seconds = f"REGEXP_REPLACE({with_clock}, '^(\\d{{8}})T(\\d\\d)(\\d\\d)(\\d\\d)', '\\1T\\2:\\3:\\4')"
    bare = f"REGEXP_REPLACE({with_seconds}, '^(\\d{{8}})T(\\d\\d)(\\d\\d)', '\\1T\\2:\\3')"
    is_one = f"REGEXP_MATCHES({text}, '[])]$|^\\d{{8}}T|^\\d{{4}}-\\d\\d-\\d\\d[Z+-]')"
    return f"CASE WHEN {is_one} THEN {bare} ELSE {text} END"


def _from_text(text: str, form: str, declared: str) -> str:
    without_day = "REGEXP_REPLACE(parts.date, '(?i)^(mon|tue|wed|thu|fri|sat|sun)[a-z]*[.,]*\\s', '')"
    without_th = f"REGEXP_REPLACE({without_day} || ' ' || parts.year, '(?i)(\\d)(st|nd|rd|th)\\b', '\\1')"
    date = f"TRIM(REGEXP_REPLACE({without_th}, '[\\s,./-]+', ' ', 'g'))"
    clock = "TRIM(parts.clock || ' ' || UPPER(REPLACE(parts.half, '.', '')))"
    passed = f"TRY_STRPTIME({clock}, {_CLOCKS}) - TIMESTAMP '1900-01-01'"
    of_day = f"CASE WHEN parts.clock = '' THEN INTERVAL 0 SECOND ELSE {passed} END"
    fraction = "TO_MICROSECONDS(CAST(ROUND(CAST('0.' || parts.fraction || '0' AS DOUBLE) * 1e6) AS BIGINT))"
    offset = _offset("parts.zone", declared)
    known_zone = "NOT TRY_STRPTIME('2000-01-01 ' || parts.zone, '%Y-%m-%d %Z') IS NULL"
    in_utc = f"""CASE
      WHEN parts.zone = '' THEN {_in_zone("local", "parts.clock = ''", declared)}
      WHEN parts.zone LIKE '%/%' THEN CASE WHEN {known_zone} THEN {_unique("local", "FALSE", "parts.zone")} END
      ELSE local - TO_MINUTES({offset})
    END"""
    day = f"LIST_TRANSFORM([{date}], day -> {_day('day', form, declared)})[1]"
    utc = f"LIST_TRANSFORM([{day} + {of_day} + {fraction}], local -> {in_utc})[1]"
    return f"LIST_TRANSFORM([REGEXP_EXTRACT({_bare(text)}, '{_PARTS}', {_NAMES})], parts -> {utc})[1]"


def _day(date: str, form: str, declared: str) -> str:
    """Return the day of a date with spaces between its parts; a year of two digits needs a declared order."""
    import json

    of_two = {"dmy": "'%d %m %y'", "mdy": "'%m %d %y'"}.get(json.loads(declared).get("time_form"), "NULL")
    day_first, month_first = f"TRY_STRPTIME({date}, '%d %m %Y')", f"TRY_STRPTIME({date}, '%m %d %Y')"
    return f"""CASE
      WHEN REGEXP_FULL_MATCH({date}, '\\d\\d? \\d\\d? \\d\\d') THEN TRY_STRPTIME({date}, CAST({of_two} AS TEXT))
      WHEN NOT REGEXP_FULL_MATCH({date}, '\\d\\d? \\d\\d? \\d{{4}}')
        THEN CASE WHEN REGEXP_MATCHES({date}, '\\d{{4}}') THEN TRY_STRPTIME({date}, {_DATES}) END
      WHEN {form} = 'dmy' THEN {day_first}
      WHEN {form} = 'mdy' THEN {month_first}
      WHEN COALESCE({day_first} = {month_first}, TRUE) THEN COALESCE({day_first}, {month_first})
    END"""


def _offset(zone: str, declared: str) -> str:
    """Return the minutes east of UTC of an offset or of an abbreviation with one meaning; else NULL."""
    import json

    names = {**OFFSETS, **json.loads(declared).get("time_zones", {})}
    known = " ".join(f"WHEN '{name}' THEN {minutes}" for name, minutes in names.items())
    hours, minutes = (f"CAST('0' || REGEXP_EXTRACT({zone}, '[+-](\\d\\d?):?(\\d\\d)?$', {n}) AS INT)" for n in (1, 2))
    size = f"({hours} * 60 + {minutes})"
    return f"""CASE
      WHEN {zone} LIKE '%+%' AND {size} <= 840 THEN {size}
      WHEN {zone} LIKE '%-%' AND {size} <= 840 THEN -{size}
      ELSE CASE UPPER({zone}) {known} END
    END"""


@macro()
def epoch(evaluator: MacroEvaluator, time: SQL) -> str:
    """Return the seconds from 1970 to a time in UTC, with their fraction."""
    from vlm4rec_search.common.spark.functions import is_spark

    if is_spark(evaluator.gateway, evaluator.runtime_stage):
        return f"(DATE_DIFF('MICROSECOND', TIMESTAMP '1970-01-01', {time}) / 1e6)"
    return f"EPOCH({time})"


@macro()
def local_day(evaluator: MacroEvaluator, time: SQL, declared: str) -> str:
    """Return the day of a time in UTC, as the calendar of the declared zone has it; without one that of UTC."""
    import json

    from vlm4rec_search.common.spark.functions import is_spark

    zone = json.loads(declared).get("time_zone")
    if zone is None:
        return f"CAST({time} AS DATE)"
    if is_spark(evaluator.gateway, evaluator.runtime_stage):
        return f"CAST(FROM_UTC_TIMESTAMP({time}, '{zone}') AS DATE)"
    return f"CAST(TIMEZONE('{zone}', TIMEZONE('UTC', {time})) AS DATE)"


@macro()
def is_time(evaluator: MacroEvaluator, time: SQL) -> str:
    """Return whether a value is a time, and neither NULL nor infinite, which DuckDB knows."""
    from vlm4rec_search.common.spark.functions import is_spark

    if is_spark(evaluator.gateway, evaluator.runtime_stage):
        return f"(NOT {time} IS NULL)"
    return f"COALESCE(ISFINITE({time}), FALSE)"
