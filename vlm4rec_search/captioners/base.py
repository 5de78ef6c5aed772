"""What a captioner is: a versioned prompt and one batch method from photos to sentences."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from PIL.Image import Image


@dataclass(frozen=True)
class Context:
    """What a captioner may be told about an item besides its photo: never file names or ids."""

    title: str = ""
    category: str = ""


class Captioner(ABC):
    """Describes photos. `id`, `prompt`, `decoding` and the rendered prompt are part of a caption's cache key."""

    id: str  # name@revision
    prompt: str  # id and version of the prompt
    decoding: str = ""  # settings that change what the same photo and prompt give
    batch_size: int = 32

    @abstractmethod
    def render(self, context: Context) -> str:
        """Return the prompt for one item; an item is captioned again only when this text changes."""

    @abstractmethod
    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[str]:
        """Return one caption for each RGB photo and its rendered prompt."""
