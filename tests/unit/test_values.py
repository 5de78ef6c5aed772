"""Values as shops write them: the macros of staging read every usual form, and guess at none."""

import html
import json
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from html.entities import html5

import pytest
from helpers.macro_sql import DUCKDB, macros, run
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm4rec_search.common.text_forms import normal_form

NOTHING = "{}"
ZONE_PROBLEM = "time zone is unknown, or the time does not exist or occurs twice in it"


def parsed_times(values: list[str], form: str = "NULL", declared: str = NOTHING) -> list[datetime | None]:
    return run(macros("times").parse_time(DUCKDB, "text", form, declared), values)


def time_problems(values: list[str], form: str = "NULL", declared: str = NOTHING) -> list[str]:
    return run(macros("times").time_problem(DUCKDB, "text", form, declared), values)


def numbers(values: list[str], decimal: str = "CAST(NULL AS TEXT)") -> list[float | None]:
    return run(macros("numbers").parse_number(DUCKDB, "text", decimal), values)


def written(moment: datetime, minutes: int) -> dict[str, datetime]:
    """Return a moment as logs write it, with an offset in minutes where the form has one, and what is meant."""
    seconds = moment.replace(microsecond=0)
    local = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    offset = local.strftime("%z")
    epoch = int(seconds.replace(tzinfo=UTC).timestamp())
    exact = (
        moment.isoformat(),
        moment.isoformat(" ") + "Z",
        local.isoformat(),
        local.strftime("%Y-%m-%d %H:%M:%S.%f ") + offset,
        local.strftime("%Y-%m-%dT%H:%M:%S,%f") + offset,
        local.strftime("%Y-%m-%d %H:%M:%S.%f GMT") + offset[:3] + ":" + offset[3:],
        moment.strftime("%Y/%m/%d %H:%M:%S.%f UTC"),
    )
    to_the_second = (
        seconds.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        seconds.strftime("%a %b %d %H:%M:%S UTC %Y"),
        seconds.strftime("%d-%b-%Y %I:%M:%S %p"),
        seconds.strftime("%B %d, %Y %I:%M:%S %p"),
        seconds.strftime("%Y%m%d%H%M%S"),
        seconds.strftime("%Y%m%dT%H%M%SZ"),
        seconds.strftime("%G-W%V-%uT%H:%M:%S"),
        *(str(epoch * unit) for unit in (1, 1000, 1_000_000, 1_000_000_000)),
        f"{epoch}.0",
    )
    return {**dict.fromkeys(exact, moment), **dict.fromkeys(to_the_second, seconds)}


# From January to August of 1976 an epoch in milliseconds has 12 digits that begin with 19 or 20, so that it is no time.
MOMENTS = st.datetimes(datetime(1977, 1, 1), datetime(2029, 12, 31))
OFFSETS = st.integers(-56, 56).map(lambda quarters: 15 * quarters)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(MOMENTS, OFFSETS), min_size=1, max_size=20))
def test_a_time_is_read_back_from_every_usual_form(moments: list[tuple[datetime, int]]) -> None:
    forms = {text: meant for moment, minutes in moments for text, meant in written(moment, minutes).items()}
    assert dict(zip(forms, parsed_times(list(forms)), strict=True)) == forms


