"""The page that people look at, over a real service: a whole visit in a browser, and what it refuses."""

import csv
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pandas as pd
import pytest
from helpers.backends import Backend, Embedded
from helpers.browser import barriers, follow, launched, open_page, open_site
from helpers.http_service import serving
from helpers.six_items import ENCODER, RANKING, documents, given, meta, users
from helpers.waiting import wait_until
from PIL import Image
from playwright.sync_api import Browser

from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.search.ranking import load_ranking
from vlm4rec_search.serve.hosts import known_hosts
from vlm4rec_search.serve.service import Service

TOKEN = "token-of-the-test"  # noqa: S105
SCRIPT = "<script>document.title='taken'</script>"
RULES = "rules:\n  - {action: bury, filter: brand=Birch, reason: too many left}\n"
NEW_RULES = RULES + "  - {action: pin, items: [f], reason: new in}\n  - {action: drop, filter: brand=Nope}\n"
VIEWS = ("/", "/look?user=u1&ranking_b=popular", "/look?user=u9&text=red+lamp", "/item?item=a", "/rules", "/quality")


def catalogue() -> pd.DataFrame:
    """Return the six items with photos: a file, a path out of the folder, a URL, a file that is no photo, none."""
    frame = documents()
    frame["image"] = ["a.png", "../outside.png", "https://shop.example/c.jpg", "d.png", None, None]
    frame.loc[5, "title"] = SCRIPT
    return frame


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as running:
        yield running


@pytest.fixture
def shop(tmp_path: Path) -> Backend:
    data = tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (1200, 900), "red").save(data / "a.png")
    Image.new("RGB", (10, 10), "blue").save(tmp_path / "outside.png")
    (data / "d.png").write_text(SCRIPT)
    (tmp_path / "rules.yaml").write_text(RULES)
    backend = Embedded(tmp_path / "index")
    backend.publish(given(catalogue()))
    return backend


@pytest.fixture
def service(shop: Embedded, tmp_path: Path) -> Iterator[Service]:
    popular = load_ranking(RANKING).model_copy(update={"version": "popular", "fallback_chain": ("popularity",)})
    with Service(settings_of(shop, tmp_path), 0.1, {"popular": popular}) as opened:
        yield opened


def settings_of(backend: Backend, tmp_path: Path) -> ExplicitSettings:
    return ExplicitSettings(
        index_url=backend.releases.url,
        index_prefix=backend.prefix,
        encoder=ENCODER,
        ranking=RANKING,
        rules=tmp_path / "rules.yaml",
        served=tmp_path / "served",
        data_dir=tmp_path / "data",
        cache=tmp_path / "cache",
        published=tmp_path / "published",
        quality=tmp_path / "quality",
    )


