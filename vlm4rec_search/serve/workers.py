"""Several processes of the service behind one address, under the supervisor of uvicorn.

The supervisor starts each worker anew, replaces one that ends or hangs, and on SIGTERM lets the requests in flight
finish. Each worker opens the index for itself; of a release in a folder all of them map the same arrays.
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from vlm4rec_search.common.errors import UsageError, Vlm4recError
from vlm4rec_search.serve.app import METRICS_FOLDER, create_app
from vlm4rec_search.serve.service import Service

logger = logging.getLogger(__name__)
HUNG = 60  # seconds without a sign of life after which a worker is replaced; a start on a busy machine takes long
GRACE = 30  # seconds for requests in flight after SIGTERM
IDLE = 75  # seconds that an idle connection stays open: a proxy that keeps it longer (often 60) sends into a closed one


@dataclass(frozen=True)
class Worker:
    """Makes the application of one worker process, to which it is sent by pickle.

    Attributes:
        open_service: opens the index.
        api_keys, page_token, hosts, allowed: see `create_app`.
        prepare: called first, such as to configure logging.
    """

    open_service: Callable[[], Service]
    api_keys: Sequence[str]
    page_token: str | None
    hosts: Collection[str] | None
    allowed: Collection[str]
    prepare: Callable[[], None]

    def __call__(self) -> FastAPI:
        """Open the service and return its application, which closes it; without an index the process ends."""
        self.prepare()
        try:
            service = self.open_service()
        except Vlm4recError as error:  # the supervisor tries again with another worker
            logger.error("a worker cannot start: %s", error)
            sys.exit(1)
        app = create_app(service, self.api_keys, self.page_token, self.hosts, self.allowed)

        @asynccontextmanager
        async def close_at_the_end(_: FastAPI) -> AsyncIterator[None]:
            try:
                yield
            finally:
                service.close()

        app.router.lifespan_context = close_at_the_end
        return app


class Supervisor(Multiprocess):
    """The supervisor of uvicorn, which refuses new connections while the workers finish.

    While its own copy of the socket listened, they would be accepted, not answered, and cut off in the end.
    """

    def terminate_all(self) -> None:
        """Stop to listen, and let the workers finish."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UsageError: the address is not one of this machine, or the port is taken.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # asyncio sets this only on sockets of its own; without it each answer waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise UsageError(f"cannot listen on {host}:{port} ({reason}): choose another --port or --host") from None


def _config(app: Callable[..., Any], **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE, timeout_keep_alive=IDLE, **more
    )


def run_alone(app: FastAPI, listener: socket.socket) -> None:
    """Serve with this process until SIGTERM or ctrl-C; requests in flight get `GRACE` seconds to finish."""
    server = uvicorn.Server(_config(app))

    def end(*_: object) -> None:  # uvicorn raises the signal once more after a graceful end, which is no failure
        server.should_exit = True

    former = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run([listener])
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def run_workers(worker: Worker, number: int, listener: socket.socket) -> None:
    """Serve with several processes until SIGTERM or ctrl-C; requests in flight get `GRACE` seconds to finish.

    Args:
        worker: makes the application of each process.
        number: of processes.
        listener: all of them accept its connections.
    """
    config = _config(worker, factory=True, workers=number, timeout_worker_healthcheck=HUNG)
    # Each worker computes in one thread, or all of them would compete for the same cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with TemporaryDirectory(prefix="vlm4rec-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        Supervisor(config, [listener]).run()
