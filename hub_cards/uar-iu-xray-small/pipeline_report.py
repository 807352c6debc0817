"""`pipeline("image-to-text")` for report generators: films to `[{"generated_text": ...}]`.

An image is a study of one view; a list of images is that many studies; a list of lists is studies of several views
(a Pillow image, a path, a URL, an array). A generator or data set of these is streamed through.
"image-text-to-text" is the same with `text`, the beginning of the reports ("" for none).

It runs with this package imported (`register_pipeline`) and from a Hub repository by `custom_pipelines`.
"""

import urllib.request
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from transformers import Pipeline
from transformers import pipelines as stock
from transformers.dynamic_module_utils import custom_object_save

from .image_processing_cxr import open_picture
from .processing_report import ReportProcessor

TASK = "image-to-text"
TEXT_TASK = "image-text-to-text"
ELDER = hasattr(stock, "ImageToTextPipeline")  # 4.57; 5.x has the second task alone and sends the first one there
_ADDRESSES = ("http://", "https://", "file://", "data:")


def register_pipeline() -> None:
    """Let `pipeline("image-to-text")` and `pipeline("image-text-to-text")` reach `ReportPipeline`, in this process.

    Models that are not report generators get the pipeline that they had (`ReportPipeline.__new__`), other tasks are
    untouched.
    """
    tasks = stock.PIPELINE_REGISTRY.supported_tasks
    tasks[TASK] = tasks[TASK if ELDER else TEXT_TASK] | {"impl": _PipelineOfParts if ELDER else ReportPipeline}
    tasks[TEXT_TASK] = tasks[TEXT_TASK] | {"impl": ReportPipeline}
    if _redirect is not None:
        # It is asked before the registry, so registering alone would change nothing.
        stock._resolve_deprecated_task = lambda task: task if task == TASK else _redirect(task)


_redirect = getattr(stock, "_resolve_deprecated_task", None)


