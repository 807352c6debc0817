"""`UARProcessor`: films and reports to the inputs of UAR, and generated word ids back to sentences.

The paper's geometry is that of `CXRImageProcessor.from_preset("uar")` (test films resized straight to 112x112, pixels
left in [0, 1], because the image tokenizer maps them itself) and, in training, `CXRAugmentation.from_preset("uar")`
(resized to 128x128, a random crop of 112x112).
"""

from typing import Any

from .image_processing_cxr import CXRImageProcessor
from .processing_report import ReportProcessor


class UARProcessor(ReportProcessor):
    """See `ReportProcessor`; without an image processor the paper's geometry is taken."""

    # Each argument by name: what Transformers saves and loads is what stands in this line.
    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        max_length: int = 60,
        report_style: str = "iu",
        **kwargs: Any,
    ):
        images = image_processor or CXRImageProcessor.from_preset("uar")
        super().__init__(images, tokenizer, max_length, report_style, **kwargs)
from .processing_text import __doc__ as _  # noqa
from .dicom_film import __doc__ as _  # noqa
