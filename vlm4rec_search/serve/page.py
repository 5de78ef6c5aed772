"""The page for people: shoppers, answers with photos and reasons, items, releases, rules and quality, as plain HTML.

Every view is a GET whose address holds its whole state. What changes something is a POST of somebody who has opened
the address that the service printed when it started. No view holds a script or loads anything from elsewhere.
"""

import hashlib
import hmac
import logging
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.pages import page_templates
from vlm4rec_search.common.paths import file_lock, replacing_file
from vlm4rec_search.common.text_forms import normal_form
from vlm4rec_search.datasets.judgments import Judgment, Judgments
from vlm4rec_search.datasets.photos.decode import PhotoError
from vlm4rec_search.indexes.many import ONCE
from vlm4rec_search.pipeline.diff import compare_releases
from vlm4rec_search.pipeline.idle_rules import describe_idleness
from vlm4rec_search.search.backend import AccessError
from vlm4rec_search.search.query import KINDS, Mode
from vlm4rec_search.search.ranking import pinned_ranking
from vlm4rec_search.search.rules import Rule, parse_rules
from vlm4rec_search.serve.hosts import is_of_service
from vlm4rec_search.serve.problems import REFUSED
from vlm4rec_search.serve.service import NotFoundError, Service
from vlm4rec_search.serve.thumbnails import SIZES, Thumbnails
from vlm4rec_search.serve.views import (
    HITS,
    KNOWN_IDS,
    PARTS,
    Shop,
    State,
    describe_age,
    diff_lines,
    documents_of,
    have_photos,
    legend,
    make_cards,
    read_rules_text,
    shown_counts,
    summarise_metrics,
    unless_away,
    visit_address,
)

logger = logging.getLogger(__name__)
LARGEST_RULES = 100_000  # characters
BY_PHOTO = "/by-photo"  # takes the upload of a photo
_MOST_FIELDS = 20  # of a form
_COOKIE = "vlm4rec_page"
_SHOPPERS, _FOUND, _EXAMPLES = 12, 60, 6  # that the start shows, finds by the beginning of an id, and rules suggest
_LOOKED_UP = 2 * _SHOPPERS  # of whom some may have been forgotten since
_DIFF_USERS = 30  # shoppers whose hits the view of a diff compares
_STATIC = Path(__file__).with_name("static")
_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_OWN_STYLE = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}

View = Callable[..., Response]


