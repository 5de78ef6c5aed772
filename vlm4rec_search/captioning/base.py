"""What a captioner is: a versioned prompt and one batch method from photos to sentences.

How the job around it calls it: at most `workers` calls of `caption` run at once, each on at most `batch_size` photos,
in threads of the job (`common.concurrency.run_concurrently`). What a call returns is committed as soon as it returns,
so that no result waits for a slower one and a killed run loses only the calls in flight. A local model has one worker
and larger batches; the client of a server has many workers and batches of one, and keeps limits and retries to itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL.Image import Image


@dataclass(frozen=True)
class Context:
    """What a captioner may be told about an item besides its photo: never file names or ids."""

    title: str = ""
    category: str = ""


@dataclass(frozen=True)
class Caption:
    """What was said of one photo, and what it took.

    Attributes:
        text: the description, one or more sentences.
        attributes: what a structured prompt found besides, such as {"colour": "navy"}; empty for a plain prompt.
        tokens_in: tokens of prompt and photo, 0 where the captioner counts none. Attempts whose answer was lost on its
            way are counted, too, as far as they are known.
        tokens_out: tokens of the answer, likewise.
        seconds: time of the call, a batch's time being shared out evenly.
        note: what has to be known of the text, such as that it was cut off; "" for nothing.
    """

    text: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    note: str = ""


class CaptionError(Exception):
    """One photo has no caption; the other photos have nothing to do with it.

    Attributes:
        status: refused (by the model or its provider), empty (an answer without words) or failed (anything else).
        text: what was answered all the same, "" for nothing.
        tokens_in, tokens_out: what the answer cost, as in `Caption`; 0 where that is not known.
    """

    def __init__(
        self,
        status: Literal["refused", "empty", "failed"],
        reason: str,
        text: str = "",
        tokens_in: int = 0,
        tokens_out: int = 0,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.text = text
        self.tokens_in = tokens_in
        self.tokens_out = tokens_out


class Captioner(ABC):
    """Describes photos. `id`, `prompt`, `decoding` and the rendered prompt are part of a caption's cache key.

    Attributes:
        id: name@revision; another revision is another captioner.
        prompt: id@version of the prompt.
        decoding: settings that change what the same photo and prompt give.
        batch_size: most photos that one call of `caption` should get.
        workers: most calls of `caption` that should run at once, from different threads.
        requests_per_minute, tokens_per_minute: limits that the captioner keeps to; None for none.
    """

    id: str
    prompt: str
    decoding: str = ""
    batch_size: int = 32
    workers: int = 1
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @abstractmethod
    def render(self, context: Context) -> str:
        """Return the prompt for one item; an item is captioned again only when this text changes."""

    @abstractmethod
    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        """Return, for each RGB photo and its rendered prompt, a caption or that photo's own failure.

        A failure is an exception in the list, mostly a `CaptionError`; it is not cached. With `workers` above 1 this
        method is called from several threads at once.

        Raises:
            UsageError, RunError: no photo can be captioned, such as by a model that cannot be loaded or a server that
                refuses the key; the run ends.
        """
