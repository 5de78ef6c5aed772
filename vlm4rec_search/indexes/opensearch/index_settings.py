"""The settings of an index while it is loaded: no refresh and no replicas, which would do every work again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from opensearchpy import OpenSearch, exceptions
from tenacity import Retrying, retry_if_exception, stop_after_delay
from tenacity.wait import wait_random_exponential

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.bulk import FULL, MAY_PASS
from vlm4rec_search.indexes.opensearch.connection import UnreachableError, refusal

T = TypeVar("T")

_WHILE_LOADING = {"refresh_interval": "-1", "number_of_replicas": "0", "auto_expand_replicas": "false"}
_MARK = "settings_before_loading"  # in `_meta`, where the next load finds them when this one is killed
_BLOCK = "index.blocks.read_only_allow_delete"  # the server sets it when the disk is full


@contextmanager
def loading(client: OpenSearch, index: str, patience: float = 60.0) -> Iterator[None]:
    """Switch refresh and replicas off while the block runs, and restore them whatever happens.

    After a load that was killed the next one restores what stood before the first. When the block ends well, its
    documents are searchable.

    Args:
        client: from `connect`.
        index: an index that exists.
        patience: seconds for which restoring is tried while the server is away.

    Raises:
        RunError: the index does not exist, or cannot be restored.
    """
    before = _persist(lambda: _remember(client, index), patience, f"cannot prepare {index} for loading")
    try:
        client.indices.put_settings(index=index, body={"index": _WHILE_LOADING})
        yield
    finally:
        hint = f"{index} still has the settings of loading, load it again to restore them"
        _persist(lambda: _restore(client, index, before), patience, hint)
    _persist(lambda: client.indices.refresh(index=index, request_timeout=600), patience, f"cannot refresh {index}")


def _remember(client: OpenSearch, index: str) -> dict[str, str | None]:
    try:
        ((_, found),) = client.indices.get(index=index, flat_settings=True).items()
    except exceptions.NotFoundError:
        raise RunError(f"there is no index {index} to load") from None
    meta = found["mappings"].get("_meta", {})
    before: dict[str, str | None] = meta.get(_MARK) or {
        name: found["settings"].get(f"index.{name}") for name in _WHILE_LOADING
    }
    client.indices.put_mapping(index=index, body={"_meta": {**meta, _MARK: before}})
    return before


def _restore(client: OpenSearch, index: str, before: dict[str, str | None]) -> None:
    """Restore the settings, then forget them, in this order: a kill in between restores once more."""
    try:
        client.indices.put_settings(index=index, body={"index": before})
    except exceptions.NotFoundError:
        return  # somebody has deleted it: what the load says of that is what has to be told
    except exceptions.TransportError as error:
        if FULL not in refusal(error):
            raise
        _restore_blocked(client, index, before)
        return
    _forget(client, index)


def _restore_blocked(client: OpenSearch, index: str, before: dict[str, str | None]) -> None:
    """Lift the block of a full disk for a moment: while it stands the server changes no other setting."""
    client.indices.put_settings(index=index, body={_BLOCK: None})
    try:
        client.indices.put_settings(index=index, body={"index": before})
        _forget(client, index)
    finally:
        client.indices.put_settings(index=index, body={_BLOCK: True})


def _forget(client: OpenSearch, index: str) -> None:
    ((_, found),) = client.indices.get_mapping(index=index).items()
    meta = found["mappings"].get("_meta", {})
    client.indices.put_mapping(index=index, body={"_meta": {name: meta[name] for name in meta if name != _MARK}})


def _persist(act: Callable[[], T], patience: float, message: str) -> T:
    """Call until the server answers."""
    back_off = wait_random_exponential(multiplier=0.5, max=5.0)
    retrying = Retrying(
        retry=retry_if_exception(may_pass), stop=stop_after_delay(patience), wait=back_off, reraise=True
    )
    try:
        return retrying(act)
    except UnreachableError as error:
        raise RunError(f"{message}: {error}") from None
    except exceptions.TransportError as error:
        raise RunError(f"{message}: {refusal(error)}") from None


def may_pass(error: BaseException) -> bool:
    """Tell whether the same request may succeed later."""
    busy = isinstance(error, exceptions.TransportError) and error.status_code in MAY_PASS
    return busy or isinstance(error, UnreachableError)