class ForbiddenError(UsageError):
    """The visitor has not opened the address that the service printed, or the form is of another site."""


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        UsageError: it has too many.
    """
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise UsageError(f"a form has at most {_MOST_FIELDS} fields") from None


Form = Annotated[dict[str, str], Depends(_form)]


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


def uploaded(content_type: str, body: bytes, name: str) -> bytes:
    """Return the bytes of a file in a form of the type multipart/form-data, b"" where it has none of this name."""
    form = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    parts = form.get_payload()
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, Message) and part.get_param("name", header="content-disposition") == name:
            content = part.get_payload(decode=True)
            return content if isinstance(content, bytes) else b""
    return b""


class Access:
    """Who may look and who may change: the token opens both, through a cookie that no other site can send."""

    def __init__(self, token: str, is_private: bool, allowed: Collection[str] = ()) -> None:
        """Keep the token; a private page is for those who have it only. `allowed` is that of `is_of_service`."""
        self._token, self._is_private, self._allowed = token, is_private, allowed
        self._cookie, self.form_token = self._derive("cookie"), self._derive("form")

    def _derive(self, purpose: str) -> str:
        return hmac.new(self._token.encode(), purpose.encode(), hashlib.sha256).hexdigest()

    def is_open(self, request: Request) -> bool:
        """Return whether the visitor may change things."""
        return secrets.compare_digest(request.cookies.get(_COOKIE, "").encode(), self._cookie.encode())

    def check_look(self, request: Request) -> None:
        """Refuse a visitor of a private page without the token."""
        if self._is_private and not self.is_open(request):
            raise ForbiddenError("the service has API keys: open the address that `vlm4rec serve` printed at its start")

    def check_change(self, request: Request, form: dict[str, str]) -> None:
        """Refuse a change that does not come from a form of this page by a visitor with the token."""
        if not self.is_open(request):
            raise ForbiddenError("changes need the address that `vlm4rec serve` printed at its start: open it once")
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if origin is not None and not is_of_service(origin, host, self._allowed):
            raise ForbiddenError(
                f"the form comes from {origin[:100]}, and the request is for {host[:100]}: if a proxy stands between"
                " them, let it pass the header Host on (nginx: proxy_set_header Host $http_host), or start the service"
                " with --allowed-host NAME for the name of the page (NAME:PORT if its address has a port)"
            )
        if not secrets.compare_digest(form.get("token", "").encode(), self.form_token.encode()):
            raise ForbiddenError("the form is not of this page, or the service was started again: load the page again")

    def unlock(self, token: str) -> Response:
        """Return to the start with the cookie."""
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            raise ForbiddenError("the token is not the one that `vlm4rec serve` printed at its last start")
        response = RedirectResponse("/", 303)
        response.set_cookie(_COOKIE, self._cookie, httponly=True, samesite="strict")
        return response


class Page:
    """The views; each takes a request and returns a response."""

    def __init__(self, service: Service, registry: CollectorRegistry, access: Access) -> None:
        """Show a service, its metrics and its files."""
        settings = service.settings
        self.service, self.registry, self.access, self.shop = service, registry, access, Shop(service)
        self.judgments = Judgments(settings.judgments_file)
        self.thumbnails = Thumbnails(settings.data_dir, settings.cache)
        self.data_docs = settings.quality / "data_docs" / "index.html"
        self._comparing = threading.Lock()
        self._templates = page_templates("vlm4rec_search.serve")
        style = self._templates.get_template("page.css").render()
        self.style, self._version = style, hashlib.sha256(style.encode()).hexdigest()[:12]
        self._templates.globals |= {
            "kinds": KINDS,
            "photo": lambda item, size: f"/photo?{urlencode({'item': item, 'size': size})}",
            "item_address": lambda item: f"/item?{urlencode({'item': item})}",
            "visit_address": visit_address,
            "user_address": lambda user: f"/look?{urlencode({'user': user})}",
            "style_version": self._version,
        }

    def render(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """Return a view as HTML."""
        following = self.service.index.following.problem
        known = {
            "live": self.service.index.release.name,
            "problem": following,
            "is_open": self.access.is_open(request),
            "form_token": self.access.form_token,
            "path": request.url.path,
            "again": None,
            "query": "",
            "image_encoder": self.service.index.release.image_encoder,
            "photos": True,
        }
        text = self._templates.get_template(template).render(**{**known, **values})
        headers = {**_HEADERS, "Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
        return HTMLResponse(text, status, headers)

    def start(self, request: Request) -> Response:
        """Choose a shopper, or search."""
        wanted = request.query_params
        find, group, segment = (wanted.get(name, "").strip()[:512] for name in ("find", "group", "segment"))
        sample = self.shop.sample()
        segments = sorted({each.segment for each in sample if each.segment})
        found = None
        if find:
            user_id = normal_form(find)
            exact = self.service.reader().user(user_id)
            ids = sorted(each for each in self.shop.ids() if each.startswith(user_id) and each != user_id)
            some = self.shop.still(ids[:_FOUND])
            found = {"exact": user_id if exact else None, "ids": some, "more": max(0, len(ids) - _FOUND)}
        chosen = [
            each for each in sample if group in ("", each.group) and segment in ("", each.segment or "")
        ]  # the first ones are a sample already: the backend orders it by a hash
        ordered = sorted(chosen, key=lambda each: -each.items) if group == "long" else chosen
        by_id = {each.user_id: each for each in ordered[:_LOOKED_UP]}
        return self.render(
            request,
            "start.html",
            find=find,
            group=group,
            segment=segment,
            segments=segments,
            found=found,
            shoppers=[by_id[user_id] for user_id in self.shop.still(list(by_id))][:_SHOPPERS],
            photos=any(document["image"] for each in sample for document in each.documents),
            groups={name: sum(each.group == name for each in sample) for name in ("long", "short", "none")},
            sampled=len(sample),
            known=len(self.shop.ids()),
            is_sample=len(self.shop.ids()) >= KNOWN_IDS,
        )

    def random(self, request: Request) -> Response:
        """Go to any shopper."""
        ids = self.shop.ids()
        some = self.shop.still(secrets.SystemRandom().sample(ids, min(_LOOKED_UP, len(ids))))
        if not some:
            raise NotFoundError("the release has no shoppers")
        return RedirectResponse(f"/look?{urlencode({'user': some[0]})}", 303)

    def look(self, request: Request) -> Response:
        """Show a shopper's history and the answer, or two side by side."""
        pairs = request.query_params.multi_items()
        state = State(pairs)
        if not state.has_subject:
            return RedirectResponse("/", 303)
        if any(not value.strip() for _, value in pairs):  # a form sends its empty fields: the address is to be short
            return RedirectResponse(state.address(), 303)
        user_id = normal_form(state["user"])
        user = unless_away(lambda: self.service.reader().user(user_id), None) if user_id else None
        recent = self.service.recent(user_id) if user_id else None
        history, is_timed = self.shop.history(user) if user else ([], False)
        ids = [event.item_id for event in history] + ([*recent.liked, *recent.hidden] if recent else [])
        history_documents = documents_of(self.service.reader(), list(dict.fromkeys(ids))) if user_id else {}
        no_names: Sequence[str] = ()
        values: dict[str, Any] = {
            "state": state,
            "user_id": user_id,
            "user": user,
            "history": history,
            "is_timed": is_timed,
            "history_documents": history_documents,
            "recent": recent,
            "modes": get_args(Mode),
            "scenarios": list(self.service.index.scenarios),
            "part_names": PARTS,
            "rankings": list(self.service.rankings),
            "releases": unless_away(self._release_names, no_names),
            "ranking_weights": self.service.index.ranking.weights.model_dump(),
            "default_k": HITS,
            "query": state["text"],
        }
        try:
            found = {"error": None, "status": 200, **self._answers(state, user_id)}
        except (NotFoundError, AccessError):
            raise
        except UsageError as error:
            found = {"error": str(error), "status": 400, "sides": [], "counts": {}, "unread_judgments": None}
        cards = [card for side in found["sides"] for card in side["cards"]]
        photos = have_photos([*history_documents.values(), *(card.document for card in cards)])
        return self.render(request, "look.html", **values, **found, legend_parts=legend(cards), photos=photos)

    def _answers(self, state: State, user_id: str) -> dict[str, Any]:
        """Return the sides of a look, and the counted values of the first."""
        reader = self.service.reader(state["release"] or None)
        first = self.service.look(state.options(self.shop.counted_fields(reader)))
        judged, unread = self._judged(user_id, state["text"])
        if not state.has_other_side:
            sides = [{"name": "", "answer": first, "cards": make_cards(first, reader, None, judged)}]
            return {"sides": sides, "counts": shown_counts(first.counts), "unread_judgments": unread}
        second = self.service.look(state.options(is_other=True))
        other_reader = self.service.reader(state["release_b"] or state["release"] or None)
        sides = [
            {"name": "A", "answer": first, "cards": make_cards(first, reader, second, judged)},
            {"name": "B", "answer": second, "cards": make_cards(second, other_reader, first, judged)},
        ]
        shared = len({hit.item_id for hit in first.hits} & {hit.item_id for hit in second.hits})
        return {
            "sides": sides,
            "counts": shown_counts(first.counts),
            "shared": shared,
            "unread_judgments": unread,
        }

    def _judged(self, user_id: str, text: str) -> tuple[dict[str, int], str | None]:
        """Return the judgments of a query, and a sentence about those that cannot be read."""
        try:
            return self.judgments.latest(user_id, text), self.judgments.read().describe_unread(self.judgments.path)
        except RunError as error:
            return {}, str(error)

    def _release_names(self) -> Sequence[str]:
        return list(reversed(list(self.service.known_releases())))

    def item(self, request: Request) -> Response:
        """Show an item, what is like it, and what is chosen with it."""
        item_id = request.query_params.get("item", "")[:512]
        if not item_id:
            raise NotFoundError("the address names no item")
        found = self.service.item(item_id)
        reader = self.service.reader()
        options = {"similar": True, "k": 8}
        try:
            look_alikes = (
                self.service.look({"photo_of": found.item_id, **options}) if reader.release.image_encoder else None
            )
        except UsageError:  # the item has no readable photo
            look_alikes = None
        bought = sorted(found.bought_with.items(), key=lambda pair: -pair[1])[:8]
        similar = make_cards(self.service.look({"items": [found.item_id], "mode": "semantic", **options}), reader)
        documents = reader.documents([item for item, _ in bought])
        around = [*documents.values(), *(card.document for card in similar if card.document)]
        shown_to, sampled = self.shop.shown_to(found.item_id, found.release)
        return self.render(
            request,
            "item.html",
            item=found,
            captions=self.shop.captions(found.item_id),
            shown_to=shown_to,
            sampled=sampled,
            captioner=reader.release.captioner,
            similar=similar,
            photos=bool(found.image) or any(document["image"] for document in around),
            look_alikes=make_cards(look_alikes, reader) if look_alikes else [],
            look_alike_note=look_alikes.note if look_alikes else None,
            bought=bought,
            documents=documents,
        )

    def by_photo(self, request: Request, body: Body) -> Response:
        """Show items that look like an uploaded photo; it is not kept."""
        photo = uploaded(request.headers.get("content-type", ""), body, "photo")
        if not photo:
            raise UsageError("no photo was chosen: go back and choose a file")
        answer = self.service.look({"photo": photo, "k": HITS})
        return self.render(request, "by_photo.html", answer=answer, cards_of=make_cards(answer, self.service.reader()))

    def photo(self, request: Request) -> Response:
        """Return a small copy of an item's photo, or a drawing in its place."""
        item_id, size = request.query_params.get("item", "")[:512], request.query_params.get("size", "")
        if size not in map(str, SIZES):
            raise UsageError(f"the size of a photo is one of {', '.join(map(str, SIZES))}")
        headers = {**_HEADERS, "Content-Security-Policy": "default-src 'none'", "Cache-Control": "private, max-age=300"}
        known = normal_form(item_id)
        try:
            document = self.service.reader().documents([known]).get(known) if known else None
            content = self.thumbnails.thumbnail(document["image"] if document else None, int(size))
        except RunError:  # the index does not answer now
            away = {**headers, "Cache-Control": "no-store"}
            return FileResponse(_STATIC / "no-photo.svg", headers=away, media_type="image/svg+xml")
        except PhotoError:
            return FileResponse(_STATIC / "no-photo.svg", headers=headers, media_type="image/svg+xml")
        return Response(content, 200, headers, "image/webp")

    def releases(self, request: Request) -> Response:
        """List the releases, and compare two."""
        first, second = (request.query_params.get(name, "")[:200] for name in ("first", "second"))
        differences = None
        if first and second:
            settings = self.service.settings
            ranking, rules = pinned_ranking(settings.ranking), self.service.index.rules
            if not self._comparing.acquire(blocking=False):  # one comparison searches some hundred times
                raise RunError("another comparison of releases is running: try again in a moment")
            try:
                differences = compare_releases(
                    self.service.all_releases, first, second, _DIFF_USERS, ranking, rules, ONCE
                )
            finally:
                self._comparing.release()
        releases = self.service.releases()
        done = request.query_params.get("done", "")[:200]
        return self.render(
            request, "releases.html", releases=releases, first=first, second=second, diff=differences, done=done
        )

    def confirm(self, request: Request) -> Response:
        """Ask whether a release is to answer from now on."""
        name = self.service.all_releases.find(request.query_params.get("release", "")[:200])
        found = next(release for release in self.service.releases() if release.name == name)
        return self.render(request, "confirm.html", release=found)

    def activate(self, request: Request, form: Form) -> Response:
        """Make a release live."""
        self.access.check_change(request, form)
        name = self.service.all_releases.rollback(self.service.all_releases.find(form.get("release", "")[:200]))
        return RedirectResponse(f"/releases?{urlencode({'done': name})}", 303)

    def rules(self, request: Request) -> Response:
        """Show the rules in force and their text."""
        text = read_rules_text(self.service.settings.rules)
        saved = request.query_params.get("saved", "")
        return self._rules(request, text, text, saved=saved == "1")

    def _rules(self, request: Request, before: str, text: str, **values: Any) -> Response:
        path = self.service.settings.rules
        known = {
            "rules": self._described(self.service.index.rules),
            "file": path.name if path else None,
            "text": text,
            "base": _hash(before),
            "is_preview": False,
            "saved": False,
            "error": None,
            "diff": [],
            "effects": None,
            "new_rules": [],
            "user": "",
            "examples": self.shop.still([each.user_id for each in self.shop.sample()[:_LOOKED_UP]])[:_EXAMPLES],
        }
        return self.render(request, "rules.html", **{**known, **values})

    def _described(self, rules: Sequence[Rule]) -> list[dict[str, Any]]:
        """Return each rule with what is wrong with it, if anything."""
        reader = self.service.reader()
        return [
            {
                "rule": rule,
                "idle": describe_idleness(rule, reader),
                "when": rule.when.model_dump(mode="json", by_alias=True, exclude_defaults=True) if rule.when else {},
            }
            for rule in rules
        ]

    def preview(self, request: Request, form: Form) -> Response:
        """Show what other rules would change, without saving them."""
        self.access.check_change(request, form)
        before, text = read_rules_text(self.service.settings.rules), _rules_text(form)
        user = normal_form(form.get("user", "").strip()[:512])
        values: dict[str, Any] = {"is_preview": True, "diff": diff_lines(before, text), "user": user, "status": 200}
        values["base"] = base = form.get("base", _hash(before))  # of the text that the visitor has edited
        try:
            _check_base(base, before)
            rules = parse_rules(text).rules
            values["new_rules"] = self._described(rules)
            if user:
                options = {"user": user, "k": HITS, "explain": True}
                old, new = self.service.look(options), self.service.look(options, rules)
                reader = self.service.reader()
                changed = [hit.item_id for hit in old.hits] != [hit.item_id for hit in new.hits]
                values["effects"] = {
                    "before": make_cards(old, reader, new),
                    "after": make_cards(new, reader, old),
                    "changed": changed,
                }
                cards = [*values["effects"]["before"], *values["effects"]["after"]]
                values["photos"] = have_photos(card.document for card in cards)
        except AccessError:
            raise
        except UsageError as error:
            values |= {"error": str(error), "status": 400}
        return self._rules(request, before, text, **values)

    def save_rules(self, request: Request, form: Form) -> Response:
        """Replace the file of rules in one step."""
        self.access.check_change(request, form)
        path, text = self.service.settings.rules, _rules_text(form)
        if path is None:
            raise UsageError("no file of rules is set: start the service with VLM4REC_RULES=rules.yaml")
        if form.get("end") != "1":  # this field stands behind the text
            raise UsageError("the rules did not arrive whole, and nothing was saved: load the page and save again")
        parse_rules(text)
        try:
            with file_lock(self.service.settings.served / "rules.lock"):
                _check_base(form.get("base"), read_rules_text(path))
                with replacing_file(path) as part:
                    part.write_text(text, "utf-8")
        except OSError as error:
            raise RunError(f"the rules cannot be saved: {error.filename or path} ({error.strerror})") from None
        return RedirectResponse("/rules?saved=1", 303)

    def judge(self, request: Request, form: Form) -> Response:
        """Write down whether an item is a good answer, and return to the answer."""
        self.access.check_change(request, form)
        state = State(parse_qsl(form.get("look", "")[:8_000]))
        item_id = form.get("item", "")[:512]
        if form.get("judgment") not in ("0", "1") or not item_id or not state.has_subject:
            raise UsageError("a judgment names an item, and is 0 or 1")
        self.judgments.add(
            Judgment(
                normal_form(state["user"]),
                state["text"],
                item_id,
                int(form["judgment"]),
                datetime.now(UTC).isoformat(timespec="seconds"),
                form.get("release", "")[:200],
                form.get("ranking", "")[:200],
            )
        )
        return RedirectResponse(f"{state.address()}#item-{quote(item_id)}", 303)

    def quality(self, request: Request) -> Response:
        """Show how the service does, and lead to the checks of the tables."""
        traffic, tiers, numbers = summarise_metrics(self.registry)
        return self.render(
            request,
            "health.html",
            traffic=traffic,
            tiers=sorted(tiers.items(), key=lambda pair: -pair[1]),
            numbers=numbers,
            release_age=describe_age(datetime.now(UTC).timestamp() - self.service.created_at),
            event_lag=describe_age(numbers.get("vlm4rec_event_lag_seconds", 0.0)),
            has_checks=self.data_docs.is_file(),
        )

    def numbers(self, request: Request) -> Response:
        """Return the metrics as Prometheus reads them, to a visitor, who has no API key."""
        headers = {**_HEADERS, "Cache-Control": "no-store"}
        return Response(generate_latest(self.registry), 200, headers, CONTENT_TYPE_LATEST)

    def checks(self, request: Request) -> Response:
        """Return the page of the last checks."""
        if not self.data_docs.is_file():
            raise NotFoundError("there is no page of checks: run `vlm4rec check`")
        headers = {**_HEADERS, "Content-Security-Policy": _OWN_STYLE, "Cache-Control": "no-store"}
        return FileResponse(self.data_docs, headers=headers, media_type="text/html")

    def stylesheet(self, request: Request) -> Response:
        """Return the style of all views."""
        return Response(self.style, 200, {**_HEADERS, "Cache-Control": "max-age=31536000, immutable"}, "text/css")

    def icon(self, request: Request) -> Response:
        """Return the icon of the page."""
        return FileResponse(_STATIC / "icon.svg", headers={**_HEADERS, "Cache-Control": "max-age=86400"})

    def unlock(self, request: Request) -> Response:
        """Let the visitor change things."""
        return self.access.unlock(request.query_params.get("token", "")[:200])