@settings(max_examples=20, deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=20), st.sampled_from(["dmy", "mdy"]))
def test_a_known_order_of_day_and_month_is_followed(moments: list[datetime], order: str) -> None:
    moments = [moment.replace(second=0, microsecond=0) for moment in moments]
    pattern = {"dmy": "%d.%m.%Y %H:%M", "mdy": "%m/%d/%Y %I:%M %p"}[order]
    assert parsed_times([moment.strftime(pattern) for moment in moments], f"'{order}'") == moments


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2024-07-01 10:00:00 BST", "time zone BST is unknown or has several meanings"),
        ("2024-07-01 10:00 ist", "time zone IST is unknown or has several meanings"),
        ("Mon Jul 01 10:00:00 EDT 2024", "time zone EDT is unknown or has several meanings"),
        ("01/03/2024", "day and month of the time cannot be told apart"),
        ("01/03/24 10:00", "day and month of the time cannot be told apart"),
        (
            "2024-03-10 02:30:00 America/New_York",
            "time zone is unknown, or the time does not exist or occurs twice in it",
        ),
        (
            "2024-11-03 01:30:00 America/New_York",
            "time zone is unknown, or the time does not exist or occurs twice in it",
        ),
        ("2024-07-01 10:00 Nowhere/Else", "time zone is unknown, or the time does not exist or occurs twice in it"),
        ("31122023", "time may be a date such as 31122024 or an epoch"),
        ("01072024", "time may be a date such as 31122024 or an epoch"),
        ("202407", "time is only a year or a month"),
        ("2024", "time is only a year or a month"),
        ("24-07-01 10:00", "day and month of the time cannot be told apart"),
        ("2024-13-01", "time cannot be parsed"),
        ("2024-07-01 10:00:00 +99:00", "time cannot be parsed"),
        ("yesterday, about noon", "time cannot be parsed"),
        ("1e999", "time cannot be parsed"),
    ],
)
def test_a_time_that_may_be_several_is_refused_with_the_reason(text: str, reason: str) -> None:
    assert parsed_times([text]) == [None]
    assert time_problems([text]) == [reason]


def test_what_is_declared_decides_about_times() -> None:
    declared = json.dumps({"time_zone": "Europe/Berlin", "time_zones": {"BST": 60}})
    forms = ["2024-07-01 10:00", "2024-01-01 10:00:00", "2024-07-01 10:00:00Z", "2024-07-01 10:00:00 BST", "20240701"]
    assert parsed_times(forms, declared=declared) == [
        datetime(2024, 7, 1, 8),
        datetime(2024, 1, 1, 9),
        datetime(2024, 7, 1, 10),
        datetime(2024, 7, 1, 9),
        datetime(2024, 6, 30, 22),
    ]
    gap, twice = "2024-03-31 02:30:00", "2024-10-27 02:30:00"
    assert parsed_times([gap, twice], declared=declared) == [None, None]
    assert set(time_problems([gap, twice], declared=declared)) == {
        "time does not exist or occurs twice in Europe/Berlin"
    }


