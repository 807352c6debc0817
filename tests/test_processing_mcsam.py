"""MCSAM's processor: the shared one under the name that the Auto class finds; the rest: test_processing_report.py."""

import pytest
from transformers import AutoProcessor

from radscribe import CXRImageProcessor, MCSAMConfig, MCSAMProcessor
from radscribe.processing.processing_report import ReportProcessor
from radscribe.processing.processing_text import build_tokenizer


@pytest.fixture
def processor():
    tokenizer = build_tokenizer(["Heart size normal. No effusion."], min_frequency=1)
    return MCSAMProcessor(CXRImageProcessor(size=32), tokenizer, max_length=12)


def test_it_is_a_report_processor(processor):
    assert isinstance(processor, ReportProcessor)


def test_the_auto_class_finds_it_beside_a_configuration_of_mcsam(processor, tmp_path):
    MCSAMConfig(vocab_size=len(processor.tokenizer)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is MCSAMProcessor and loaded.max_length == 12
