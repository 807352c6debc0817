"""UAR's configuration: the paper's numbers, round trips with either film reader, sizes that cannot work refused."""

import json
import re

import pytest
from transformers import AutoConfig, ResNetConfig
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.janus.configuration_janus import JanusVQVAEConfig

from radscribe import UARConfig
from radscribe.configuration.configuration_image_tokenizer import VisualWordsConfig

VQ = {"model_type": "janus_vqgan", "in_channels": 16, "out_channels": 16, "channel_multiplier": [2, 2]}
VQ |= {"num_embeddings": 24, "embed_dim": 4, "num_patches": 4}
DALLE = {"model_type": "flava_image_codebook", "hidden_size": 4, "vocab_size": 20}
RESNET = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
WORDS = {"model_type": "visual_words", "encoder": RESNET, "num_embeddings": 24, "feature_width": 8, "step": 8}
DECODER = {"d_model": 16, "decoder_layers": 2, "decoder_ffn_dim": 24, "decoder_attention_heads": 2}
CHANGES = {
    "decoder": DECODER | {"dropout": 0.3, "max_position_embeddings": 64},
    "vocab_size": 30,
    "image_size": 32,
    "max_views": 3,
    "encoder_layers": 2,
    "basis_size": 12,
    "basis": "uniform",
    "fusion": "addition",
    "aligner_heads": 4,
    "alignment_weight": 0.5,
    "margin": 0.3,
    "negatives": "semi_hard",
    "mask_scale": 10.0,
    "mask_weight": 0.25,
    "loss_reduction": "sum",
    "initializer_range": 0.05,
    "tie_word_embeddings": True,
    "pad_token_id": 3,
    "bos_token_id": 4,
    "eos_token_id": 5,
    "decoder_start_token_id": 6,
}
READERS = {
    "vq": {"image_tokenizer": VQ, "refine": True},
    "dalle": {"image_tokenizer": DALLE, "refine": True},
    "words": {"image_tokenizer": WORDS, "refine": True},
    "backbone": {"encoder": RESNET},
}
KINDS = {
    "vq": JanusVQVAEConfig,
    "dalle": FlavaImageCodebookConfig,
    "words": VisualWordsConfig,
    "backbone": ResNetConfig,
}


@pytest.fixture(params=READERS)
def reader(request):
    return request.param


@pytest.fixture
def config(reader):
    """Every field away from its default, with each film reader in turn."""
    return UARConfig(**CHANGES | READERS[reader])


def plain(config):
    """What a configuration says, without what the version of Transformers adds and where it was loaded from."""
    return json.loads(config.to_json_string(use_diff=False)) | {"_name_or_path": ""}


def test_a_dict_and_back_is_the_same(config):
    assert plain(UARConfig.from_dict(config.to_dict())) == plain(config)


def test_json_and_back_is_the_same(config, tmp_path):
    config.to_json_file(tmp_path / "config.json")
    assert plain(UARConfig.from_json_file(tmp_path / "config.json")) == plain(config)


def test_auto_config_loads_it_whole(config, tmp_path):
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is UARConfig and plain(loaded) == plain(config)


def test_the_film_reader_keeps_its_class(config, reader):
    loaded = UARConfig.from_dict(config.to_dict())
    assert isinstance(loaded.encoder or loaded.image_tokenizer, KINDS[reader])


def test_the_defaults_survive_a_round_trip(tmp_path):
    UARConfig().save_pretrained(tmp_path)
    assert plain(UARConfig.from_pretrained(tmp_path)) == plain(UARConfig())


@pytest.mark.parametrize("name", sorted(set(CHANGES) - {"decoder"}))
def test_every_field_is_kept(name):
    assert getattr(UARConfig(**CHANGES | READERS["vq"]), name) == CHANGES[name]


def test_a_configuration_serves_like_its_dict():
    whole = UARConfig(**CHANGES, image_tokenizer=VQ)
    assert plain(UARConfig(**CHANGES, image_tokenizer=whole.image_tokenizer)) == plain(whole)


def test_the_second_stage_is_one_field(tmp_path):
    UARConfig(**CHANGES, image_tokenizer=VQ).save_pretrained(tmp_path)
    second = UARConfig.from_pretrained(tmp_path, refine=True)
    assert plain(second) == plain(UARConfig(**CHANGES, **READERS["vq"]))


PAPER = {
    "image_size": 112,
    "encoder_layers": 3,
    "basis_size": 2048,
    "basis": "orthogonal",
    "fusion": "dual_gate",
    "alignment_weight": 1.0,
    "mask_weight": 1.0,
    "mask_scale": 1000.0,
    "refine": False,  # the first stage
}


@pytest.mark.parametrize("name", PAPER)
def test_a_default_is_the_papers(name):
    assert getattr(UARConfig(), name) == PAPER[name]


def test_the_default_decoder_is_the_transformer_base_with_three_layers():
    decoder = UARConfig().decoder
    assert (decoder.d_model, decoder.decoder_layers, decoder.decoder_ffn_dim, decoder.decoder_attention_heads) == (
        *(512, 3, 2048, 8),
    )


def test_the_default_tokenizer_is_the_dalle_dvae():
    tokenizer = UARConfig().image_tokenizer
    assert isinstance(tokenizer, FlavaImageCodebookConfig) and tokenizer.vocab_size == 8192


def test_a_film_of_the_paper_is_196_tokens():
    assert UARConfig().tokens_per_view == 196


def test_a_vq_model_of_another_step_gives_another_number_of_tokens():
    assert UARConfig(image_tokenizer=VQ, image_size=32).tokens_per_view == 16


def test_a_backbone_takes_the_tokenizers_place():
    assert UARConfig(encoder=RESNET).image_tokenizer is None


def test_a_tokenizer_dict_is_not_changed():
    given = dict(VQ)
    UARConfig(image_tokenizer=given, image_size=32)
    assert given == VQ


REFUSED = {
    "`encoder` and `image_tokenizer` both read the film. Give one of them.": {
        "encoder": RESNET,
        "image_tokenizer": DALLE,
    },
    "`image_tokenizer` as a dict needs `model_type` flava_image_codebook or janus_vqgan or visual_words. Got None.": {
        "image_tokenizer": {"vocab_size": 20}
    },
    "`refine` needs an `image_tokenizer`: its number of tokens is fixed. Got `encoder`.": {
        "encoder": RESNET,
        "refine": True,
    },
    "`image_size` must be a multiple of 8, the tokenizer's step. Got 100.": {"image_size": 100},
    "`basis` must be one of orthogonal, uniform, normal. Got 'ortogonal'.": {"basis": "ortogonal"},
    "`fusion` must be one of dual_gate, none, addition. Got None.": {"fusion": None},
    "`negatives` must be one of hardest, semi_hard. Got 'hard'.": {"negatives": "hard"},
    "`loss_reduction` must be one of mean, sum. Got 'average'.": {"loss_reduction": "average"},
    "`d_model` (512) must be a multiple of `aligner_heads`. Got 7.": {"aligner_heads": 7},
    "`aligner_heads` must be at least 1. Got 0.": {"aligner_heads": 0},
    "`max_views` must be at least 1. Got 0.": {"max_views": 0},
    "`basis_size` must be at least 0. Got -1.": {"basis_size": -1},
    "`margin` must be at least 0. Got -0.1.": {"margin": -0.1},
    "`mask_weight` must be at least 0. Got -1.0.": {"mask_weight": -1.0},
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_value_that_cannot_work_is_refused_in_one_line(line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        UARConfig(**REFUSED[line])