@pytest.mark.parametrize(
    ("zone", "day", "start"),
    [
        ("America/Santiago", datetime(2024, 9, 8), datetime(2024, 9, 8, 4)),
        ("Africa/Cairo", datetime(2024, 4, 26), datetime(2024, 4, 25, 22)),
        ("Asia/Beirut", datetime(2024, 3, 31), datetime(2024, 3, 30, 22)),
        ("Atlantic/Azores", datetime(2024, 3, 31), datetime(2024, 3, 31, 1)),
        ("America/Havana", datetime(2024, 11, 3), datetime(2024, 11, 3, 4)),
    ],
)
def test_a_date_is_the_first_moment_of_its_day_also_where_clocks_change_at_midnight(
    zone: str, day: datetime, start: datetime
) -> None:
    declared = json.dumps({"time_zone": zone})
    dates = [day.strftime(form) for form in ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%d%m%Y", "%B %d, %Y")]
    assert parsed_times(dates, "'dmy'", declared) == [start] * len(dates)
    days = (day - datetime(1899, 12, 30)).days
    assert parsed_times([str(days), f"{days}.0"], "'days'", declared) == [start, start]
    clocks = [day.strftime(form) for form in ("%Y-%m-%d 00:30", "%Y%m%d003000", "%d.%m.%Y 00:30:00", "%Y-%m-%d 00:00")]
    problem = f"time does not exist or occurs twice in {zone}"
    assert parsed_times(clocks, "'dmy'", declared) == [None] * len(clocks)
    assert time_problems(clocks, "'dmy'", declared) == [problem] * len(clocks)
    half_past = f"{days + 1 / 48:.6f}"
    assert parsed_times([half_past], "'days'", declared) == [None]
    assert time_problems([half_past, "soon 10:00"], "'days'", declared) == [problem, "time cannot be parsed"]


def test_a_day_that_clocks_skipped_is_no_time() -> None:
    declared = json.dumps({"time_zone": "Pacific/Apia"})
    assert parsed_times(["2011-12-29", "2011-12-30", "2011-12-31"], declared=declared) == [
        datetime(2011, 12, 29, 10),
        None,
        datetime(2011, 12, 30, 10),
    ]
    assert time_problems(["2011-12-30"], declared=declared) == ["time does not exist or occurs twice in Pacific/Apia"]


@pytest.mark.parametrize(
    ("values", "order"),
    [
        (["01/03/2024", "31/03/2024"], "dmy"),
        (["01/03/2024 10:00", "03/31/2024 11:00"], "mdy"),
        (["31/03/2024", "03/31/2024"], None),
        (["01/03/2024"], None),
        (["2024-03-31", "1719828000"], None),
        (["24-07-01 10:00", "31/12/24"], None),
    ],
)
def test_one_date_decides_the_order_of_a_column(values: list[str], order: str | None) -> None:
    orders = {order for order in run(macros("times").date_order(DUCKDB, "text"), values) if order}
    assert (orders.pop() if len(orders) == 1 else None) == order


def test_a_declared_order_reads_dates_that_end_with_their_year() -> None:
    assert parsed_times(["31122023", "01072024"], "'dmy'") == [datetime(2023, 12, 31), datetime(2024, 7, 1)]
    assert parsed_times(["31122023", "01072024"], "'mdy'") == [None, datetime(2024, 1, 7)]
    declared = json.dumps({"time_form": "dmy"})
    assert parsed_times(["24-07-01", "31/12/24"], "'dmy'") == [None, None]
    assert parsed_times(["31/12/24", "31.12.24 10:00"], "'dmy'", declared) == [
        datetime(2024, 12, 31),
        datetime(2024, 12, 31, 10),
    ]
    assert time_problems(["24-07-01"], "'dmy'") == ["day and month of the time cannot be told apart"]
    assert time_problems(["41-07-01"], "'dmy'", declared) == ["time cannot be parsed"]
    assert parsed_times(["0", "86400"]) == [datetime(1970, 1, 1), datetime(1970, 1, 2)]


def test_digits_that_begin_with_a_year_and_are_no_date_are_no_time() -> None:
    assert parsed_times(["20240230", "20241301", "2024063112", "20240229"]) == [None, None, None, datetime(2024, 2, 29)]
    assert time_problems(["20240230"]) == ["time cannot be parsed"]
    assert parsed_times(["99991231", "99991231235959"]) == [datetime(9999, 12, 31), datetime(9999, 12, 31, 23, 59, 59)]


CURRENCIES = ("{}", "{} €", "€{}", "EUR {}", "{} USD", "US${}", "{} kr", "Rs. {}", "from {}", "ab {} €")
GROUPS = ("", ",", ".", " ", "'", "\u202f")
PRICES = st.tuples(st.integers(0, 99_999_999), st.integers(0, 4), st.sampled_from(GROUPS), st.sampled_from(CURRENCIES))


def price(units: int, digits: int, group: str, form: str, decimal: str) -> str:
    """Write a number of `units` with `digits` decimals."""
    whole, rest = divmod(units, 10**digits)
    grouped = f"{whole:,}".replace(",", group if group != decimal else "")
    return normal_form(form.format(grouped + (f"{decimal}{rest:0{digits}d}" if digits else "")))


@settings(max_examples=25, deadline=None)
@given(st.lists(PRICES, min_size=1, max_size=40), st.sampled_from(".,"))
def test_a_price_is_read_right_or_not_at_all(prices: list[tuple[int, int, str, str]], decimal: str) -> None:
    texts = [price(*parts, decimal) for parts in prices]
    meant = [units / 10**digits for units, digits, *_ in prices]
    assert numbers(texts, f"'{decimal}'") == pytest.approx(meant)
    for text, number, right, (_, digits, *_) in zip(texts, numbers(texts), meant, prices, strict=True):
        assert number is None or number == pytest.approx(right), text
        assert number is not None or digits not in (1, 2), text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("24,-", 24.0),
        ("2-", -2.0),
        ("2,50-", -2.5),
        ("-2-", None),
        ("--5", None),
        ("24\u2013", 24.0),
        ("24--", 24.0),
        ("-$5.00", -5.0),
        ("$-5.00", -5.0),
        ("1,29,999.00", 129_999.0),
        ("1.299.000", 1_299_000.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("0,125", 0.125),
        ("1,299", None),
        ("1.299 €", None),
        ("9.99 - 19.99", None),
        ("ask us", None),
        ("2 for 5", None),
        ("1 29", None),
        ("nan", None),
        ("€", None),
    ],
)
def test_prices(text: str, number: float | None) -> None:
    assert numbers([text]) == [number]


