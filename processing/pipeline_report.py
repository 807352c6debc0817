"""`pipeline("image-to-text")` for report generators: films to `[{"generated_text": ...}]`.

An image is a study of one view; a list of images is that many studies; a list of lists is studies of several views
(a Pillow image, a path, a URL, an array). A generator or data set of these is streamed through.

It runs with this package imported (`register_pipeline`) and from a Hub repository by `custom_pipelines`.
"""

from typing import Any

import numpy as np
import torch
from transformers import Pipeline
from transformers import pipelines as stock
from transformers.image_utils import load_image

TASK = "image-to-text"
REDIRECTS = hasattr(stock, "_resolve_deprecated_task")  # 5.x sends the task to "image-text-to-text"; 4.57 has it


def register_pipeline() -> None:
    """Let `pipeline("image-to-text")` reach `ReportPipeline`, in this process.

    Models that are not report generators get the pipeline that they had (`ReportPipeline.__new__`), other tasks are
    untouched.
    """
    if REDIRECTS:
        resolve = stock._resolve_deprecated_task
        # The redirection comes before the registry is asked, so registering alone would change nothing.
        stock._resolve_deprecated_task = lambda task: task if task == TASK else resolve(task)
    tasks = stock.PIPELINE_REGISTRY.supported_tasks
    tasks[TASK] = tasks["image-text-to-text" if REDIRECTS else TASK] | {"impl": ReportPipeline}


class ReportPipeline(Pipeline):
    """Studies in, reports out. For models whose processor has `max_views` beside them in the configuration."""

    _load_processor = True
    # The stock pipeline of 4.57 asks for these two, and takes over for models that are not ours.
    _load_image_processor = _load_tokenizer = not REDIRECTS
    _load_feature_extractor = False

    def __new__(cls, model: Any, task: str = "", **kwargs: Any) -> Any:
        """Ours for models that take studies of views, the stock pipeline for all others."""
        if hasattr(model.config, "max_views"):
            return super().__new__(cls)
        if REDIRECTS:
            return stock.ImageTextToTextPipeline(model=model, task="image-text-to-text", **kwargs)
        kwargs.pop("processor", None)
        return stock.ImageToTextPipeline(model=model, task=task, **kwargs)

    def _sanitize_parameters(
        self, generate_kwargs: dict | None = None, max_new_tokens: int | None = None, timeout: float | None = None
    ) -> tuple[dict, dict, dict]:
        forward = dict(generate_kwargs or {})
        if max_new_tokens is not None:
            if "max_new_tokens" in forward:
                raise ValueError("`max_new_tokens` stands beside and within `generate_kwargs`. Give it once.")
            forward["max_new_tokens"] = max_new_tokens
        return ({} if timeout is None else {"timeout": timeout}), forward, {}

    def __call__(self, images: Any, **kwargs: Any) -> Any:
        """Reports of one study (a list of dicts), or a list or stream of such.

        Args:
            images: see the module's head.
            kwargs: `generate_kwargs`, `max_new_tokens`, `batch_size`, `num_workers`, `timeout` of URLs in seconds.

        Raises:
            ValueError: more views than the model takes, or what the image processor says of a film.
        """
        return super().__call__(images, **kwargs)

    def preprocess(self, study: Any, timeout: float | None = None) -> dict[str, torch.Tensor]:
        """One study to `pixel_values` (1, V, C, H, W) and `view_mask` (1, V), V the model's `max_views`."""
        films = list(study) if isinstance(study, (list, tuple)) else [study]
        most = self.model.config.max_views
        if len(films) > most:
            raise ValueError(
                f"A study has at most {most} views for this model. Got a list of {len(films)} images in a list."
            )
        films = [film if isinstance(film, (np.ndarray, torch.Tensor)) else load_image(film, timeout) for film in films]
        inputs = self.processor(images=[films], return_tensors="pt")
        # Batches are concatenated as they are: every study gets the same number of views, the missing ones masked.
        return {name: _pad_views(tensor, most) for name, tensor in inputs.items()}

    def _forward(self, model_inputs: dict[str, torch.Tensor], **generate_kwargs: Any) -> dict[str, torch.Tensor]:
        studies = len(model_inputs["view_mask"])
        model_inputs = {name: model_inputs[name] for name in ("pixel_values", "view_mask")}
        model_inputs["pixel_values"] = model_inputs["pixel_values"].to(self.model.dtype)
        ids = self.model.generate(**model_inputs, **generate_kwargs)
        return {"ids": ids.view(studies, -1, ids.shape[-1])}  # (B, reports of each, T)

    def postprocess(self, model_outputs: dict[str, torch.Tensor]) -> list[dict[str, str]]:
        """One study's ids (1, reports, T) -> its reports."""
        return [{"generated_text": report} for report in self.processor.batch_decode(model_outputs["ids"][0])]


def _pad_views(tensor: torch.Tensor, views: int) -> torch.Tensor:
    """(1, V, ...) -> (1, views, ...), zeros behind."""
    missing = tensor.new_zeros(1, views - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, missing], dim=1)