def add_page(
    app: FastAPI,
    service: Service,
    registry: CollectorRegistry,
    token: str,
    *,
    is_private: bool = False,
    allowed: Collection[str] = (),
) -> None:
    """Add the routes of the page to an application.

    Args:
        app: the application.
        service: answers.
        registry: metrics that the page tells in words.
        token: opens the page for changes.
        is_private: looking needs the token as well.
        allowed: names of the page behind a proxy, see `is_of_service`.
    """
    page = Page(service, registry, Access(token, is_private, allowed))
    views: dict[str, View] = {
        "/": page.start,
        "/random": page.random,
        "/look": page.look,
        "/item": page.item,
        "/photo": page.photo,
        "/releases": page.releases,
        "/releases/confirm": page.confirm,
        "/rules": page.rules,
        "/quality": page.quality,
        "/quality/checks": page.checks,
        "/quality/numbers": page.numbers,
    }
    changes: dict[str, View] = {
        "/releases/activate": page.activate,
        "/rules/preview": page.preview,
        "/rules/save": page.save_rules,
        "/judge": page.judge,
    }
    open_views = {"/page.css": page.stylesheet, "/icon.svg": page.icon, "/unlock": page.unlock}
    for path, view in (*views.items(), *open_views.items()):
        app.get(path, include_in_schema=False)(_in_html(page, view, is_guarded=path in views))
    app.post(BY_PHOTO, include_in_schema=False)(_in_html(page, page.by_photo, is_guarded=True))
    for path, view in changes.items():
        app.post(path, include_in_schema=False)(_in_html(page, view, is_guarded=True))


