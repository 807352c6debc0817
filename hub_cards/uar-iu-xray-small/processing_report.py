"""`ReportProcessor`: films and reports of B studies to a model's inputs, and generated word ids back to sentences.

Shapes: B studies, V views, C channels, T words. `pixel_values` (B, V, C, H, W) and `view_mask` (B, V) come from the
image processor, `labels` (B, T) from the reports. Reports are cleaned first (R2Gen's rules, processing_text), because
the vocabulary is one of cleaned words.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin

from .image_processing_cxr import CXRImageProcessorKwargs
from .processing_text import clean_report, restore_report, save_tokenizer

IGNORED_LABEL = -100  # what PyTorch's cross-entropy skips


class ReportProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]
    """Keywords of one call; Transformers merges them with these defaults and the tokenizer's own.

    The type checker does not read Transformers, so it cannot know that this is a typed dictionary.
    """

    images_kwargs: CXRImageProcessorKwargs
    _defaults = {
        "text_kwargs": {"padding": True, "truncation": True, "add_special_tokens": True},
    }


class ReportProcessor(ProcessorMixin):
    r"""
    One object for all that stands before and after a model. Each model has a subclass of its own name, which is what
    AutoProcessor finds.

    Args:
        image_processor (`CXRImageProcessor`): films to pixels.
        tokenizer (`PreTrainedTokenizerFast`): of `build_tokenizer`, or any that ends a text with its end token.
        max_length (`int`): tokens of a report, counting the start token that labels do not hold (R2Gen: 60 for IU
            X-ray, 100 for MIMIC-CXR).
        report_style (`str`): cleaning rules, "iu" or "mimic".
    """

    attributes = ["image_processor", "tokenizer"]
    valid_processor_kwargs = ReportProcessorKwargs
    if hasattr(ProcessorMixin, "attributes"):  # Transformers 4.57 asks for these; 5.x calls them deprecated
        image_processor_class = "AutoImageProcessor"
        tokenizer_class = "AutoTokenizer"

    def __init__(
        self, image_processor: Any, tokenizer: Any, max_length: int = 60, report_style: str = "iu", **kwargs: Any
    ):
        clean_report("", report_style)  # refuses an unknown style now, not at the first report
        if max_length < 2:
            raise ValueError(f"`max_length` must be at least 2 (start token and one word). Got {max_length}.")
        self.max_length = max_length
        self.report_style = report_style
        super().__init__(image_processor, tokenizer, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        return [*self.image_processor.model_input_names, "labels"]

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Films, reports or both -> `pixel_values` (B, V, C, H, W), `view_mask` (B, V), `labels` (B, T).

        Args:
            images: one image, a list (that many studies of one view) or a list of lists (studies of several views).
            text: the report of each study, as written; a string for one study.
            kwargs: `return_tensors`; `max_length`, `padding`, `truncation`, `add_special_tokens` for reports; settings
                of the image processor for films. Flat, or in `common_kwargs`, `text_kwargs` and `images_kwargs`.

        Raises:
            ValueError: neither is given, or their numbers differ; see also `CXRImageProcessor.preprocess`.
        """
        if images is None and text is None:
            raise ValueError(f"`{type(self).__name__}` needs `images`, `text` or both. Got neither.")
        merged = self._merge_kwargs(
            ReportProcessorKwargs,
            tokenizer_init_kwargs=self.tokenizer.init_kwargs,
            **kwargs,
        )
        data: dict[str, Any] = {}
        if images is not None:
            data.update(self.image_processor(images, **merged["images_kwargs"]))
        if text is not None:
            reports = [text] if isinstance(text, str) else list(text)
            if not reports:
                raise ValueError("`text` is an empty list: give one report for each study, or `None`.")
            if images is not None and len(reports) != len(data["pixel_values"]):
                raise ValueError(
                    f"`text` must hold one report for each study. Got {len(reports)} for {len(data['pixel_values'])} "
                    "studies (a list of images is that many studies; views of one study go in a list of their own)."
                )
            data["labels"] = self._make_labels(reports, merged["text_kwargs"])
        kind = "images_kwargs" if text is None else "text_kwargs"
        return BatchFeature(data, tensor_type=merged[kind].get("return_tensors"))

    def _make_labels(self, reports: list[str], settings: dict[str, Any]) -> Any:
        """Reports -> label ids (B, T), padded with -100; a list of lists with `padding=False`."""
        cleaned = [clean_report(report, self.report_style) for report in reports]
        ids = self.tokenizer(cleaned, add_special_tokens=settings["add_special_tokens"])["input_ids"]
        # As R2Gen's `ids[:max_seq_length]`: the start token takes one place, and of a longer report the end token is
        # cut off, so the model is not taught to end where we cut.
        length = (settings.get("max_length") or self.max_length) - 1
        if settings["truncation"]:
            ids = [row[:length] for row in ids]
        if not settings["padding"]:
            return ids
        width = max(map(len, ids)) if settings["padding"] != "max_length" else max(length, *map(len, ids))
        labels = np.full((len(ids), width), IGNORED_LABEL, np.int64)  # (B, T)
        for row, report in zip(labels, ids, strict=True):
            row[: len(report)] = report
        return labels

    def encode_prompt(self, text: str) -> list[int]:
        """The beginning of a report -> its word ids, without start or end token; [] for a blank text.

        Raises:
            ValueError: words that the vocabulary lacks.
        """
        words = clean_report(text, self.report_style).split()
        if words and words[-1] == "." and not text.rstrip().endswith("."):
            words.pop()  # cleaning ends every sentence, this one goes on
        ids = self.tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]
        known = self.tokenizer.get_vocab()
        if self.tokenizer.unk_token_id in ids:
            lacking = ", ".join(word for word in words if word not in known)
            raise ValueError(f"`text` must be in words of the model's vocabulary. It lacks: {lacking}.")
        return ids

    def decode(self, token_ids: Any, skip_special_tokens: bool = True, clean: bool = False, **kwargs: Any) -> str:
        """Word ids (T,) of one report -> sentences a person would read: up to the end token, without padding or -100.

        Args:
            skip_special_tokens: `False` gives the bare tokens, for a look at what the model wrote.
            clean: `True` gives the form that is scored: lower case, words and `.` joined by one space, `<unk>` kept
                (R2Gen counts it as a word; a reader is spared it).
            kwargs: for the tokenizer's own `decode`.
        """
        ids = np.asarray(token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids).reshape(-1).tolist()
        if not skip_special_tokens:
            return self.tokenizer.decode([i for i in ids if i >= 0], **kwargs)
        words = self._keep_words(ids, keep_unknown=clean)
        text = " ".join(self.tokenizer.decode(words, **kwargs).split())
        return text if clean else restore_report(text)

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = True, clean: bool = False, **kwargs: Any
    ) -> list[str]:
        """Word ids (B, T), or lists of any lengths -> B reports; see `decode`."""
        return [self.decode(row, skip_special_tokens, clean, **kwargs) for row in sequences]

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """What `generate` returned, (B, T) or (T,) -> B reports, or 1; the name that Transformers' pipelines call."""
        rows = generated_outputs[None] if getattr(generated_outputs, "ndim", 2) == 1 else generated_outputs
        return self.batch_decode(rows, skip_special_tokens=skip_special_tokens, **kwargs)

    def _keep_words(self, ids: list[int], keep_unknown: bool) -> list[int]:
        """Ids without start token, padding and -100, up to the end token."""
        tokenizer, words = self.tokenizer, []
        skipped = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
        if not keep_unknown:
            skipped.add(tokenizer.unk_token_id)
        for index, token in enumerate(ids):
            if token == tokenizer.eos_token_id and index > 0:  # a first one is a start token, as in BART
                break
            if token >= 0 and token not in skipped:
                words.append(token)
        return words

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Save so that both Transformers 4.57 and 5.x load the folder, whichever wrote it.

        5.x nests the image settings in processor_config.json, where 4.57 does not look, and names its tokenizer class
        by a word that 4.57 does not know. So the settings get the file of their own too, and the name is mended.
        """
        files = super().save_pretrained(save_directory)
        self.image_processor.save_pretrained(save_directory)
        save_tokenizer(self.tokenizer, save_directory)
        if push_to_hub:  # by way of `push_to_hub`, which calls this method: what is uploaded is mended too
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        return files