class ReportPipeline(Pipeline):
    """Studies in, reports out. For models whose processor has `max_views` beside them in the configuration."""

    # What the stock pipeline of "image-text-to-text" loads, which takes over for models that are not ours.
    _load_processor = True
    _load_image_processor = _load_tokenizer = _load_feature_extractor = False
    # 5.x would take our image processor's remote code for one of videos, and ask the user for leave to run it.
    _load_video_processor = False

    def __new__(cls, model: Any = None, task: str = "", **kwargs: Any) -> Any:
        """Ours for models that take studies of views, the stock pipeline for all others."""
        if model is None or hasattr(model.config, "max_views"):  # without a model where it is copied or unpickled
            return super().__new__(cls)
        if ELDER and task == TASK:
            return stock.ImageToTextPipeline(model=model, task=task, **kwargs)
        task = task if _redirect is None else _redirect(task)  # with its warning
        return stock.ImageTextToTextPipeline(model=model, task=task, **kwargs)

    def __init__(
        self, *args: Any, processor: Any = None, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any
    ) -> None:
        if processor is None:
            if image_processor is None or tokenizer is None:
                raise ValueError("Give the model's `processor`, or its `image_processor` and `tokenizer`.")
            processor = ReportProcessor(image_processor, tokenizer)
        super().__init__(*args, processor=processor, **kwargs)

    def _sanitize_parameters(
        self,
        text: Any = None,
        generate_kwargs: dict | None = None,
        max_new_tokens: int | None = None,
        timeout: float | None = None,
    ) -> tuple[dict, dict, dict]:
        if not isinstance(generate_kwargs, (dict, type(None))):
            raise ValueError(f"`generate_kwargs` must be a mapping of names to values. Got {generate_kwargs!r}.")
        forward = dict(generate_kwargs or {})
        if max_new_tokens is not None:
            if "max_new_tokens" in forward:
                raise ValueError("`max_new_tokens` stands beside and within `generate_kwargs`. Give it once.")
            forward["max_new_tokens"] = max_new_tokens
        record = {}
        if text is not None:
            beginning = _one_text(text)
            forward["prompt"] = self.processor.encode_prompt(beginning)
            record = {"input_text": beginning} if self.task == TEXT_TASK else {}
        return ({} if timeout is None else {"timeout": timeout}), forward, record

    def __call__(self, images: Any = None, text: str | list[str] | None = None, **kwargs: Any) -> Any:
        """Reports of one study (a list of dicts), or a list or stream of such.

        Args:
            images: see the module's head.
            text: beginning of all reports of this call, in words of the model's vocabulary.
            kwargs: `generate_kwargs`, `max_new_tokens`, `batch_size`, `num_workers`, `timeout` of URLs in seconds.

        Raises:
            ValueError: no films, more views than the model takes, several texts, unknown words, or what the image
                processor says of a film.
        """
        if images is None:
            raise ValueError("`images` is missing: this model reports on films, it takes no text alone and no chat.")
        if isinstance(images, (list, tuple)):
            if not images:
                return []
            images = list(images)
        elif isinstance(images, Iterator):
            images = (study for study in images)  # of iterators the base class streams generators alone
        return super().__call__(images, **kwargs | ({} if text is None else {"text": text}))

    def preprocess(self, study: Any, timeout: float | None = None) -> dict[str, torch.Tensor]:
        """One study to `pixel_values` (1, V, C, H, W) and `view_mask` (1, V), V the model's `max_views`."""
        films = list(study) if isinstance(study, (list, tuple)) else [study]
        most = self.model.config.max_views
        if len(films) > most:
            raise ValueError(
                f"A study has at most {most} views for this model. Got a list of {len(films)} images in a list."
            )
        # Transformers' `load_image` would turn films to 8 bit colours; paths and the like are the processor's to read.
        films = [_fetch(film, timeout) if _is_address(film) else film for film in films]
        inputs = self.processor(images=[films], return_tensors="pt")
        # Batches are concatenated as they are: every study gets the same number of views, the missing ones masked.
        return {name: _pad_views(tensor, most) for name, tensor in inputs.items()}

    def _forward(
        self, model_inputs: dict[str, torch.Tensor], prompt: list[int] | None = None, **generate_kwargs: Any
    ) -> dict[str, torch.Tensor]:
        studies = len(model_inputs["view_mask"])
        inputs = {name: model_inputs[name] for name in ("pixel_values", "view_mask")}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        if prompt:
            words = torch.tensor([[self.model.config.decoder_start_token_id, *prompt]], device=self.model.device)
            inputs["decoder_input_ids"] = words.expand(studies, -1)  # (B, T)
        ids = self.model.generate(**inputs, **generate_kwargs | {"return_dict_in_generate": False})
        return {"ids": ids.view(studies, -1, ids.shape[-1])}  # (B, reports of each, T)

    def postprocess(self, model_outputs: dict[str, torch.Tensor], **record: str) -> list[dict[str, str]]:
        """One study's ids (1, reports, T) -> its reports."""
        reports = self.processor.batch_decode(model_outputs["ids"][0])
        return [record | {"generated_text": report} for report in reports]

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """The model and its whole processor, whose own settings the base class forgets."""
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)
        if type(self).__module__.startswith("transformers_modules"):
            custom_object_save(self, save_directory)  # remote code: the folder's settings name this very file


class _PipelineOfParts(ReportPipeline):
    """The same, loading what the stock "image-to-text" of 4.57 loads."""

    _load_processor = False
    _load_image_processor = _load_tokenizer = True


def _one_text(text: Any) -> str:
    """The one beginning of all reports: batches are of one length."""
    texts = [text] if isinstance(text, str) else list(text)
    if not texts or not all(isinstance(item, str) and item == texts[0] for item in texts):
        raise ValueError("`text` must be one text for all films of a call (call once for each). Got several.")
    return texts[0]


def _is_address(film: Any) -> bool:
    return isinstance(film, str) and film.lower().startswith(_ADDRESSES)


def _fetch(address: str, timeout: float | None) -> Image.Image:
    """The image or DICOM film at a URL (or in a `data:` one), as it is there."""
    limit: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    try:
        with urllib.request.urlopen(address, **limit) as answer:
            return open_picture(answer.read(), "it")
    except (OSError, ValueError) as error:  # no such host, no such file, no image
        raise ValueError(f"No image at `{address[:100]}`: {error}") from error


def _pad_views(tensor: torch.Tensor, views: int) -> torch.Tensor:
    """(1, V, ...) -> (1, views, ...), zeros behind."""
    missing = tensor.new_zeros(1, views - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, missing], dim=1)
from .processing_text import __doc__ as _  # noqa
from .dicom_film import __doc__ as _  # noqa
