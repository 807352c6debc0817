"""What report generators' configurations share: one source of the width, special words kept, one wording of checks."""

import pytest
from transformers import Dinov2Config, ResNetConfig

from radscribe.configuration.configuration_report import ReportConfig, make_decoder_config, make_visual_config

DECODER = {"d_model": 16, "decoder_layers": 3, "decoder_ffn_dim": 24, "decoder_attention_heads": 2}
SPECIAL = {"pad_token_id": 3, "bos_token_id": 4, "eos_token_id": 5, "decoder_start_token_id": 6}


@pytest.fixture
def config():
    return ReportConfig(decoder=DECODER, vocab_size=30, **SPECIAL)


def test_the_width_is_stated_once_in_the_decoder(config):
    config.decoder.d_model = 32
    assert config.d_model == config.hidden_size == 32


def test_the_longest_report_is_what_the_decoder_has_positions_for(config):
    config.decoder.max_position_embeddings = 9
    assert config.max_words == 9


@pytest.mark.parametrize("name", SPECIAL)
def test_special_words_are_those_of_the_outer_model(config, name):
    assert getattr(config, name) == getattr(config.decoder, name) == SPECIAL[name]


def test_an_encoder_decoder_cannot_be_talked_out_of_it():
    assert ReportConfig(decoder=DECODER, is_encoder_decoder=False).is_encoder_decoder


def test_missing_sizes_of_the_decoder_come_from_the_model():
    decoder = make_decoder_config({"d_model": 64}, DECODER, 30, SPECIAL)
    assert (decoder.d_model, decoder.decoder_layers) == (64, 3)


def test_the_decoders_own_number_of_words_does_not_count():
    assert make_decoder_config(DECODER | {"vocab_size": 99}, {}, 30, SPECIAL).vocab_size == 30


def test_the_caches_count_the_decoders_layers():
    assert make_decoder_config(DECODER | {"encoder_layers": 7}, {}, 30, SPECIAL).num_hidden_layers == 3


def test_no_backbone_is_a_resnet():
    assert type(make_visual_config(None)) is ResNetConfig


def test_a_backbone_dict_becomes_its_class():
    assert make_visual_config({"model_type": "dinov2", "hidden_size": 12}).hidden_size == 12


def test_a_backbone_configuration_is_taken_as_it_is():
    backbone = Dinov2Config()
    assert make_visual_config(backbone) is backbone


def test_a_field_that_is_too_small_is_named_with_its_bound(config):
    with pytest.raises(ValueError, match=r"^`max_views` must be at least 3. Got 2\.$"):
        config.check_at_least(3, "encoder_layers", "max_views")


def test_a_width_that_heads_do_not_divide_is_named_with_them(config):
    with pytest.raises(ValueError, match=r"^`d_model` \(16\) must be a multiple of `memory_heads`. Got 5\.$"):
        config.check_width(memory_heads=5)
