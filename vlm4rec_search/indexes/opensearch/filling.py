"""Makes the indices of a release and fills them: anew, or from a copy of the release that answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.aliases import Catalogue
from vlm4rec_search.indexes.opensearch.changes import updates
from vlm4rec_search.indexes.opensearch.documents import read_bodies
from vlm4rec_search.indexes.opensearch.index_settings import loading
from vlm4rec_search.indexes.opensearch.loader import load
from vlm4rec_search.indexes.opensearch.mapping import ID_COLUMNS, Kind, Vectors, index_body
from vlm4rec_search.indexes.opensearch.old_bulk import Operation, Rejection
from vlm4rec_search.indexes.release import ReleaseMeta
from vlm4rec_search.pipeline.record import Load

_NAMES: dict[Kind, str] = {"items": "document", "profiles": "user", "segments": "segment"}  # in the table `rejected`
_BLOCK = "index.blocks.write"
COPYING = 300.0  # seconds for a copy of an index on the server: where it cannot link files, it copies them
_REFUSE = """
INSERT INTO rejected SELECT $kind, refused.id, {title}, refused.reason
FROM refused LEFT JOIN outgoing_{kind} AS outgoing ON outgoing.{id} = refused.id;
DELETE FROM outgoing_{kind} WHERE {id} IN (SELECT id FROM refused)
"""


class Filling:
    """The indices of one release that is being built."""

    def __init__(
        self,
        catalogue: Catalogue,
        connection: duckdb.DuckDBPyConnection,
        meta: ReleaseMeta,
        facets: Sequence[str],
        base: str | None,
        vectors: Vectors,
    ) -> None:
        """Fill with the outgoing tables of `prepare`, from the release `base` or, where it is None, from nothing.

        A copy keeps its vectors as the release does of which it is made.
        """
        self._catalogue, self._connection, self._meta = catalogue, connection, meta
        self._facets, self._base, self._vectors = facets, base, vectors

    def fill(self, kind: Kind) -> Load:
        """Make and load one index; what the server rejects goes to the table `rejected` and leaves the outgoing ones.

        Raises:
            RunError: the server does not take the documents.
        """
        client, index = self._catalogue.client, self._catalogue.index(kind, self._meta.name)
        self._copy(kind, index) if self._base else self._create(kind, index)
        rejected: list[Rejection] = []
        with loading(client, index):
            operations, total = self._operations(kind)
            loaded = load(client, index, operations, total, rejected.append)
            if rejected and self._base:  # the document that they would have replaced is no more to be found
                load(client, index, ((one.id, None) for one in rejected), len(rejected), _never)
        self._refuse(kind, rejected)
        return Load(index, **vars(loaded))

    def _operations(self, kind: Kind) -> tuple[Iterator[Operation], int]:
        if self._base:
            return updates(self._connection, kind, f"live_{kind}")
        return read_bodies(self._connection, kind), len(self._connection.table(f"outgoing_{kind}"))

    def _create(self, kind: Kind, index: str) -> None:
        body = index_body(kind, self._meta, self._facets, self._vectors)
        self._catalogue.client.indices.create(index=index, body=body)

    def _copy(self, kind: Kind, index: str) -> None:
        """Let the server copy the index (it links the files), and teach the copy what is new."""
        client, source = self._catalogue.client, self._catalogue.index(kind, self._base or "")
        body = index_body(kind, self._meta, self._facets)
        with _closed_for_writing(self._catalogue, source):
            client.indices.clone(index=source, target=index, body={"settings": {_BLOCK: None}}, request_timeout=COPYING)
        limits = {"mapping.total_fields.limit": body["settings"]["index"]["mapping.total_fields.limit"]}
        client.indices.put_settings(index=index, body={"index": limits})
        told, properties = body["mappings"]["_meta"], body["mappings"]["properties"]
        properties.pop("vector", None)
        client.indices.put_mapping(index=index, body={"_meta": told, "properties": properties})
        started = {"wait_for_status": "yellow", "timeout": f"{COPYING:.0f}s"}
        client.cluster.health(index=index, params=started, request_timeout=COPYING + 30)

    def _refuse(self, kind: Kind, rejected: Sequence[Rejection]) -> None:
        if not rejected:
            return
        told = {"id": [one.id for one in rejected], "reason": [one.reason for one in rejected]}
        self._connection.register("refused", pa.table(told))
        title = "outgoing.title" if kind == "items" else "NULL"
        insert, delete = _REFUSE.format(kind=kind, id=ID_COLUMNS[kind], title=title).split(";")
        self._connection.execute(insert, {"kind": _NAMES[kind]})
        self._connection.execute(delete)
        self._connection.unregister("refused")


@contextmanager
def _closed_for_writing(catalogue: Catalogue, index: str) -> Iterator[None]:
    """Close an index for writing, which a copy needs; searches go on."""
    catalogue.client.indices.put_settings(index=index, body={_BLOCK: True})
    try:
        yield
    finally:
        catalogue.client.indices.put_settings(index=index, body={_BLOCK: None})


def _never(rejection: Rejection) -> None:
    raise RunError(f"the server does not delete {rejection.id}: {rejection.reason}")
