"""Backbone weights out of a file: the same feature maps as where they come from, or one line that says why not.

The references are torchvision's and timm's own blocks with random weights, batch statistics included.
"""

import argparse
import os
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel

from radscribe.processing.image_processing_cxr import CXRImageProcessor
from radscribe.training.backbone_weights import load_backbone_weights
from radscribe.training.build import build_model, build_processor
from radscribe.training.recipe import RECIPES, load_recipe, parse_recipe

resnet = pytest.importorskip("torchvision.models.resnet")


class SmallResNet(resnet.ResNet):
    """torchvision's ResNet, its blocks and names, with narrow stages; what it gives is its last feature map."""

    def __init__(self, block, depths, width=4, channels=3):
        nn.Module.__init__(self)
        self._norm_layer, self.inplanes, self.dilation, self.groups, self.base_width = nn.BatchNorm2d, width, 1, 1, 64
        self.stages = len(depths)
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)
        for i, depth in enumerate(depths):
            layer = self._make_layer(block, width * 2**i, depth, stride=1 if i == 0 else 2)
            self.add_module(f"layer{i + 1}", layer)
        self.fc = nn.Linear(self.inplanes, 3)

    def forward(self, pixels):
        features = self.maxpool(self.relu(self.bn1(self.conv1(pixels))))
        for i in range(self.stages):
            features = self.get_submodule(f"layer{i + 1}")(features)
        return features


def shake(model):
    """Random batch statistics and scales too: fresh ones are 0 and 1 and would hide a mistake."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for positive in (module.weight, module.running_var):
                nn.init.uniform_(positive, 0.5, 1.5)
            for signed in (module.bias, module.running_mean):
                nn.init.uniform_(signed, -0.5, 0.5)
    return model.eval()


KINDS = {"basic": (resnet.BasicBlock, (4, 8)), "bottleneck": (resnet.Bottleneck, (16, 32))}


@pytest.fixture
def small():
    """small("basic", [2, 1]): a torchvision ResNet with random weights and the empty backbone that it fits."""

    def make(kind="bottleneck", depths=(2, 1), channels=3, **changes):
        torch.manual_seed(0)
        block, widths = KINDS[kind]
        sizes = {"embedding_size": 4, "hidden_sizes": list(widths), "depths": list(depths), "layer_type": kind}
        backbone = ResNetModel(ResNetConfig(**(sizes | {"num_channels": channels} | changes))).eval()
        return shake(SmallResNet(block, depths, channels=channels)), backbone

    return make


@pytest.fixture
def save(tmp_path):
    """save(content, "file.pth"): the file's path."""

    def write(content, name="weights.pth"):
        path = tmp_path / name
        save_file(content, path) if name.endswith(".safetensors") else torch.save(content, path)
        return path

    return write


def medclip(state):
    """A MedCLIP checkpoint around the ResNet: the projection in `fc`, a text tower, a temperature."""
    inside = {f"vision_model.model.{name}": tensor for name, tensor in state.items() if name != "fc.bias"}
    text = {"text_model.model.embeddings.word_embeddings.weight": torch.ones(5, 2), "logit_scale": torch.tensor(2.6)}
    return inside | text | {"text_model.projection_head.weight": torch.ones(3, 2)}


