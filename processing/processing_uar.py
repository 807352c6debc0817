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

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any):
        super().__init__(image_processor or CXRImageProcessor.from_preset("uar"), tokenizer, **kwargs)
