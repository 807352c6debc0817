"""Our classes under Transformers' common tests; collected by `hf_common_tests.py`, which puts those on the path.

Three facts of ours are told to the tests here, none of which is a test left out:
- an image is a study of one view, so `pixel_values` has one axis more than the tests expect (B, V, C, H, W);
- words go in as `labels`, there is no `input_ids`;
- the setting that turns the mean of the pixels negative is `image_mean`: we have no `rescale_factor`.
"""

import os
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hf_tests import test_processing_common
from hf_tests.generation.test_utils import GenerationTesterMixin
from hf_tests.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin
from hf_tests.test_modeling_common import ModelTesterMixin
from hf_tests.test_processing_common import ProcessorTesterMixin
from PIL import Image

from radscribe import (
    CXRImageProcessor,
    MCSAMConfig,
    MCSAMForConditionalGeneration,
    MCSAMProcessor,
    UARConfig,
    UARForConditionalGeneration,
    UARProcessor,
)
from radscribe.processing.processing_text import build_tokenizer

_pixels = np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8)
Image.fromarray(_pixels).save(Path(os.environ["HF_COMMON_TESTS"]) / "film.png")
test_processing_common.MODALITY_TEST_SPECS["images"]["init_time_kwargs"] = {"image_mean": [2.0]}

SIZES = {"vocab_size": 30, "encoder_layers": 2, "max_views": 2}
DECODER = {"d_model": 16, "decoder_layers": 2, "decoder_ffn_dim": 32, "decoder_attention_heads": 2}
DECODER |= {"max_position_embeddings": 32}
RESNET = {"model_type": "resnet", "num_channels": 1, "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
VQ = {"model_type": "janus_vqgan", "embed_dim": 4, "num_embeddings": 24, "latent_channels": 8, "in_channels": 4}
VQ |= {"out_channels": 4, "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "num_patches": 4}


class StudyTester:
    """What the tests ask of a model: a configuration, a batch of studies, and the sizes of what comes out."""

    batch_size, seq_length, views = 3, 7, 2
    hidden_size, num_hidden_layers, num_attention_heads = 16, 2, 2
    decoder_seq_length = seq_length

    def __init__(self, config: dict[str, Any], kind: type, film: int, tokens: int) -> None:
        self.config, self.kind, self.film = config, kind, film
        self.encoder_seq_length = self.key_length = tokens * self.views
        self.decoder_key_length = self.seq_length
        self.is_training = True

    def get_config(self) -> Any:
        return self.kind(decoder=DECODER | {}, **SIZES, **self.config)

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        films = torch.rand(self.batch_size, self.views, 1, self.film, self.film)
        words = torch.randint(4, 30, (self.batch_size, self.seq_length))
        masks = {"view_mask": torch.ones(self.batch_size, self.views, dtype=torch.long)}
        masks["decoder_attention_mask"] = torch.ones_like(words)
        inputs = {"pixel_values": films, "decoder_input_ids": words} | masks
        return self.get_config(), inputs | {"input_ids": words}  # the name by which some tests change the words


class StudyModelTests(ModelTesterMixin, GenerationTesterMixin):
    is_encoder_decoder = True
    _is_composite = True
    additional_model_inputs = ["view_mask", "decoder_input_ids", "decoder_attention_mask"]

    def _prepare_for_class(self, inputs_dict: dict, model_class: type, return_labels: bool = False) -> dict:
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        words = inputs.pop("input_ids", None)
        return inputs | {"labels": words} if return_labels else inputs


class MCSAMModelTest(StudyModelTests, unittest.TestCase):
    all_model_classes = (MCSAMForConditionalGeneration,)

    def setUp(self) -> None:
        bank = {"memory_size": 12, "memory_dim": 10, "memory_top_k": 3, "memory_heads": 2}
        config = bank | {"encoder": RESNET, "sam_layers": 1, "num_prompts": 3}
        self.model_tester = StudyTester(config, MCSAMConfig, film=32, tokens=16)


class UARModelTest(StudyModelTests, unittest.TestCase):
    all_model_classes = (UARForConditionalGeneration,)

    def setUp(self) -> None:
        config = {"image_tokenizer": VQ, "image_size": 16, "basis_size": 32, "aligner_heads": 2, "refine": True}
        self.model_tester = StudyTester(config, UARConfig, film=16, tokens=16)


class StudyProcessorTests(ProcessorTesterMixin):
    text_input_name = "labels"

    @classmethod
    def _setup_tokenizer(cls) -> Any:
        return build_tokenizer(["lower newer", "upper older longer string"], min_frequency=1)

    @classmethod
    def _setup_image_processor(cls) -> Any:
        return CXRImageProcessor(size=32, num_channels=1, image_mean=[0.0], image_std=[1.0])


class MCSAMProcessorTest(StudyProcessorTests, unittest.TestCase):
    processor_class = MCSAMProcessor


class UARProcessorTest(StudyProcessorTests, unittest.TestCase):
    processor_class = UARProcessor


class CXRImageProcessingTester(ImageProcessingTester):
    def _get_image_processing_classes(self) -> dict[str, type]:
        return {"pil": CXRImageProcessor}

    def prepare_image_processor_dict(self) -> dict[str, Any]:
        return {"size": 32, "fit": "pad", "num_channels": 3, "image_mean": [0.5], "image_std": [0.25]}

    def expected_output_image_shape(self, images: Any) -> tuple[int, ...]:
        return (1, 3, 32, 32)  # (V, C, H, W)


class CXRImageProcessingTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = CXRImageProcessingTester
    test_cast_dtype = True
