"""Several processes of the service behind one address, under the supervisor of uvicorn.

The supervisor starts each worker anew, replaces one that ends or hangs, and on SIGTERM lets the requests in flight
finish. Each worker opens the index for itself; of a release in a folder all of them map the same arrays.
"""

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from vlm4rec_search.common.errors import Vlm4recError
from vlm4rec_search.serve.app import METRICS_FOLDER, create_app
from vlm4rec_search.serve.service import Service

logger = logging.getLogger(__name__)
HUNG = 60  # seconds without a sign of life after which a worker is replaced; a start on a busy machine takes long
GRACE = 30  # seconds for requests in flight after SIGTERM


@dataclass(frozen=True)
class Worker:
    """Makes the application of one worker process, to which it is sent by pickle.

    Attributes:
        open_service: opens the index.
        api_keys: see `create_app`.
        prepare: called first, such as to configure logging.
    """

    open_service: Callable[[], Service]
    api_keys: Sequence[str]
    prepare: Callable[[], None]

    def __call__(self) -> FastAPI:
        """Open the service and return its application, which closes it; without an index the process ends."""
        self.prepare()
        try:
            service = self.open_service()
        except Vlm4recError as error:  # the supervisor tries again with another worker
            logger.error("a worker cannot start: %s", error)
            sys.exit(1)
        app = create_app(service, self.api_keys)

        @asynccontextmanager
        async def close_at_the_end(_: FastAPI) -> AsyncIterator[None]:
            try:
                yield
            finally:
                service.close()

        app.router.lifespan_context = close_at_the_end
        return app


def run_workers(worker: Worker, number: int, host: str, port: int) -> None:
    """Serve with several processes until SIGTERM or ctrl-C.

    Args:
        worker: makes the application of each.
        number: of processes.
        host: address to listen on.
        port: 0 takes a free one.
    """
    config = uvicorn.Config(
        worker,
        host,
        port,
        factory=True,
        workers=number,
        log_config=None,
        access_log=False,
        timeout_worker_healthcheck=HUNG,
        timeout_graceful_shutdown=GRACE,
    )
    # Each worker computes in one thread, or all of them would compete for the same cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with TemporaryDirectory(prefix="vlm4rec-metrics-") as folder, closing(config.bind_socket()) as listener:
        os.environ[METRICS_FOLDER] = folder
        Multiprocess(config, [listener]).run()
