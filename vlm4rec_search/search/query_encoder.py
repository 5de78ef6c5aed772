"""Encodes the texts of queries with the encoder that made a release, and with no other."""

from pathlib import Path

from vlm4rec_search.common import maven
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.search.model import Vector


class QueryEncoder:
    """Encodes the texts of queries with the encoder that made a release."""

    def __init__(self, made_by: str, wanted: str | None, weights_source: str = maven.CENTRAL) -> None:
        """Check that the wanted encoder made the release.

        Args:
            made_by: id of the encoder that made the release, <name>@<revision>.
            wanted: name, id or folder of the caller's encoder; None takes the one that made the release.
            weights_source: as in `load_sentence_encoder`.

        Raises:
            UsageError: they are different encoders.
        """
        self.made_by, self._weights_source = made_by, weights_source
        name = _split_id(made_by)[0]
        self._name = name if wanted in (None, made_by) else str(wanted)
        if self._name == name:
            return
        # The revision of an encoder in a folder is the hash of its weights, so that the folder may have another name.
        is_folder = Path(self._name).is_dir()
        if not is_folder or _split_id(load_sentence_encoder(self._name).id)[1] != _split_id(made_by)[1]:
            raise UsageError(
                f"the index was built by the encoder {made_by}, not by {wanted}: set VLM4REC_ENCODER to the first, or"
                " run `sqlmesh plan` and `vlm4rec index` for a new index"
            )

    def encode(self, text: str) -> Vector:
        """Return the unit vector of a text, float32 (d,).

        Raises:
            UsageError: the installed encoder has another revision than the one that made the release.
        """
        encoder = load_sentence_encoder(self._name, self._weights_source)
        revision = _split_id(encoder.id)[1]
        if revision != _split_id(self.made_by)[1]:
            raise UsageError(
                f"the index was built by the encoder {self.made_by}, but revision {revision} of it is installed here:"
                " publish again with `vlm4rec index`"
            )
        vector: Vector = encoder.encode([text])[0]
        return vector


def _split_id(encoder: str) -> tuple[str, str]:
    """Return name and revision of an encoder id."""
    name, _, revision = encoder.rpartition("@")
    return name or revision, revision