def features(backbone, side=32):
    """The last feature map of a film of noise, and the film: (1, C, H, W), (1, channels, side, side)."""
    film = torch.randn(1, backbone.config.num_channels, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backbone(film).last_hidden_state, film


def assert_same_features(backbone, reference, side=32):
    found, film = features(backbone, side)
    with torch.no_grad():
        torch.testing.assert_close(found, reference(film), rtol=0, atol=1e-5)


LAYOUTS = {
    "torchvision": lambda state: state,
    "MedCLIP": medclip,
    "MedCLIP's image tower": lambda state: {f"model.{name}": tensor for name, tensor in state.items()},
    "parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "parallel MedCLIP": lambda state: {f"module.{name}": tensor for name, tensor in medclip(state).items()},
    "wrapped": lambda state: {"epoch": 3, "state_dict": state},
    "wrapped and parallel": lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_gives_the_feature_maps_it_was_trained_for(small, save, kind, layout):
    reference, backbone = small(kind)
    load_backbone_weights(backbone, save(LAYOUTS[layout](reference.state_dict())))
    assert_same_features(backbone, reference)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin", "a.safetensors"])
def test_each_kind_of_file_is_read(small, save, name):
    reference, backbone = small()
    load_backbone_weights(backbone, save(reference.state_dict(), name))
    assert_same_features(backbone, reference)


def test_a_path_may_be_a_string(small, save):
    reference, backbone = small()
    load_backbone_weights(backbone, str(save(reference.state_dict())))
    assert_same_features(backbone, reference)


def test_timm_has_the_same_names(save):
    timm_resnet = pytest.importorskip("timm.models.resnet")
    torch.manual_seed(0)
    reference = shake(timm_resnet.ResNet(timm_resnet.Bottleneck, (1, 2, 1, 1), channels=(4, 8, 8, 12)))
    backbone = ResNetModel(ResNetConfig(depths=[1, 2, 1, 1], hidden_sizes=[16, 32, 32, 48])).eval()
    load_backbone_weights(backbone, save(reference.state_dict(), "model.safetensors"))
    assert_same_features(backbone, reference.forward_features)


def test_a_file_without_batch_counts_fills_the_backbone(small, save):
    reference, backbone = small()
    state = {name: t for name, t in reference.state_dict().items() if not name.endswith("num_batches_tracked")}
    load_backbone_weights(backbone, save(state))
    assert_same_features(backbone, reference)


def test_a_file_of_halves_fills_the_backbone_in_its_own_precision(small, save):
    reference, backbone = small()
    load_backbone_weights(backbone, save(reference.half().state_dict()))
    assert {tensor.dtype for tensor in backbone.parameters()} == {torch.float32}


def test_what_is_left_out_is_said(small, save, capsys):
    reference, backbone = small()
    load_backbone_weights(backbone, save(medclip(reference.state_dict())))
    said = capsys.readouterr().err
    assert re.search(r"^encoder: \d+ tensors `vision_model.model.\*` of .*left out: logit_scale, .* and 1 more$", said)


def refuse(backbone, path, message):
    """Loading ends in this one line and leaves the backbone as it was."""
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_backbone_weights(backbone, path)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


SIZES = {
    "depths": ({"depths": [1, 1]}, r"with {depths: \[2, 1\]}. Got {depths: \[1, 1\]}\.$"),
    "widths": ({"hidden_sizes": [16, 24]}, r"with {hidden_sizes: \[16, 32\]}. Got {hidden_sizes: \[16, 24\]}\.$"),
    "stem": ({"embedding_size": 8}, r"with {embedding_size: 4}. Got {embedding_size: 8}\.$"),
    "kind of block": ({"layer_type": "basic"}, r"with {layer_type: bottleneck}. Got {layer_type: basic}\.$"),
    "stages": ({"depths": [2], "hidden_sizes": [16]}, r"with {hidden_sizes: \[16, 32\], depths: \[2, 1\]}. Got"),
    "stride": ({"downsample_in_bottleneck": True}, r"{downsample_in_bottleneck: false}.* stride in the 3x3 conv"),
    "first stride": ({"downsample_in_first_stage": True}, r"{downsample_in_first_stage: false}.* behind the first"),
    "activation": ({"hidden_act": "gelu"}, r"with {hidden_act: relu}. Got {hidden_act: gelu}. .* ReLU"),
    "grey": (
        {"num_channels": 1},
        r"{num_channels: 3}. Got {num_channels: 1}. Set `image_processor.num_channels` to 3",
    ),
}


@pytest.mark.parametrize("size", SIZES)
def test_a_configuration_that_does_not_fit_hears_which_one_would(small, save, size):
    changes, message = SIZES[size]
    reference = small()[0]
    refuse(small(**changes)[1], save(reference.state_dict()), message)


def test_the_stride_of_a_bottleneck_does_not_matter_to_a_basic_block(small, save):
    reference, backbone = small("basic", downsample_in_bottleneck=True)
    load_backbone_weights(backbone, save(reference.state_dict()))
    assert_same_features(backbone, reference)


def test_a_grey_file_fills_a_grey_backbone(small, save):
    reference, backbone = small(channels=1)
    load_backbone_weights(backbone, save(reference.state_dict()))
    assert_same_features(backbone, reference)


def test_a_missing_tensor_is_named(small, save):
    reference, backbone = small()
    state = reference.state_dict()
    del state["layer1.1.bn2.running_var"]
    refuse(backbone, save(state), r"do not fit the backbone: 1 missing \(layer1.1.bn2.running_var\)\.$")


def test_of_many_missing_tensors_three_are_named_and_the_rest_counted(small, save):
    reference, backbone = small()
    state = {name: t for name, t in reference.state_dict().items() if "running_mean" not in name}
    refuse(backbone, save(state), r"12 missing \(bn1.running_mean, \S+, \S+ and 9 more\)\.$")


def test_a_tensor_that_a_plain_resnet_has_not_is_named(small, save):
    reference, backbone = small()
    state = reference.state_dict() | {"layer1.0.se.fc1.weight": torch.ones(2)}
    refuse(backbone, save(state), r"1 not of a plain ResNet \(layer1.0.se.fc1.weight\)\.$")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(small, save):
    reference, backbone = small()
    state = reference.state_dict() | {"layer2.0.conv2.weight": torch.ones(8, 1, 3, 3)}
    refuse(backbone, save(state), r"1 of another shape \(layer2.0.conv2.weight \(8, 1, 3, 3\) for \(8, 8, 3, 3\)\)\. ")


def test_a_convolution_without_its_axes_is_named(small, save):
    reference, backbone = small()
    state = reference.state_dict() | {"layer2.0.conv1.weight": torch.tensor(1.0)}
    refuse(backbone, save(state), r"1 of another shape \(layer2.0.conv1.weight \(\) for \(8, 16, 1, 1\)\)\. ")


def test_a_file_with_two_resnets_is_refused(small, save):
    reference, backbone = small()
    state = {f"{side}.{name}": t for side in ("query", "key") for name, t in reference.state_dict().items()}
    refuse(backbone, save(state), r"must hold one ResNet .* Got several ResNets, below query., key.\.$")


NO_RESNET = {
    "MedCLIP with a ViT": {"vision_model.model.embeddings.norm.weight": torch.ones(2)},
    "Transformers": {"embedder.embedder.convolution.weight": torch.ones(4, 3, 7, 7)},
    "a deep stem": {"conv1.0.weight": torch.ones(4, 3, 3, 3), "layer1.0.conv1.weight": torch.ones(4, 4, 1, 1)},
    "a flat stem": {"conv1.weight": torch.ones(4), "layer1.0.conv1.weight": torch.ones(4, 4, 1, 1)},
    "nothing": {},
    "numbers": {"conv1.weight": 1.0},
}


@pytest.mark.parametrize("what", NO_RESNET)
def test_a_checkpoint_without_a_resnet_is_refused(small, save, what):
    keys = ", ".join(name for name, tensor in NO_RESNET[what].items() if isinstance(tensor, torch.Tensor)) or "none"
    refuse(small()[1], save(NO_RESNET[what]), rf"must hold one ResNet .* Got keys {re.escape(keys)}\.$")


@pytest.mark.parametrize("content", [[1], torch.ones(2), {"state_dict": 3}])
def test_a_checkpoint_that_is_no_mapping_of_tensors_is_refused(small, save, content):
    refuse(
        small()[1], save(content), r"must hold (tensors by name. Got a (list|Tensor)|one ResNet .* Got keys none)\.$"
    )


def test_a_file_that_is_not_there_is_refused(small, tmp_path):
    refuse(small()[1], tmp_path / "none.pth", r"^`encoder_weights`: no file at `[^`]*none.pth`\.$")


def test_a_folder_is_refused(small, tmp_path):
    refuse(small()[1], tmp_path, r"must be a file. Got the folder `[^`]*`; give the weights file in it\.$")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n\x00\xff", b"PK\x03\x04" + bytes(50)])
def test_a_file_that_is_no_checkpoint_is_refused(small, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refuse(
        small()[1], tmp_path / name, r"is no whole checkpoint of tensors \(.pt, .pth, .bin or .safetensors; \w+\)\.$"
    )


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_checkpoint_that_was_cut_off_is_refused(small, save, name):
    reference, backbone = small()
    path = save(reference.state_dict(), name)
    path.write_bytes(path.read_bytes()[:-100])
    refuse(backbone, path, "is no whole checkpoint of tensors")


def test_a_pickled_object_is_refused_by_name(small, save):
    reference, backbone = small()
    content = {"state_dict": reference.state_dict(), "args": argparse.Namespace()}
    refuse(
        backbone, save(content), r"holds the Python object `argparse.Namespace`, which is not run. Save its `state_d"
    )


class Intruder:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_run(small, save, tmp_path):
    refuse(small()[1], save({"conv1.weight": Intruder(tmp_path / "made")}), "holds the Python object `.*mkdir`")
    assert not (tmp_path / "made").exists()


def test_another_kind_of_backbone_is_refused(small, save):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
    backbone = Dinov2Model(Dinov2Config(**sizes))
    refuse(backbone, save(small()[0].state_dict()), "fills an `encoder` of model_type resnet. Got dinov2")


NEEDED = {"model": "mcsam", "dataset": "data", "output_dir": "run", "max_steps": 1}


@pytest.fixture
def page(tiny):
    """page(**changes): a parsed recipe of the tiny model."""
    return lambda **changes: parse_recipe(NEEDED | {"memory_init": "random"} | tiny | changes)


def test_a_recipe_with_a_file_of_weights_builds_a_model_that_has_them(page, small, save, tiny):
    reference, _ = small("basic", depths=(1, 1), channels=1)
    recipe = page(encoder_weights=str(save(medclip(reference.state_dict()))))
    findings = ["The lungs are clear.", "The heart is large."] * 2
    model = build_model(recipe, build_processor(recipe, findings), findings)
    assert_same_features(model.encoder.visual.backbone.eval(), reference)


def test_weights_beside_a_pretrained_encoder_are_a_contradiction(page):
    with pytest.raises(ValueError, match=r"^`encoder_weights` and the `encoder` by name, `timm/resnet18`, both bring"):
        page(encoder_weights="a.pth", encoder="timm/resnet18")


def test_weights_beside_a_checkpoint_to_fine_tune_are_a_contradiction(page):
    with pytest.raises(
        ValueError, match=r"^`encoder_weights` and `init_from` both bring the backbone's weights. Drop"
    ):
        page(encoder_weights="a.pth", init_from="runs/a")


def medclip_settings(name):
    """The `--set` that the recipe's comment gives for MedCLIP's weights."""
    comment = "\n".join(line for line in (RECIPES / f"{name}.yaml").read_text().splitlines() if line.startswith("#  "))
    return [quoted or plain for quoted, plain in re.findall(r'--set (?:"([^"]+)"|(\S+))', comment)]


@pytest.mark.parametrize("name", ["mcsam_iu", "mcsam_mimic"])
def test_the_comment_of_a_recipe_sets_medclips_weights(name):
    recipe = load_recipe(name, medclip_settings(name))
    assert (recipe.encoder, recipe.encoder_weights) == (None, "pytorch_model.bin")


@pytest.mark.parametrize("name", ["mcsam_iu", "mcsam_mimic"])
def test_the_comment_of_a_recipe_sets_medclips_pixels(name):
    settings = load_recipe(name, medclip_settings(name)).image_processor
    assert CXRImageProcessor(**settings).to_dict() == CXRImageProcessor.from_preset("medclip").to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_model_of_full_size_gives_its_feature_maps(save, package, name):
    depths = {"resnet18": [2, 2, 2, 2], "resnet50": [3, 4, 6, 3]}
    depths |= {"resnet34": [3, 4, 6, 3], "resnet101": [3, 4, 23, 3]}
    sizes = {"depths": depths[name], "layer_type": "bottleneck"}
    if name in ("resnet18", "resnet34"):
        sizes |= {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}
    torch.manual_seed(0)
    if package == "timm":
        reference = shake(pytest.importorskip("timm").create_model(name))
        reference.forward = reference.forward_features
    else:
        reference = shake(getattr(resnet, name)())
        reference.forward = nn.Sequential(*list(reference.children())[:-2]).forward
    backbone = ResNetModel(ResNetConfig(**sizes)).eval()
    load_backbone_weights(backbone, save(medclip(reference.state_dict())))
    assert_same_features(backbone, reference, side=64)
