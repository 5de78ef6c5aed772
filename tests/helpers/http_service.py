"""A service on a free port of loopback, in a thread, over the six items or a release of the test's own."""

import socket
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import httpx
import uvicorn

from vlm4rec_search.serve.app import create_app
from vlm4rec_search.serve.service import Service


@contextmanager
def serving(
    service: Service,
    keys: Sequence[str] = (),
    page_token: str | None = None,
    hosts: Collection[str] | None = None,
    allowed: Collection[str] = (),
) -> Iterator[httpx.Client]:
    """Yield a client of a running service, with the page for people where there is a token.

    `hosts` are its names, None allows all, and `allowed` those of the page behind a proxy.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(service, keys, page_token, hosts, allowed)
        config = uvicorn.Config(app, log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()
