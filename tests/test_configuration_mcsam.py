"""MCSAM's configuration: round trips whole, takes its backbone as class or dict, refuses sizes that cannot work."""

import json
import re

import pytest
from transformers import AutoConfig, Dinov2Config, PretrainedConfig, ResNetConfig
from transformers.models.marian.configuration_marian import MarianConfig

from radscribe.configuration.configuration_mcsam import MCSAMConfig

DECODER = {"d_model": 16, "decoder_layers": 3, "decoder_ffn_dim": 24, "decoder_attention_heads": 2}
CHANGES = {
    "encoder": {"model_type": "resnet", "hidden_sizes": [4, 8], "depths": [1, 1], "embedding_size": 4},
    "decoder": DECODER | {"dropout": 0.3, "attention_dropout": 0.2, "max_position_embeddings": 64},
    "vocab_size": 30,
    "max_views": 3,
    "encoder_layers": 2,
    "visual_dropout": 0.25,
    "memory_size": 12,
    "memory_dim": 6,
    "memory_top_k": 5,
    "memory_heads": 4,
    "sam_layers": 2,
    "semantic_embedding": False,
    "alignment_weight": 0.5,
    "initial_temperature": 0.1,
    "num_prompts": 7,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "initializer_range": 0.05,
    "tie_word_embeddings": True,
}


@pytest.fixture
def config():
    """Every field away from its default, where another value makes sense."""
    return MCSAMConfig(**CHANGES)


def plain(config):
    """What a configuration says, without what the version of Transformers adds."""
    return json.loads(config.to_json_string(use_diff=False))


def test_a_dict_and_back_is_the_same(config):
    assert plain(MCSAMConfig.from_dict(config.to_dict())) == plain(config)


def test_saved_and_loaded_is_the_same(config, tmp_path):
    config.save_pretrained(tmp_path)
    assert plain(MCSAMConfig.from_pretrained(tmp_path)) | {"_name_or_path": ""} == plain(config) | {
        "_name_or_path": ""
    }


def test_the_defaults_survive_a_round_trip(tmp_path):
    MCSAMConfig().save_pretrained(tmp_path)
    loaded = MCSAMConfig.from_pretrained(tmp_path)
    assert plain(loaded) | {"_name_or_path": ""} == plain(MCSAMConfig()) | {"_name_or_path": ""}


@pytest.mark.parametrize("name", sorted(set(CHANGES) - {"encoder", "decoder"}))
def test_every_field_is_kept(config, name):
    assert getattr(config, name) == CHANGES[name]


def test_the_file_names_its_model_type(config, tmp_path):
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "mcsam"


def test_auto_config_loads_it(config, tmp_path):
    import radscribe  # noqa: F401  (registers the model type)

    config.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is MCSAMConfig


def test_the_backbone_is_a_resnet_by_default():
    assert isinstance(MCSAMConfig().encoder, ResNetConfig)


def test_a_dict_becomes_the_class_of_its_model_type():
    encoder = MCSAMConfig(encoder={"model_type": "dinov2", "hidden_size": 12}).encoder
    assert isinstance(encoder, Dinov2Config) and encoder.hidden_size == 12


def test_a_backbone_configuration_is_taken_as_it_is():
    encoder = Dinov2Config(hidden_size=12)
    assert MCSAMConfig(encoder=encoder).encoder is encoder


def test_another_backbone_survives_a_round_trip():
    config = MCSAMConfig(encoder=Dinov2Config(hidden_size=12))
    assert MCSAMConfig.from_dict(config.to_dict()).encoder.hidden_size == 12


def test_a_backbone_dict_without_model_type_is_refused():
    with pytest.raises(ValueError, match=r"`encoder` as a dict needs its `model_type`.*Got keys \['depths'\]"):
        MCSAMConfig(encoder={"depths": [1]})


def test_a_backbone_dict_is_not_changed():
    encoder = {"model_type": "resnet", "depths": [1, 1], "hidden_sizes": [4, 8]}
    MCSAMConfig(encoder=encoder)
    assert encoder == {"model_type": "resnet", "depths": [1, 1], "hidden_sizes": [4, 8]}


