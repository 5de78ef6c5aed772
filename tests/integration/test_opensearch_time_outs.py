"""Searches over a server that is slow, busy or away: whole answers where it can be, and marked ones where it cannot."""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest
from helpers.alias_reader import QUERY, SERVER_AWAY, expected_hits, labelled_tables, search_hits
from helpers.faulty_proxy import Fault, proxy
from helpers.server_releases import Window

from vlm4rec_search import Answer, Query, open_index
from vlm4rec_search.indexes import Searcher
from vlm4rec_search.indexes.opensearch import native, reads
from vlm4rec_search.indexes.opensearch.sender import Sender

MANY = 50


def opened(url: str, window: Window, deadline: float = 30.0, **options: float) -> Searcher:
    return open_index(url, prefix=window.catalogue.prefix, deadline=deadline, **options)  # type: ignore[arg-type]


@pytest.fixture
def published(window: Window) -> Window:
    window.releases.publish(labelled_tables("old"), meta(), False, False)
    return window
