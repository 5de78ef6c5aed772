"""The JSON API over a `Service`."""

import logging
import os
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response, params
from fastapi.responses import JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm4rec_search.search.query import LARGEST_PHOTO, Answer
from vlm4rec_search.serve.hosts import HostCheck
from vlm4rec_search.serve.page import BY_PHOTO, add_page
from vlm4rec_search.serve.problems import add_problems, problem
from vlm4rec_search.serve.schemas import (
    EventBatch,
    EventReceipt,
    Health,
    ItemPage,
    Problem,
    Recommendation,
    RecommendRequest,
    ReleaseInfo,
    SearchRequest,
    SimilarRequest,
    UserPage,
)
from vlm4rec_search.serve.service import NotFoundError, Service
from vlm4rec_search.serve.tracing import request_span

logger = logging.getLogger(__name__)
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # variable of prometheus_client; `workers.py` sets it
LARGEST_BODY = 1024 * 1024  # bytes: the most ids that a request may exclude, and room
LARGEST_WITH_PHOTO = LARGEST_PHOTO // 3 * 4 + LARGEST_BODY  # in base64, and room
LARGEST_READ = 64 * 1024 * 1024  # bytes of a form that are read to their end, so that the browser shows the answer
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds
_DESCRIPTION = "Recommendations and search over the releases of a VLM4Rec Search index."
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for status, text in {
        400: "an option is wrong, or names what does not exist",
        401: "the API key is missing or wrong",
        404: "what the address or the request names does not exist",
        413: f"the body has more than {LARGEST_BODY // 1024} kB, at /v1/search {LARGEST_WITH_PHOTO // 1024} kB",
        422: "the body is not as described",
        503: "the index does not answer now",
    }.items()
}


