"""Spans of requests for OpenTelemetry, where its API is installed (extra `otel`); without an SDK none is kept."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import propagate, trace
except ImportError:  # the extra is not installed
    HAS_TRACING = False
else:
    HAS_TRACING = True


class RequestSpan:
    """The span of a request; without OpenTelemetry it does nothing.

    Attributes:
        fields: `trace_id` for the log, where the caller or the SDK has given one.
    """

    def __init__(self, span: Any = None) -> None:
        self._span = span
        context = None if span is None else span.get_span_context()
        self.fields: Mapping[str, str] = (
            {"trace_id": f"{context.trace_id:032x}"} if context and context.is_valid else {}
        )

    def end(self, method: str, endpoint: str, status: int, failure: Exception | None) -> None:
        """Name the span after the endpoint, which is known only after routing; ids and texts are left out."""
        if self._span is None:
            return
        self._span.update_name(f"{method} {endpoint}")
        self._span.set_attributes(
            {"http.request.method": method, "http.route": endpoint, "http.response.status_code": status}
        )
        if failure is not None:
            self._span.record_exception(failure)
        if status >= 500:
            self._span.set_status(trace.Status(trace.StatusCode.ERROR))


@contextmanager
def request_span(headers: Mapping[str, str]) -> Iterator[RequestSpan]:
    """Open a span, below that of the caller where the headers name one (W3C Trace Context)."""
    if not HAS_TRACING:
        yield RequestSpan()
        return
    tracer, parent = trace.get_tracer("vlm4rec_search"), propagate.extract(headers)
    with tracer.start_as_current_span("request", parent, trace.SpanKind.SERVER) as span:
        yield RequestSpan(span)
