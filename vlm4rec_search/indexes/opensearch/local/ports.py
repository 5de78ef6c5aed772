"""Free ports of 127.0.0.1."""

import socket
from contextlib import ExitStack

from vlm4rec_search.common.errors import UsageError

USUAL = 9200  # where clients look for OpenSearch


def choose(wanted: int | None, count: int) -> list[int]:
    """Return `count` ports: those from `wanted` on; without it those from 9200 on, or any when one is taken.

    A `wanted` of 0 asks for any, as the operating system gives them out.

    Raises:
        UsageError: a wanted port is taken or cannot be a port.
    """
    first = USUAL if wanted is None else wanted
    if not 0 <= first <= 65536 - count or 0 < first < 1024:
        raise UsageError(f"--port {first}: use 1024 to {65536 - count}, or 0 for any free one")
    ports = list(range(first, first + count))
    taken = [port for port in ports if first and not free(port)]
    if taken and wanted is not None:
        raise UsageError(f"port {taken[0]} is taken by another program: choose another --port, or leave it out")
    return ports if first and not taken else any_free(count)


def any_free(count: int) -> list[int]:
    """Return different ports that the operating system gives out; they are free again at once."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free(port: int) -> bool:
    """Tell whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
