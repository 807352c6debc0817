"""radscribe writes the findings of a chest X-ray report. Not a medical device.

Importing it registers its models and processors with the Auto classes of Transformers.
"""

import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageTextToText, AutoProcessor

from .configuration.configuration_mcsam import MCSAMConfig
from .modeling.modeling_mcsam import MCSAMForConditionalGeneration
from .processing.augmentation_cxr import CXRAugmentation
from .processing.image_processing_cxr import CXRImageProcessor
from .processing.processing_mcsam import MCSAMProcessor

__version__ = "0.1.0"

AutoConfig.register(MCSAMConfig.model_type, MCSAMConfig, exist_ok=True)
_auto_classes = [AutoModel, AutoModelForImageTextToText]
if hasattr(transformers, "AutoModelForVision2Seq"):  # 4.57 has it beside its successor, 5 no longer
    _auto_classes.append(transformers.AutoModelForVision2Seq)
for auto_class in _auto_classes:
    auto_class.register(MCSAMConfig, MCSAMForConditionalGeneration, exist_ok=True)
AutoImageProcessor.register(MCSAMConfig, slow_image_processor_class=CXRImageProcessor, exist_ok=True)
AutoProcessor.register(MCSAMConfig, MCSAMProcessor, exist_ok=True)

__all__ = [
    "CXRAugmentation",
    "CXRImageProcessor",
    "MCSAMConfig",
    "MCSAMForConditionalGeneration",
    "MCSAMProcessor",
]
