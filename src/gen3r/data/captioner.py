"""Captions from any model of transformers that turns images and text into text."""

from typing import Any

from PIL import Image

from gen3r.errors import InputError

QUESTION = "Describe this place in one sentence: what kind of place it is, what is in it, and the light."
LONGEST = 80  # tokens of a caption


class TransformersCaptioner:
    """An image -> its caption, by a model of transformers' task image-text-to-text, on the Hub or in a folder.

    prompt: the question to a chat model; for other models the beginning of the caption, or the word for the task.
    None: a question for the former, nothing for the latter. Decoding is greedy: the same image, the same caption.

    Raises:
        InputError: there is no such model, it has no safetensors, or its task is another one.
    """

    def __init__(self, model: str, prompt: str | None = None, device: str = "cpu") -> None:
        from transformers import pipeline

        try:
            self.pipe: Any = pipeline(
                "image-text-to-text", model=model, device=device, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            first = (str(error).strip() or repr(error)).splitlines()[0]
            raise InputError(
                f"{model} cannot be loaded as a model of the task image-text-to-text ({first}); choose another"
            ) from error
        self.chats = getattr(self.pipe.processor, "chat_template", None) is not None
        self.prompt = prompt if prompt is not None else QUESTION if self.chats else ""

    def __call__(self, picture: Image.Image) -> str:
        options = {"generate_kwargs": {"max_new_tokens": LONGEST, "do_sample": False}}
        if self.chats:
            content = [{"type": "image", "image": picture}, {"type": "text", "text": self.prompt}]
            answer = self.pipe(text=[{"role": "user", "content": content}], return_full_text=False, **options)
        else:
            answer = self.pipe(images=picture, text=self.prompt, **options)
        return str(answer[0]["generated_text"])
