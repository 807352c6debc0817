"""radscribe writes the findings of a chest X-ray report. Not a medical device.

Importing it registers its models with the Auto classes of Transformers.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from .configuration.configuration_mcsam import MCSAMConfig
from .modeling.modeling_mcsam import MCSAMForConditionalGeneration

__version__ = "0.1.0"

AutoConfig.register(MCSAMConfig.model_type, MCSAMConfig)
for auto_class in (AutoModel, AutoModelForImageTextToText):
    auto_class.register(MCSAMConfig, MCSAMForConditionalGeneration)

__all__ = ["MCSAMConfig", "MCSAMForConditionalGeneration"]