def _in_html(page: Page, view: View, is_guarded: bool) -> View:
    """Answer an error of a view with a page that says what to do, in place of a problem for programs."""

    @wraps(view)
    def answer(request: Request, **arguments: Any) -> Response:
        try:
            if is_guarded:
                page.access.check_look(request)
            return view(request, **arguments)
        except ForbiddenError as error:
            return page.render(request, "message.html", 403, title="Not yet", message=str(error))
        except NotFoundError as error:
            return page.render(request, "message.html", 404, title="Not here", message=str(error))
        except AccessError as error:
            logger.error("%s", error)
            return page.render(request, "message.html", 503, title="Not now", message=REFUSED, again=_address(request))
        except UsageError as error:
            return page.render(request, "message.html", 400, title="That cannot be shown", message=str(error))
        except RunError as error:
            return page.render(
                request, "message.html", 503, title="Not now", message=str(error), again=_address(request)
            )

    return answer


def _address(request: Request) -> str | None:
    """Return what a visitor asks for again, None for a change."""
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{request.url.path}{query}" if request.method == "GET" else None


def _rules_text(form: dict[str, str]) -> str:
    text = form.get("text", "").replace("\r\n", "\n")
    if len(text) > LARGEST_RULES:
        raise UsageError(f"the rules have more than {LARGEST_RULES:,} characters")
    return text if text.endswith("\n") or not text else f"{text}\n"


def _check_base(base: str | None, text: str) -> None:
    if base != _hash(text):
        raise UsageError("somebody has changed the file of rules meanwhile: load the page again")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
