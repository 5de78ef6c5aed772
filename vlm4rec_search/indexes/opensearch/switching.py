"""The switch from one release to another: one at a time, in one request, and what is said of it afterwards is true."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from opensearchpy import exceptions
from tenacity import Retrying, retry_if_exception, stop_after_delay
from tenacity.wait import wait_random_exponential

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
from vlm4rec_search.indexes.embedded.pointer import KEPT
from vlm4rec_search.indexes.opensearch.aliases import Catalogue
from vlm4rec_search.indexes.opensearch.connection import UnreachableError, refusal
from vlm4rec_search.indexes.opensearch.index_settings import may_pass
from vlm4rec_search.indexes.opensearch.lease import SWITCH, Lease, lease

PATIENCE = 60.0  # seconds for which somebody else's switch is waited for, and a server that went away during ours


@contextmanager
def switching(catalogue: Catalogue) -> Iterator[Lease]:
    """Let nobody else switch or remove releases while the block runs; a load that is running is not waited for.

    Raises:
        HeldError: somebody else has been at it for `PATIENCE` seconds.
    """
    with lease(catalogue.client, catalogue.prefix, SWITCH, PATIENCE) as turn:
        yield turn


def switch(catalogue: Catalogue, release: str, turn: Lease) -> None:
    """Let a release answer, in the block of `switching` that gave `turn`.

    Where the answer of the server is lost, the switch may have been made or not: it is asked which release answers, and
    sent the same request again where that is not this one.

    Raises:
        RunError: the server refuses, and nothing has changed; or it stays away, and nobody knows.
    """
    back_off = wait_random_exponential(multiplier=0.5, max=5.0)
    stop = stop_after_delay(PATIENCE)
    try:
        for attempt in Retrying(retry=retry_if_exception(may_pass), stop=stop, wait=back_off, reraise=True):
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    if _answers(catalogue, release):
                        return
                    turn.renew()  # else what somebody else has switched to meanwhile would be undone
                catalogue.switch(release)
    except (UnreachableError, exceptions.TransportError) as error:
        if not may_pass(error):
            raise
        told = refusal(error) if isinstance(error, exceptions.TransportError) else str(error)
        raise RunError(
            f"nobody knows whether {release} answers, which is whole and stays: {told}; `vlm4rec releases list` tells"
            " when the server is back"
        ) from None


def check_unchanged(catalogue: Catalogue, before: str | None, release: str) -> None:
    """Refuse to take the place of a release that somebody has let answer while this one was built.

    Raises:
        RunError: another one answers than `before`.
    """
    now = catalogue.live()
    if now != before:
        raise RunError(
            f"not published: {now or 'no release'} was made to answer while {release} was built, which is whole now:"
            f" `vlm4rec releases rollback {release}` lets it answer; --force does not ask"
        )


def prune(catalogue: Catalogue, needed: set[str], kept: int = KEPT) -> list[str]:
    """Delete all but the newest `kept` releases and those that are needed, in a block of `switching`.

    Whoever is searching one of them opens the index again.

    Returns:
        Their names.
    """
    removed = []
    with suppress(Vlm4recError, exceptions.TransportError):  # what ended well must not end badly over this
        for name in list(catalogue.whole())[:-kept]:
            if name not in needed:
                catalogue.delete(name)
                removed.append(name)
    return removed


def _answers(catalogue: Catalogue, release: str) -> bool:
    try:
        return catalogue.live() == release
    except UsageError:  # the aliases are in the disorder that this switch is to end
        return False