class AllWorkers:
    """Counters and histograms of all worker processes, which `METRICS_FOLDER` collects, and the gauges of this one."""

    def __init__(self, own: CollectorRegistry) -> None:
        """Take the gauges from a registry of this process."""
        self._own, self._all = own, MultiProcessCollector(None)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once."""
        yield from (metric for metric in self._own.collect() if metric.type == "gauge")
        yield from (metric for metric in self._all.collect() if metric.type != "gauge")  # type: ignore[no-untyped-call]


class Metrics:
    """What Prometheus reads."""

    def __init__(self) -> None:
        """Begin at zero; `watch` adds what a service tells by itself."""
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "vlm4rec_request_seconds",
            "Duration of requests.",
            ["endpoint", "status"],
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.answers = Counter(
            "vlm4rec_answers_total", "Answers by the tier that gave them.", ["endpoint", "tier"], registry=self.registry
        )
        self.searches = Histogram(
            "vlm4rec_search_seconds",
            "Duration of the searches behind the answers, without HTTP and JSON, by the tier that answered.",
            ["tier"],
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.retrievers = Histogram(
            "vlm4rec_retriever_seconds",
            "Duration of the search of each retriever; a server says how long it took.",
            ["retriever"],
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.empty = Counter("vlm4rec_empty_answers_total", "Answers without items.", registry=self.registry)
        self.events = Counter(
            "vlm4rec_events_total", "Events by what became of them.", ["outcome"], registry=self.registry
        )
        self.degraded = Counter(
            "vlm4rec_degraded_answers_total",
            "Answers that lack something: the index did not answer in time, or the log of events could not be read.",
            registry=self.registry,
        )
        self.unrecorded = Counter(
            "vlm4rec_journal_failures_total",
            "Answers that the journal did not take; they have no next page and count in no comparison.",
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)

    def watch(self, service: Service) -> None:
        """Measure the searches of a service, what its journal does not take, and how old it is."""

        def measure(answer: Answer) -> None:
            self.searches.labels(answer.tier).observe(answer.took_ms / 1000.0)
            for name, milliseconds in answer.retriever_ms.items():
                self.retrievers.labels(name).observe(milliseconds / 1000.0)

        service.on_unrecorded, service.on_searched = self.unrecorded.inc, measure
        age = Gauge("vlm4rec_release_age_seconds", "Age of the release that answers.", registry=self.registry)
        age.set_function(lambda: time.time() - service.created_at)
        stuck = Gauge(
            "vlm4rec_follow_failed", "1 while the service cannot follow the live release.", registry=self.registry
        )
        stuck.set_function(lambda: float(service.index.following.problem is not None))
        lag = Gauge(
            "vlm4rec_event_lag_seconds",
            "Age of the oldest event that the release which answers lacks, 0 without one.",
            registry=self.registry,
        )
        lag.set_function(service.event_lag)

    def count(self, endpoint: str, answer: Recommendation) -> Recommendation:
        """Count an answer, and return it."""
        self.answers.labels(endpoint, answer.tier).inc()
        if not answer.items:
            self.empty.inc()
        if answer.degraded:
            self.degraded.inc()
        return answer

    def count_events(self, receipt: EventReceipt) -> EventReceipt:
        """Count what became of events, and return it."""
        self.events.labels("accepted").inc(receipt.accepted)
        self.events.labels("duplicate").inc(receipt.duplicates)
        self.events.labels("rejected").inc(len(receipt.rejected))
        return receipt


def create_app(
    service: Service,
    api_keys: Sequence[str] = (),
    page_token: str | None = None,
    hosts: Collection[str] | None = None,
    allowed: Collection[str] = (),
) -> FastAPI:
    """Return the application.

    Args:
        service: answers; the caller closes it.
        api_keys: one of these has to be in the header `Authorization: Bearer KEY` of each request but those for the
            health of the service; none asks for no key.
        page_token: opens the page for changes, and with API keys for looking; None serves no page.
        hosts: names that the Host header of a request may have, see `known_hosts`; None allows all.
        allowed: names of the page behind a proxy, see `is_of_service`.
    """
    app, metrics = _empty_app(), Metrics()
    metrics.watch(service)
    is_one_of_many = METRICS_FOLDER in os.environ
    measured = cast(CollectorRegistry, AllWorkers(metrics.registry)) if is_one_of_many else metrics.registry
    add_problems(app)
    larger = dict.fromkeys(("/v1/search", BY_PHOTO), LARGEST_WITH_PHOTO)
    app.add_middleware(BodyLimit, largest=LARGEST_BODY, larger=larger, cut={BY_PHOTO: LARGEST_READ})
    if hosts is not None:
        app.add_middleware(HostCheck, names=hosts)
    _add_request_log(app, metrics)
    _add_routes(app, service, metrics, measured, [Depends(_require_key(api_keys))] if api_keys else [])
    if page_token:
        add_page(app, service, measured, page_token, is_private=bool(api_keys), allowed=allowed)
    return app


def describe_api() -> dict[str, Any]:
    """Return the OpenAPI description of the service; no index is needed."""
    app, metrics = _empty_app(), Metrics()
    _add_routes(app, cast(Service, None), metrics, metrics.registry, [])  # no route is called
    return app.openapi()


def _empty_app() -> FastAPI:
    return FastAPI(
        title="VLM4Rec Search",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        responses=_PROBLEMS,
    )


def _add_routes(
    app: FastAPI, service: Service, metrics: Metrics, measured: CollectorRegistry, guarded: Sequence[params.Depends]
) -> None:
    """Add the routes of the API; nothing of the service is used before one is called.

    Args:
        app: the application.
        service: answers.
        metrics: count the answers.
        measured: the metrics that are shown.
        guarded: what all routes but those for the health depend on.
    """

    @app.exception_handler(NotFoundError)
    def not_found(request: Request, error: NotFoundError) -> JSONResponse:
        return problem(404, str(error))

    @app.post("/v1/recommend", tags=["search"], dependencies=guarded)
    def recommend(body: RecommendRequest) -> Recommendation:
        """Recommend items for a shopper, for the items of a session, or for both."""
        return metrics.count("recommend", service.recommend(body))

    @app.post("/v1/search", tags=["search"], dependencies=guarded)
    def search(body: SearchRequest) -> Recommendation:
        """Search for a text, for what looks like a photo, or for both; with a user the taste counts as well."""
        return metrics.count("search", service.recommend(body))

    @app.post("/v1/similar", tags=["search"], dependencies=guarded)
    def similar(body: SimilarRequest) -> Recommendation:
        """Find items that are like an item, or chosen by the same shoppers."""
        return metrics.count("similar", service.similar(body))

    @app.get("/v1/recommendations/{recommendation_id}", tags=["search"], dependencies=guarded)
    def page(
        recommendation_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")],
        page: Annotated[int, Query(ge=1, le=1_000)] = 1,
    ) -> Recommendation:
        """Return a page of a recommendation: one that was served, or the next one, which repeats no item."""
        return metrics.count("page", service.page(recommendation_id, page))

    @app.post("/v1/events", tags=["events"], dependencies=guarded, response_model=EventReceipt)
    def events(body: EventBatch) -> EventReceipt | Response:
        """Keep events of shoppers, at most 1,000; the answer counts those that are kept, known already, or wrong."""
        receipt = metrics.count_events(service.record(body))
        if len(receipt.rejected) == len(body.events):
            wrong = [{"field": f"events.{each.index}", "message": each.detail} for each in receipt.rejected]
            return problem(422, f"no event can be kept: {wrong[0]['message']}", errors=wrong)
        return receipt

    @app.get("/v1/users/{user_id:path}", tags=["look up"], dependencies=guarded)
    def user(user_id: Annotated[str, Path(min_length=1, max_length=512)]) -> UserPage:
        """Show what the live release knows of a shopper."""
        return service.user(user_id)

    @app.get("/v1/items/{item_id:path}", tags=["look up"], dependencies=guarded)
    def item(item_id: Annotated[str, Path(min_length=1, max_length=512)]) -> ItemPage:
        """Show what the live release knows of an item."""
        return service.item(item_id)

    @app.get("/v1/releases", tags=["look up"], dependencies=guarded)
    def releases() -> list[ReleaseInfo]:
        """List the releases, the newest first."""
        return service.releases()

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:  # waits for no thread: all of them may wait for a slow server
        """Say that the process runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    def readyz() -> Health:
        """Say whether the index answers, and what keeps the service from following the live release."""
        return service.health()

    @app.get("/metrics", tags=["health"], dependencies=guarded, response_class=Response)
    def measure() -> Response:
        """Return the metrics in the format of Prometheus."""
        return Response(generate_latest(measured), media_type=CONTENT_TYPE_LATEST)


