"""What is refused before a request reaches the service: a body that is too large or not whole."""

import asyncio
from collections.abc import Iterable

from starlette.types import Message, Receive, Scope, Send

from vlm4rec_search.serve.app import BodyLimit


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def send_body(parts: Iterable[Message]) -> tuple[list[bytes], int | None]:
    """Send a body in parts through the limit; return the bodies that reached the application, and the status."""
    reached, sent, waiting = list[bytes](), list[Message](), iter(parts)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append((await receive())["body"])

    async def receive() -> Message:
        return next(waiting)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(BodyLimit(application, 10)({"type": "http"}, receive, send))
    return reached, sent[0]["status"] if sent else None


def test_a_body_reaches_the_application_whole_or_not_at_all() -> None:
    assert send_body([part(b"rules", True), part(b": []", False)]) == ([b"rules: []"], None)
    assert send_body([part(b"rules", True), {"type": "http.disconnect"}]) == ([], 400)
    assert send_body([part(b"rules", True), part(b"rules: []", True)]) == ([], 413)