def test_a_visit(browser: Browser, shop: Embedded, service: Service, tmp_path: Path) -> None:
    first = service.index.release.name
    second = shop.publish(given(catalogue().iloc[:5]), meta())
    wait_until(lambda: service.index.release.name == second)
    with (
        serving(service, page_token=TOKEN) as client,
        open_site(browser, f"{client.base_url}/unlock?token={TOKEN}", 390) as (page, complaints),
    ):
        # choose a shopper
        follow(page.get_by_role("link", name="u1"))
        assert page.get_by_role("heading", level=1).inner_text() == "Shopper u1"
        titles = page.locator(".card h3").all_inner_texts()
        assert titles
        assert page.locator(".strip li").count() == 3  # a and d, and the item that is gone
        # compare two rankings
        page.get_by_text("Compare rankings and releases").click()
        page.get_by_label("Ranking of B").select_option("popular")
        follow(page.get_by_role("button", name="Show"))
        assert page.get_by_role("heading", name="B", exact=True).is_visible()
        assert "ranking popular" in page.locator("section").nth(1).inner_text()
        # filter
        page.get_by_text("Conditions and variety").click()
        page.get_by_label("Another condition").fill("price<=25")
        page.get_by_label("Ranking of B").select_option("")
        follow(page.get_by_role("button", name="Show"))
        assert page.locator(".card h3").all_inner_texts() == ["blue shoes"]
        assert page.url.endswith("/look?user=u1&filter=price%3C%3D25")
        # judge
        follow(page.get_by_role("button", name="Relevant: blue shoes", exact=True))
        pressed = page.get_by_role("button", name="Relevant: blue shoes", exact=True)
        assert pressed.get_attribute("aria-pressed") == "true"
        # the address holds the state
        page.goto(page.url)
        assert page.locator(".card h3").all_inner_texts() == ["blue shoes"]
        assert page.get_by_label("Condition 1").input_value() == "price<=25"
        follow(page.get_by_role("link", name="price<=25"))
        assert page.locator(".card h3").all_inner_texts() == [title for title in titles if title != SCRIPT]
        # edit a rule
        follow(page.get_by_role("link", name="Rules"))
        page.get_by_label("Text of rules.yaml").fill(NEW_RULES)
        page.get_by_label("Show the effect").fill("u1")
        follow(page.get_by_role("button", name="Preview"))
        assert "+  - {action: pin, items: [f], reason: new in}" in page.locator(".diff").inner_text()
        assert "not in the release: f" in page.locator("main").inner_text()
        assert "touches nothing: no item fulfils it" in page.locator("main").inner_text()
        assert (tmp_path / "rules.yaml").read_text() == RULES
        follow(page.get_by_role("button", name="Save to rules.yaml"))
        assert (tmp_path / "rules.yaml").read_text() == NEW_RULES
        # roll back, and the pinned item is there again
        follow(page.get_by_role("link", name="Releases"))
        follow(page.get_by_role("link", name=f"Compare with live: {first}"))
        assert "1\nitems added" in page.locator(".numbers").inner_text()
        follow(page.get_by_role("link", name=f"Make live …: {first}"))
        follow(page.get_by_role("button", name="Make it live"))
        assert f"{first} was made live" in page.locator("main").inner_text()
        wait_until(lambda: client.get("/readyz").json()["release"] == first and len(service.index.rules) >= 3)
        page.goto(f"{client.base_url}/look?user=u2")
        assert page.locator(".card h3").first.inner_text() == SCRIPT
        assert "new in" in page.locator(".card").first.inner_text()
    assert complaints == []
    assert second != first
    (row,) = csv.DictReader((tmp_path / "served" / "judgments.csv").read_text().splitlines())
    assert {**row, "judged_at": ""} == {
        "user_id": "u1",
        "query": "",
        "item_id": "c",
        "judgment": "1",
        "judged_at": "",
        "release": second,
        "ranking": "test-1",
    }


def test_every_view_works_by_keyboard_for_weak_eyes_and_on_a_telephone(browser: Browser, service: Service) -> None:
    with serving(service, page_token=TOKEN) as client:
        address = f"{client.base_url}/unlock?token={TOKEN}"
        for width, colours in ((360, "light"), (1280, "dark")):
            with open_site(browser, address, width, colours) as (page, complaints):
                for view in VIEWS:
                    page.goto(f"{client.base_url}{view}")
                    assert barriers(page) == [], view
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, view
                page.goto(f"{client.base_url}/")
                page.keyboard.press("Tab")
                assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
                page.keyboard.press("Enter")
                page.keyboard.press("Tab")
                assert page.evaluate("document.activeElement.id") == "find"
            assert complaints == []


def test_the_views_are_there_on_both_backends(backend: Backend, tmp_path: Path) -> None:
    live = backend.publish(given(documents()))
    (tmp_path / "rules.yaml").write_text(
        "rules: [{action: drop, filter: colour=red}, {action: bury, filter: price>=0}, {action: pin, items: [f]}]"
    )
    with Service(settings_of(backend, tmp_path), 0.5) as service, serving(service, page_token=TOKEN) as client:
        shown = {
            path: client.get(path) for path in (*VIEWS[:1], "/look?user=u1&k=3", "/item?item=a", "/rules", "/releases")
        }
        assert {response.status_code for response in shown.values()} == {200}
        start, look, item, rules, releases = (response.text for response in shown.values())
        assert 'href="/look?user=u4"' in start
        assert look.count('class="card"') == 3
        assert "shared words" in look
        assert item.partition('id="like-item-')[2].startswith("e"), "no pin; what has a price is put last"
        assert (rules.count("touches nothing: no item has the field"), rules.count("touches items")) == (1, 2)
        assert live in releases
        compared = client.get("/releases", params={"first": live, "second": live}).text
        assert "of the top tens of 2 shoppers the same" in compared
        assert "What the top tens of 2 shoppers show" in compared


