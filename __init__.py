"""radscribe writes the findings of a chest X-ray report. Not a medical device.

Importing it registers its models and processors with the Auto classes of Transformers, and its pipeline.
"""

import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageTextToText, AutoProcessor

from .configuration.configuration_mcsam import MCSAMConfig
from .configuration.configuration_uar import UARConfig
from .modeling.modeling_mcsam import MCSAMForConditionalGeneration
from .modeling.modeling_uar import UARForConditionalGeneration
from .processing.augmentation_cxr import CXRAugmentation
from .processing.image_processing_cxr import CXRImageProcessor
from .processing.pipeline_report import ReportPipeline, register_pipeline
from .processing.processing_mcsam import MCSAMProcessor
from .processing.processing_uar import UARProcessor

__version__ = "0.1.0"

_auto_classes = [AutoModel, AutoModelForImageTextToText]
if hasattr(transformers, "AutoModelForVision2Seq"):  # 4.57 has it beside its successor, 5 no longer
    _auto_classes.append(transformers.AutoModelForVision2Seq)
for config, model, processor in (
    (MCSAMConfig, MCSAMForConditionalGeneration, MCSAMProcessor),
    (UARConfig, UARForConditionalGeneration, UARProcessor),
):
    AutoConfig.register(config.model_type, config, exist_ok=True)
    for auto_class in _auto_classes:
        auto_class.register(config, model, exist_ok=True)
    AutoImageProcessor.register(config, slow_image_processor_class=CXRImageProcessor, exist_ok=True)
    AutoProcessor.register(config, processor, exist_ok=True)

register_pipeline()

__all__ = [
    "CXRAugmentation",
    "CXRImageProcessor",
    "MCSAMConfig",
    "MCSAMForConditionalGeneration",
    "MCSAMProcessor",
    "ReportPipeline",
    "UARConfig",
    "UARForConditionalGeneration",
    "UARProcessor",
]
