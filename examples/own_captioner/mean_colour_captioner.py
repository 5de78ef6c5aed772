"""A captioner that names the mean colour of a photo, to show how a plug-in is written."""

from collections.abc import Sequence

from PIL.Image import Image

from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.common.settings import Settings


class MeanColourCaptioner(Captioner):
    """Describes each photo by its mean colour; `VLM4REC_CAPTIONER=mean-colour:shade` changes the noun to "shade"."""

    prompt = "category@1"
    understands = False  # it measures pixels, so that its captions are embedded after the title

    def __init__(self, argument: str, settings: Settings) -> None:
        self._noun = argument or "colour"
        self.id = f"mean-{self._noun}@1"

    def render(self, context: Context) -> str:
        return context.category

    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        return [Caption(self._describe(photo, category)) for photo, category in zip(photos, prompts, strict=True)]

    def _describe(self, photo: Image, category: str) -> str:
        mean = photo.resize((1, 1)).tobytes().hex()
        return f"An item of the category {category} with the mean {self._noun} #{mean}."
