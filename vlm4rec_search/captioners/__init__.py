"""Captioners by name."""

from functools import cache

from vlm4rec_search.captioners.base import Captioner, Context
from vlm4rec_search.errors import UsageError

__all__ = ["Captioner", "Context", "load_captioner"]


@cache
def load_captioner(name: str) -> Captioner:
    """Return the captioner of that name (`VLM4REC_CAPTIONER`).

    Raises:
        UsageError: there is no such captioner.
    """
    if name == "attributes":
        from vlm4rec_search.captioners.attributes import AttributeCaptioner

        return AttributeCaptioner()
    raise UsageError(f"unknown captioner {name!r}: VLM4REC_CAPTIONER can be attributes")