def test_the_decoder_is_marians(config):
    assert isinstance(config.decoder, MarianConfig) and config.decoder.decoder_layers == 3


def test_a_decoder_configuration_serves_like_a_dict(config):
    assert plain(MCSAMConfig(**CHANGES | {"decoder": config.decoder})) == plain(config)


def test_a_part_of_the_decoders_sizes_leaves_the_others_at_their_defaults():
    decoder = MCSAMConfig(decoder={"d_model": 64}).decoder
    assert (decoder.d_model, decoder.decoder_layers, decoder.decoder_attention_heads) == (64, 3, 8)


def test_the_decoder_has_the_words_of_the_model(config):
    assert (config.decoder.vocab_size, config.decoder.decoder_vocab_size) == (30, 30)


def test_the_decoder_has_the_special_tokens_of_the_model():
    config = MCSAMConfig(pad_token_id=3, bos_token_id=4, eos_token_id=5, decoder_start_token_id=6)
    decoder = config.decoder
    assert [decoder.pad_token_id, decoder.bos_token_id, decoder.eos_token_id, decoder.decoder_start_token_id] == [
        *(3, 4, 5, 6)
    ]


def test_special_tokens_survive_a_round_trip():
    config = MCSAMConfig(pad_token_id=3, bos_token_id=4, eos_token_id=5, decoder_start_token_id=6)
    loaded = MCSAMConfig.from_dict(config.to_dict())
    assert [loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id, loaded.decoder_start_token_id] == [
        *(3, 4, 5, 6)
    ]


def test_no_last_word_is_forced(config):
    """Marian would end every report that is cut off as if it were whole."""
    assert config.decoder.forced_eos_token_id is None


def test_the_caches_see_as_many_layers_as_the_decoder_has(config):
    assert config.num_hidden_layers == config.decoder.num_hidden_layers == 3


def test_the_width_is_the_decoders(config):
    assert config.d_model == config.hidden_size == 16 and config.num_attention_heads == 2


def test_it_is_an_encoder_decoder(config):
    assert config.is_encoder_decoder


def test_fresh_weights_shrink_with_the_width():
    assert MCSAMConfig(decoder=DECODER, memory_heads=2).initializer_range == pytest.approx(0.25)


def test_the_decoder_starts_like_the_rest(config):
    assert config.decoder.init_std == config.initializer_range == 0.05


def test_no_memory_needs_no_top_k():
    assert MCSAMConfig(memory_size=0).memory_size == 0


REFUSED = {
    "`memory_top_k` must be 1 to `memory_size` (8). Got 9.": {"memory_size": 8, "memory_top_k": 9},
    "`memory_top_k` must be 1 to `memory_size` (100). Got 0.": {"memory_top_k": 0},
    "`d_model` (512) must be a multiple of `memory_heads`. Got 7.": {"memory_heads": 7},
    "`d_model` (20) must be a multiple of `decoder heads`. Got 8.": {"decoder": {"d_model": 20}, "memory_heads": 4},
    "`d_model` must be a multiple of 4 (2-D sine positions). Got 18.": {
        "decoder": {"d_model": 18, "decoder_attention_heads": 2},
        "memory_heads": 2,
    },
    "`num_prompts` must leave room for words in the decoder's 8 positions. Got 8.": {
        "decoder": {"max_position_embeddings": 8},
        "num_prompts": 8,
    },
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_size_that_cannot_work_is_refused_in_one_line(line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        MCSAMConfig(**REFUSED[line])


def test_a_saved_configuration_is_a_plain_file_of_facts(config, tmp_path):
    config.save_pretrained(tmp_path)
    values = PretrainedConfig.get_config_dict(tmp_path)[0]
    assert values["encoder"]["model_type"] == "resnet" and values["decoder"]["d_model"] == 16


@pytest.mark.parametrize(("name", "value"), [("memory_heads", 0), ("num_prompts", -1), ("max_views", 0)])
def test_a_size_that_cannot_be_is_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be at least"):
        MCSAMConfig(**{name: value})