def test_a_shop_without_photos_has_titles_in_their_place(browser: Browser, shop: Embedded, service: Service) -> None:
    def look_at(view: str) -> tuple[str, int]:
        """Return the text of a view, and its number of photos or frames for them."""
        with open_site(browser, f"{address}{view}", 1300) as (page, complaints):
            assert complaints == []
            return page.inner_text("main"), page.locator("main img:visible").count()

    views = ("/", "/look?user=u1", "/item?item=b")
    with serving(service, page_token=TOKEN) as client:
        address = client.base_url
        assert all(shown for _, shown in map(look_at, views)), "some items have a photo: all have a frame"
        release = shop.publish(given(catalogue().assign(image=None)), meta())
        wait_until(lambda: service.index.release.name == release)
        seen = [look_at(view) for view in views]
        client.get(f"/unlock?token={TOKEN}")
        token = client.get("/rules").text.split('name="token" value="')[1].split('"')[0]
        preview = client.post("/rules/preview", data={"text": NEW_RULES, "user": "u1", "token": token}).text
    assert [shown for _, shown in seen] == [0, 0, 0]
    assert "<img" in preview
    assert '<body class="no-photos">' in preview
    start, look, _ = (text for text, _ in seen)
    assert "red dress; red lamp" in start
    assert "The line above a title" in look


def test_changes_need_the_token_and_a_form_of_the_page(service: Service, tmp_path: Path) -> None:
    release = service.index.release.name
    with serving(service, page_token=TOKEN) as client:
        changes = {
            "/judge": {"look": "user=u1", "item": "c", "judgment": "1"},
            "/rules/save": {"text": "rules: []"},
            "/rules/preview": {"text": "rules: []"},
            "/releases/activate": {"release": release},
        }
        for path, form in changes.items():
            assert client.post(path, data=form).status_code == 403, path
        assert client.get("/unlock?token=guessed").status_code == 403
        assert client.get(f"/unlock?token={TOKEN}").status_code == 303
        for path, form in changes.items():
            assert client.post(path, data=form).status_code == 403, path  # without the token of the form
        text = client.get("/rules").text
        form_token = text.split('name="token" value="')[1].split('"')[0]
        from_elsewhere = {"Origin": "https://elsewhere.example"}
        judgment = {**changes["/judge"], "token": form_token}
        assert client.post("/judge", data=judgment, headers=from_elsewhere).status_code == 403
        stale = {"text": "rules: []", "base": "of an older text", "token": form_token}
        cut = client.post("/rules/save", data=stale)
        assert (cut.status_code, "did not arrive whole" in cut.text) == (400, True)
        assert "somebody has changed" in client.post("/rules/save", data={**stale, "end": "1"}).text
        crowded = client.post("/rules/save", data={f"field{number}": "" for number in range(21)})
        assert (crowded.status_code, "at most 20 fields" in crowded.text) == (400, True)
        wrong = {"text": "rules: [{action: fly}]", "token": form_token}
        assert "action" in client.post("/rules/preview", data=wrong).text
    assert (tmp_path / "rules.yaml").read_text() == RULES
    assert not (tmp_path / "served" / "judgments.csv").exists()


def test_behind_a_proxy_with_a_host_header_of_its_own_the_allowed_name_is_one_of_the_page(service: Service) -> None:
    form = {"text": RULES}
    for allowed, status in (("shop.example",), 200), ((), 403), (("*",), 403), (("*", "shop.example"), 200):
        with serving(service, page_token=TOKEN, hosts=known_hosts("127.0.0.1", allowed), allowed=allowed) as client:
            client.get(f"/unlock?token={TOKEN}")
            token = client.get("/rules").text.split('name="token" value="')[1].split('"')[0]
            origins = {"https://shop.example": status, "https://shop.example:444": 403, "http://[": 403}
            origins |= {"http://localhost:9": 403, "http://127.0.0.1:9": 403, "null": 403}
            for origin, expected in origins.items():
                answer = client.post("/rules/preview", data={**form, "token": token}, headers={"Origin": origin})
                assert (origin, answer.status_code) == (origin, expected)
                is_told = "let it pass the header Host on" in answer.text and "--allowed-host NAME" in answer.text
                assert is_told == (expected == 403)


