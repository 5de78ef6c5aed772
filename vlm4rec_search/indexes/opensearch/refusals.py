"""What a server refuses becomes one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from opensearchpy import exceptions
from opensearchpy.helpers.errors import ScanError

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.connection import refusal


@contextmanager
def server_errors() -> Iterator[None]:
    """Turn what the server refuses into one line.

    Raises:
        RunError: in the place of an error of the client.
    """
    try:
        yield
    except exceptions.TransportError as error:
        raise RunError(f"the server refuses: {refusal(error)}") from None
    except ScanError as error:  # a node was lost while all documents were read
        raise RunError(f"the server did not read all documents: {error}") from None