def test_a_number_with_an_exponent_shows_no_decimal_sign() -> None:
    assert run(macros("numbers").decimal_sign(DUCKDB, "text"), ["1.5e+03", "24,90", "1.50"]) == [None, ",", "."]


def test_availability_in_the_words_of_shops() -> None:
    sql = macros("numbers").parse_available(DUCKDB, "text", json.dumps({"available": ["Vorrätig"]}))
    yes = ["in_stock", "In Stock", "preorder", "https://schema.org/InStock", "yes", "1", "12", "vorrätig", "TRUE"]
    no = ["out_of_stock", "out of stock", "SoldOut", "no", "0", "0.0", "-1", "ausverkauft", "discontinued"]
    assert run(sql, [*yes, *no, "perhaps", "nan"]) == [True] * len(yes) + [False] * len(no) + [None, None]


TEXTS = st.text(
    st.characters(max_codepoint=0x2FFF, exclude_categories=("Cs", "Cn", "Cc")) | st.sampled_from("\t\n\uff21\uff11")
)


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=40))
def test_the_package_and_the_tables_have_one_form_of_ids(texts: list[str]) -> None:
    forms = run(macros("cleaning").normal_form(DUCKDB, "text"), texts)
    assert [form or "" for form in forms] == [normal_form(text) for text in texts]
    assert [normal_form(text) for text in texts] == [normal_form(normal_form(text)) for text in texts]


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_spellings_of_one_id_are_one(text: str) -> None:
    spelled = [
        unicodedata.normalize("NFC", text),
        unicodedata.normalize("NFD", text),
        f"\u00a0{text}\u200b \t",
        "\ufeff" + text,
    ]
    assert len({normal_form(each) for each in spelled}) == 1


def test_ids_keep_case_and_zeros() -> None:
    assert [normal_form(text) for text in ("007", "Ab", "A  B", " a ")] == ["007", "Ab", "A B", "a"]


def decoded(values: list[str]) -> list[str]:
    source = f"input CROSS JOIN {macros('cleaning').html_characters(DUCKDB)} AS html"
    return run(macros("cleaning").decoded(DUCKDB, "text", "html.characters"), values, source)


def test_every_entity_of_html_is_decoded() -> None:
    names = [name for name in html5 if name.endswith(";")]
    assert decoded([f"&{name}" for name in names]) == [html5[name] for name in names]


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_text_is_decoded_once(text: str) -> None:
    escaped = html.escape(text)
    numeric = "".join(f"&#{ord(sign)};" if ord(sign) > 159 else f"&#x{ord(sign):X};" for sign in text)
    assert decoded([escaped, html.escape(escaped), numeric]) == [text, escaped, text]


def test_what_is_no_entity_stays() -> None:
    texts = ["AT&T", "&notanentity;", "&#99999999;", "&#0;", "&#xD800;", "R&D; x", "a &amp b", "&;"]
    assert decoded(texts) == texts
    assert decoded(["&#128; &#x99;"]) == ["€ ™"]


def test_attributes_that_cleaning_changes_are_found() -> None:
    declared = json.dumps({"nothing": {"attributes": ["-", 'it\'s "open"', "a|b.c"]}})
    sql = macros("cleaning").may_be_unclean(DUCKDB, "CAST(text AS JSON)", declared)
    changed = ["-", 'it\'s "open"', "a|b.c", "", " x", "x ", "x  y", "a\tb", "&amp;", "Caf\u0065\u0301", "\uff21"]
    kept = ["x", "NULL", "nan", "-x", "a|bxc", "None", "<b>", "[1]", 'a "b" c', "x/y"]
    objects = [
        json.dumps({"NULL": "x", "name": text}, separators=(",", ":"), ensure_ascii=False) for text in [*changed, *kept]
    ]
    assert run(sql, [*objects, '{"a":"1\\/2"}', '{"a":1,"b":null}']) == (
        [True] * len(changed) + [False] * len(kept) + [True, False]
    )
    usual = macros("cleaning").may_be_unclean(DUCKDB, "CAST(text AS JSON)", NOTHING)
    assert run(usual, ['{"a":"\\\\N"}', '{"a":"NULL"}', '{"NULL":"a"}', '{"a":"-"}']) == [True, True, False, False]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Purchase", "purchase"),
        ("ADD TO CART", "cart"),
        ("add-to-cart", "cart"),
        ("addToCart", "cart"),
        ("view_item", "view"),
        ("refund", "return"),
        ("Video Play", "video_play"),
        ("Ansehen!", "ansehen"),
    ],
)
def test_event_types_meet_the_weights(written: str, name: str) -> None:
    assert run(macros("events").event_name(DUCKDB, "text", NOTHING), [written]) == [name]