def test_of_two_who_change_the_same_rules_one_is_told(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_slowly(path: Path) -> str:
        text = path.read_text()
        time.sleep(0.1)  # as long as the other one needs to read the same text
        return text

    monkeypatch.setattr("vlm4rec_search.serve.page.read_rules_text", read_slowly)
    with serving(service, page_token=TOKEN) as client, ThreadPoolExecutor() as threads:
        assert client.get(f"/unlock?token={TOKEN}").status_code == 303
        token = client.get("/rules").text.split('name="token" value="')[1].split('"')[0]
        preview = client.post("/rules/preview", data={"text": NEW_RULES, "token": token}).text
        base = preview.split('name="base" value="')[1].split('"')[0]
        forms = [{"text": f"rules: []\n# {number}\n", "base": base, "token": token, "end": "1"} for number in range(4)]
        answers = list(threads.map(lambda form: client.post("/rules/save", data=form), forms))
    (saved,) = (number for number, answer in enumerate(answers) if answer.status_code == 303)
    assert all("somebody has changed" in answer.text for answer in answers if answer.status_code != 303)
    assert (tmp_path / "rules.yaml").read_text() == forms[saved]["text"]


def test_a_rule_saved_after_the_page_was_loaded_is_not_lost_by_a_preview(service: Service, tmp_path: Path) -> None:
    with serving(service, page_token=TOKEN) as client:
        client.get(f"/unlock?token={TOKEN}")

        def form(page: str) -> dict[str, str]:
            return {name: page.split(f'name="{name}" value="')[1].split('"')[0] for name in ("token", "base")}

        loaded = form(client.get("/rules").text)
        of_another = RULES + "  - {action: drop, items: [f], reason: recalled}\n"
        (tmp_path / "rules.yaml").write_text(of_another)
        for _ in range(2):  # also where the refused page is sent again
            preview = client.post("/rules/preview", data={**loaded, "text": NEW_RULES})
            assert (preview.status_code, "somebody has changed" in preview.text) == (400, True)
            assert ("reason: new in" in preview.text, "Save to rules.yaml" in preview.text) == (True, False)
            loaded = form(preview.text)
        assert client.post("/rules/save", data={**loaded, "text": NEW_RULES, "end": "1"}).status_code == 400
        assert (tmp_path / "rules.yaml").read_text() == of_another
        again = {**form(client.get("/rules").text), "text": NEW_RULES}
        shown = client.post("/rules/preview", data=again).text
        assert client.post("/rules/save", data={**again, **form(shown), "end": "1"}).status_code == 303
    assert (tmp_path / "rules.yaml").read_text() == NEW_RULES


def test_a_file_of_rules_that_cannot_be_read_is_told_on_every_view(service: Service, tmp_path: Path) -> None:
    with serving(service, page_token=TOKEN) as client:
        (tmp_path / "rules.yaml").write_text("rules: [")
        wait_until(lambda: service.index.following.problem is not None)
        text = client.get("/").text
    assert "Something is not up to date: " in text
    assert "is not YAML" in text
    assert "live release" not in text


def test_an_item_is_shown_while_the_file_of_the_release_is_gone(service: Service, tmp_path: Path) -> None:
    (tmp_path / "index" / "releases" / f"{service.index.release.name}.duckdb").unlink()
    with serving(service, page_token=TOKEN) as client:
        assert "caption by attributes@1" in client.get("/item?item=a").text


def test_a_forgotten_shopper_is_not_shown(shop: Embedded, service: Service) -> None:
    with serving(service, page_token=TOKEN) as client:
        client.get(f"/unlock?token={TOKEN}")
        addresses = ("/", "/?find=u", "/rules")
        assert all("u1" in client.get(address).text for address in addresses)
        ids = client.get("/?find=u").text.partition("begin with")[2].partition("</ul>")[0]
        assert re.findall(r">(u\d)<", ids) == ["u1", "u2", "u3", "u4"]
        shop.releases.forget({"u1", "u2", "u3"})
        wait_until(lambda: service.reader().user("u1") is None)
        views = [client.get(address).text for address in addresses]
        assert [("u1" in view, "u4" in view) for view in views] == [(False, True)] * 3
        found = {client.get("/random", follow_redirects=False).headers["location"] for _ in range(9)}
        assert found == {"/look?user=u4"}


def test_the_words_of_a_shopper_are_in_the_order_of_the_api(shop: Embedded, tmp_path: Path) -> None:
    people = users()
    rare, frequent = [{"term": word, "word": word, "weight": weight} for word, weight in (("silk", 0.5), ("red", 1.0))]
    people.at[0, "terms"] = [rare, frequent]  # by the product of weight and rarity
    shop.publish(given(catalogue(), people))
    with Service(settings_of(shop, tmp_path), 60.0) as service, serving(service, page_token=TOKEN) as client:
        chips = client.get("/look?user=u1").text.split("<dt>Words</dt>")[1].split("</dd>")[0]
        words = client.get("/v1/users/u1").json()["words"]
    assert re.findall(">([a-z]+)</li>", chips) == words == ["silk", "red"]


def test_a_wrong_condition_is_told_to_a_visitor_who_may_judge(service: Service) -> None:
    with serving(service, page_token=TOKEN) as client:
        client.get(f"/unlock?token={TOKEN}")
        shown = client.get("/look?user=u1&filter=colour%3Dred")
    assert (shown.status_code, "no item has the field" in shown.text) == (400, True)


def test_the_quality_page_tells_what_became_of_answers_and_events(service: Service) -> None:
    with serving(service, page_token=TOKEN) as client:
        client.get("/v1/items/a")
        client.post("/v1/recommend", json={"user": "u1", "filters": ["price>=1000"]})
        clicked = {"action_name": "click", "timestamp": "2026-11-28T12:00:00Z", "user_id": "visitor"}
        client.post("/v1/events", json={"events": [clicked, {}]})
        shown = client.get("/quality").text
    told = {name: number for number, name in re.findall(r"<li><strong>(.*?)</strong>(.*?)</li>", shown)}
    assert told["answers without items"] == told["events kept"] == "1"
    assert told["degraded answers"] == "0"
    assert told["age of the release"].endswith((" min", " h", " days"))
    assert told["age of the oldest event that the release lacks"] == "0 min"
    assert "items/\u200b{item_id}<" in shown


def test_a_line_that_is_no_judgment_is_told(service: Service, tmp_path: Path) -> None:
    torn = 'user_id,query,item_id,judgment\nu1,"half\nu1,,c,1\n'
    (tmp_path / "served" / "judgments.csv").write_text(torn)
    with serving(service, page_token=TOKEN) as client:
        assert "no judgment can be read" not in client.get("/look?user=u1").text
        client.get(f"/unlock?token={TOKEN}")
        shown = client.get("/look?user=u1").text
    assert "no judgment can be read in line 2 of" in shown
    assert shown.count('aria-pressed="true"') == 1


def test_with_api_keys_looking_needs_the_token_as_well(service: Service) -> None:
    with serving(service, ["0123456789abcdef"], TOKEN) as client:
        for path in (*VIEWS, "/releases", "/photo?item=a&size=160", "/random", "/quality/numbers"):
            assert client.get(path).status_code == 403, path
        client.get(f"/unlock?token={TOKEN}")
        assert client.get("/").status_code == 200
        (numbers,) = re.findall('href="([^"]*)">All numbers', client.get("/quality").text)
        assert "vlm4rec_empty_answers_total 0.0" in client.get(numbers).text
        assert client.post("/v1/recommend", json={"user": "u1"}).status_code == 401
    with serving(service) as client:
        assert client.get("/").status_code == 404


def test_photos_come_from_the_data_folder_only(service: Service) -> None:
    with serving(service, page_token=TOKEN) as client:

        def kind(item: str) -> str:
            response = client.get("/photo", params={"item": item, "size": 160})
            assert response.headers["x-content-type-options"] == "nosniff"
            return response.headers["content-type"]

        assert [kind(item) for item in "abcde"] == ["image/webp", *["image/svg+xml"] * 4]
        assert kind("../../etc/passwd") == "image/svg+xml"
        assert client.get("/photo?item=a&size=99999").status_code == 400
        assert len(client.get("/photo?item=a&size=160").content) < 5_000


def test_hostile_addresses_are_refused_or_escaped(service: Service) -> None:
    def see(client: httpx.Client, path: str, **params: object) -> httpx.Response:
        response = client.get(path, params=params, follow_redirects=True)
        assert "script-src" not in response.headers["content-security-policy"]
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "<script" not in response.text
        return response

    with serving(service, page_token=TOKEN) as client:
        assert "&lt;script&gt;" in see(client, "/look", user="u2").text
        assert see(client, "/look", user=SCRIPT, text=SCRIPT, filter=SCRIPT).status_code == 400
        assert see(client, "/look", text="x" * 10_000).status_code == 400
        assert see(client, "/look", user="u1", k="many").status_code == 400
        assert see(client, "/look", user="u1", release="none").status_code == 400
        assert see(client, "/look", user="u1", w_semantic="-1").status_code == 400
        assert see(client, "/item", item=SCRIPT).status_code == 404
        assert see(client, "/", find=SCRIPT).status_code == 200
        assert see(client, "/releases", first="a", second="b").status_code == 400
        assert see(client, "/look", user="\ud800".encode("utf-8", "surrogatepass")).status_code in (200, 400)
        unknown = see(client, "/look", user="nobody")
        assert "user nobody is not known" in unknown.text


def test_the_check_of_barriers_finds_them(browser: Browser, tmp_path: Path) -> None:
    bad = "<p style='color: #999; background: #fff'>pale<input><a href='x'></a><img src='data:,'>"
    (tmp_path / "bad.html").write_text(bad)
    with open_page(browser, tmp_path / "bad.html", 390) as (page, _):
        found = {barrier.split(":")[0] for barrier in barriers(page)}
    assert {"color-contrast", "label", "link-name", "image-alt", "html-has-lang"} <= found