def _add_request_log(app: FastAPI, metrics: Metrics) -> None:
    @app.middleware("http")
    async def log(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        """Give each request an id, measure it, and log it without its body, its query or the ids in its path."""
        started = time.perf_counter()
        request_id = request.headers.get("x-request-id", "")[:100] or uuid.uuid4().hex
        failure = None
        with request_span(request.headers) as span:
            try:
                response = await answer(request)
            except Exception as error:  # of the service itself; all others are problems already
                failure = error
                response = problem(500, f"the service failed; its log has the reason under the request {request_id}")
            endpoint = getattr(request.scope.get("route"), "path", "unknown")
            span.end(request.method, endpoint, response.status_code, failure)
        seconds = time.perf_counter() - started
        metrics.seconds.labels(endpoint, str(response.status_code)).observe(seconds)
        response.headers["X-Request-ID"] = request_id
        level = logging.WARNING if response.status_code >= 500 else logging.INFO
        logger.log(
            level,
            "%s %s %d %.1f ms request %r",
            request.method,
            endpoint,
            response.status_code,
            1000 * seconds,
            request_id,
            exc_info=failure,
            extra={
                "fields": {
                    "request_id": request_id,
                    "method": request.method,
                    "endpoint": endpoint,
                    "status": response.status_code,
                    "milliseconds": round(1000 * seconds, 1),
                    **span.fields,
                }
            },
        )
        return response


def _require_key(keys: Sequence[str]) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        known = [secrets.compare_digest(key.strip().encode(), each.encode()) for each in keys]
        if scheme.lower() != "bearer" or not any(known):
            raise HTTPException(
                401, "send a known API key as `Authorization: Bearer KEY`", {"WWW-Authenticate": "Bearer"}
            )

    return check


class BodyLimit:
    """Refuses a request with a large body, of which no more is read than the limit, and one whose body is not whole."""

    def __init__(self, app: ASGIApp, largest: int, larger: Mapping[str, int], cut: Mapping[str, int]) -> None:
        """Guard an application.

        Args:
            app: the application.
            largest: bytes of a body.
            larger: the same of some paths.
            cut: paths of people, which get the beginning of a larger body and say on a page that it is too large -> the
                most bytes that are read of such a body; one that is larger still is refused as well.
        """
        self._app, self._largest, self._larger, self._cut = app, largest, larger, cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        largest = self._larger.get(scope["path"], self._largest)
        most = self._cut.get(scope["path"], largest)
        read, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":  # nobody reads this; the log does
                await problem(400, "the request ended before its body was whole")(scope, receive, send)
                return
            body += message.get("body", b"")
            read += len(message.get("body", b""))
            more = message.get("more_body", False)
            del body[largest:]  # of a form the rest is read all the same: a browser that still sends shows no answer
            if read > most:
                await problem(413, f"send at most {largest // 1024} kB")(scope, receive, send)
                return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def receive_whole() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, receive_whole, send)
