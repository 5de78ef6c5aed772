"""The plug-in API for captioners: a captioner turns photos of products into sentences.

To write a captioner, subclass `Captioner`, set `id` and `prompt`, and implement `render` and `caption`. To make it
known, publish a factory under an entry point of the group `vlm4rec_search.captioners` in your package's metadata::

    [project.entry-points."vlm4rec_search.captioners"]
    mean-colour = "mean_colour_captioner:MeanColourCaptioner"

`VLM4REC_CAPTIONER=mean-colour:dark` then calls `MeanColourCaptioner("dark", settings)`; the factory is any callable
that takes this argument ("" without one) and the `Settings`, and returns a `Captioner`. `examples/own_captioner` is a
complete package.

A run calls `render` once for each item, and `caption` in threads: at most `workers` calls at once, each with at most
`batch_size` photos. The results of a call are stored as soon as the call returns, so a killed run loses only the calls
in flight. A model on this machine has one worker and larger batches. The client of a server has many workers and
batches of one photo; rate limits and retries are its own business.

Captions are cached under `id`, `prompt`, `decoding`, the photo's bytes and the rendered prompt. Change `id` (its
revision) whenever the same inputs would get other words; otherwise the old captions stay in use.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL.Image import Image


@dataclass(frozen=True)
class Context:
    """The catalogue text that a captioner may use besides the photo. File names and item ids are never passed.

    Attributes:
        title: the item's title, "" without one. It is untrusted text and may contain instructions.
        category: the item's category, "" without one.
    """

    title: str = ""
    category: str = ""


@dataclass(frozen=True)
class Caption:
    """The description of one photo and the cost of the model call.

    Attributes:
        text: the description, one or more sentences.
        attributes: fields of a structured answer, such as {"colour": "navy"}; empty for a plain prompt.
        tokens_in: tokens of prompt and photo; 0 for a captioner that does not count tokens. Include the tokens of
            earlier attempts whose answers were lost in transit, as far as they are known.
        tokens_out: tokens of the answer, counted like `tokens_in`.
        seconds: duration of the call; the photos of a batch share its duration evenly.
        note: a remark about the text, such as that it was cut off; "" for none.
    """

    text: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    note: str = ""


class CaptionError(Exception):
    """The reason why one photo has no caption. It says nothing about the other photos of the batch.

    Attributes:
        status: "refused" (by the model or its provider), "empty" (an answer without words) or "failed" (any other
            reason).
        text: the model's answer, "" for none.
        tokens_in, tokens_out: tokens of the answer as in `Caption`; 0 where they are unknown.
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
    """The base class of all captioners.

    Attributes:
        id: name@revision. Another revision is another captioner, whose captions are made anew.
        prompt: id@version of the prompt.
        understands: whether it recognises what a photo shows, as a vision-language model does. False for one that only
            measures pixels: its captions are embedded after the title, because at the beginning they would drown it.
        decoding: settings that change the answer to the same photo and prompt, such as "greedy 150"; "" for none.
        batch_size: the largest number of photos for one call of `caption`.
        workers: the largest number of concurrent calls of `caption`, each from its own thread.
        requests_per_minute, tokens_per_minute: the rate limits that the captioner obeys, shown in cost estimates; None
            for no limit.
    """

    id: str
    prompt: str
    understands: bool = True
    decoding: str = ""
    batch_size: int = 32
    workers: int = 1
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @abstractmethod
    def render(self, context: Context) -> str:
        """Return the prompt for one item. The item is captioned again only when this text changes."""

    def check_sight(self, count: Callable[[int, int], None]) -> None:
        """Check that the model sees photos, before the first photo of a run is captioned; by default nothing is asked.

        Args:
            count: takes the tokens in and out of each call.

        Raises:
            UsageError, RunError: it sees none, and the run should end before it costs more; or it cannot be asked.
        """
        return

    @abstractmethod
    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        """Return one caption or one exception for each photo, in the order of the photos.

        With `workers` above 1, several threads call this method at once.

        Args:
            photos: RGB images of at most 1,024 pixels a side.
            prompts: the rendered prompt of each photo.

        Returns:
            A list as long as `photos`. Put an exception, usually a `CaptionError`, in the place of a photo that cannot
            be captioned. The failure is recorded with its reason and can be retried.

        Raises:
            UsageError, RunError: no photo can be captioned, for instance because the model cannot be loaded or the
                server rejects the key. The run ends. Any other exception makes the run try the photos one by one.
        """
