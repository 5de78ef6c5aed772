"""The shoppers who are forgotten: a file with a salted hash of each id, which the raw layer leaves out."""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.paths import replacing_file, write_lock
from vlm4rec_search.common.text_forms import normal_form

_WHOLE, _EXPONENT = re.compile(r"([0-9]{1,38})\.0+"), re.compile(r"[0-9](\.[0-9]+)?e\+[0-9]{1,3}")
_TOO_LARGE = 1 << 63  # staging leaves such a float as it is
REASON = "forgotten"
"""Why the raw layer refuses the rows of these shoppers."""


@dataclass(frozen=True)
class Forgotten:
    """The shoppers who are forgotten.

    Attributes:
        salt: stands before each id that is hashed.
        hashes: the sha256 of each id, in hex, with the day on which the shopper was added, such as 2026-03-01.
    """

    salt: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, user_id: object) -> bool:
        """Return whether an id, in any spelling that staging makes the same, belongs to such a shopper."""
        if not self.hashes or not isinstance(user_id, str):
            return False
        plain = normal_form(user_id)
        return any(_hash(self.salt, each) in self.hashes for each in {plain, _without_fraction(plain)})

    @property
    def version(self) -> str:
        """Names the set of shoppers, empty without any; a plan rebuilds the raw tables when it changes."""
        return hashlib.sha256("".join(sorted(self.hashes)).encode()).hexdigest()[:16] if self.hashes else ""

    def adding(self, user_ids: Iterable[str]) -> "Forgotten":
        """Return the set with further shoppers.

        Raises:
            UsageError: an id is empty.
        """
        salt = self.salt or secrets.token_hex(16)
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        ids = [_without_fraction(normal_form(each)) for each in user_ids]
        if not all(ids):
            raise UsageError("the id of a shopper is empty")
        return Forgotten(salt, {**{_hash(salt, each): today for each in ids}, **self.hashes})

    def joined(self, other: "Forgotten") -> "Forgotten":
        """Return the shoppers of both sets.

        Raises:
            UsageError: both have shoppers, and different salts: the same shopper would have another hash in each.
        """
        if not self.hashes or not other.hashes:
            return self if self.hashes else other
        if self.salt != other.salt:
            raise UsageError(
                "VLM4REC_FORGOTTEN: the list here and that of the backup began apart (different salts) and cannot"
                " become one: move the file away, restore, and add its shoppers again by their ids (`vlm4rec forget"
                " --user ID`)"
            )
        return Forgotten(self.salt, {**other.hashes, **self.hashes})


def load_forgotten(path: Path) -> Forgotten:
    """Read the file; a missing one forgets nobody.

    Raises:
        UsageError: the file is not one that `save_forgotten` wrote. A plan then has to stop.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        salt, hashes = content["salt"], content["shoppers"]
        if not (isinstance(salt, str) and all(len(each) == 64 for each in hashes) and isinstance(hashes, dict)):
            raise ValueError("it lacks the salt or a hash")
    except FileNotFoundError:
        return Forgotten()
    except (OSError, ValueError, TypeError, KeyError) as error:
        advice = "put the forgotten.json of a backup, which is a zip file, in its place"
        raise UsageError(f"VLM4REC_FORGOTTEN: {path} cannot be read ({error}): {advice}") from None
    return Forgotten(salt, hashes)


def save_forgotten(path: Path, forgotten: Forgotten) -> None:
    """Replace the file in one step.

    Raises:
        RunError: it cannot be written.
    """
    content = {"salt": forgotten.salt, "shoppers": dict(sorted(forgotten.hashes.items()))}
    try:
        with replacing_file(path) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def forgotten_lock(path: Path) -> Iterator[None]:
    """Keep other processes from changing the file while the block reads and saves it.

    Raises:
        RunError: the file beside it that is locked cannot be written.
    """
    with write_lock(path.with_name(f".{path.name}.lock"), str(path)):
        yield


def _hash(salt: str, user_id: str) -> str:
    return hashlib.sha256(f"{salt}{user_id}".encode()).hexdigest()


def _without_fraction(user_id: str) -> str:
    """Return 12 for 12.0, 0012.0 and 1.2e+1, as @without_fraction does for whole numbers that became floats."""
    if match := _WHOLE.fullmatch(user_id):
        return str(int(match[1]))
    if _EXPONENT.fullmatch(user_id) and (number := round(float(user_id))) < _TOO_LARGE:
        return str(number)
    return user_id