def test_event_types_can_be_declared() -> None:
    declared = json.dumps({"events": {"ansehen": "view", "view": "impression"}})
    assert run(macros("events").event_name(DUCKDB, "text", declared), ["Ansehen", "view"]) == ["view", "impression"]


def test_rating_events_are_words_and_never_sql() -> None:
    declared = json.dumps({"rating_events": ["it's", "reviews"], "events": {"bewertung": "review"}})
    assert run(macros("events").is_rating(DUCKDB, "text", declared), ["it's", "review", "rating"]) == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("ratings", "scale"),
    [
        *[
            ([0.5, 4.0], 5),
            ([1.0], 1),
            ([1.0, 2.0], 5),
            ([8.0, 2.0], 10),
            ([0.0, 1.0], 1),
            ([85.0], 100),
            ([1000.0], None),
        ],
        *[([5.0] * 19 + [50.0], 5), ([1.0, *[5.0] * 18, 500.0], 5), ([5.0] * 18 + [9.0, 8.0], 10)],
        *[([8.0, 3.0, 2.0, 4.0, 5.0, 5.0], 10), ([1.0] * 20 + [2.0], 5)],
        *[([3.0] * 400 + [50.0] * 4, 5), ([3.0] * 400 + [50.0] * 5, 100), ([], None)],
    ],
)
def test_ratings_show_their_scale(ratings: list[float], scale: float | None) -> None:
    sql = macros("events").rating_scale(DUCKDB, "rating")
    source = "(SELECT CAST(text AS DOUBLE) AS rating FROM input) AS log"
    assert run(sql, [str(rating) for rating in ratings], source, order="") == [scale]


def mended(texts: list[str]) -> list[str]:
    return run(macros("cleaning").mended(DUCKDB, "text", '{"mend_texts": true}'), texts)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("abc éüßÖñÀł\u2019\u201c€\u2013", max_size=12), min_size=1, max_size=8))
def test_texts_that_were_read_as_windows_1252_are_mended(texts: list[str]) -> None:
    # One letter that is known as broken makes the whole text one: Ä and Å pairs alone, as of Polish, do not.
    texts = [f"É{text}" for text in texts]
    table = {byte: bytes([byte]).decode("cp1252", "replace") for byte in range(256)}
    table = {byte: chr(byte) if sign == "�" else sign for byte, sign in table.items()}
    broken = ["".join(table[byte] for byte in text.encode()) for text in texts]
    assert mended(broken) == texts
    assert all(run(macros("cleaning").is_broken_text(DUCKDB, "text"), broken))
    assert run(macros("cleaning").mended(DUCKDB, "text", NOTHING), broken) == broken, "only if declared"


@pytest.mark.parametrize("text", ["ÉCOLE", "NIÑO", "Çanta", "CAFÉ", "ÜBER", "Straße", "ÖL", "ÊTRE", "it\u2019s"])
def test_each_broken_text_is_known_and_mended(text: str) -> None:
    broken = text.encode().decode("cp1252")
    assert mended([broken]) == [text]
    assert run(macros("cleaning").is_broken_text(DUCKDB, "text"), [broken]) == [True]


def test_texts_without_signs_of_damage_stay() -> None:
    texts = ["Größe", "»ESPAÑ«", "»HYVÄ»", "MAÇÃ", "Âge â € 5", "plain"]
    assert mended(texts) == texts
    assert not any(run(macros("cleaning").is_broken_text(DUCKDB, "text"), texts))
