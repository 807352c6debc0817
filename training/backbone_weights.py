"""Weights of a ResNet from a checkpoint file: MedCLIP's, which MCSAM starts from (mcsam.md section 1), or others.

MedCLIP's ResNet-50 is torchvision's below `vision_model.model.`, beside a text tower (RyanWangZf/MedCLIP,
modeling_medclip.py); its `fc` projects to the joint space and is left out, as a classifier is: the backbone ends at
the feature map. timm has torchvision's names too. Whatever stands before the names ("module.", "model.") is found, not
asked for. A file fills a backbone whole or not at all.
"""

import os.path
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

# What names and shapes of a file do not tell. torchvision and timm stride in the 3x3 convolution of a bottleneck
# ("v1.5"), and not in the first stage. Files of the older form, and timm's with blurred strides (resnetblur50,
# resnetaa50), are not to be told from theirs: they load and then see otherwise than they were trained to.
HABITS = {"downsample_in_first_stage": False, "downsample_in_bottleneck": False, "hidden_act": "relu"}
SHOWN = 3  # keys that an error names; the rest it counts

_STEM = {"embedder.embedder.convolution": "conv1", "embedder.embedder.normalization": "bn1"}
_BLOCK = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:layer\.(\d+)|shortcut)\.(convolution|normalization)")


def load_backbone_weights(backbone: PreTrainedModel, path: str | Path) -> None:
    """Fill a `ResNetModel` with the ResNet of a .pt, .pth, .bin or .safetensors file, in place.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no checkpoint, a pickle that holds code, no ResNet or several in it, a ResNet of other sizes than
            the backbone's configuration, and any tensor that is missing, left over or of another shape.
    """
    if backbone.config.model_type != "resnet":
        raise ValueError(
            f"`encoder_weights` fills an `encoder` of model_type resnet. Got {backbone.config.model_type}; "
            "give `encoder` the name or folder of a pretrained one."
        )
    tensors = _read_tensors(str(path))
    prefix = _find_resnet(tensors, path)
    resnet = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    resnet = {name: tensor for name, tensor in resnet.items() if not name.startswith("fc.")}
    _refuse_other_sizes(backbone.config, resnet, path)
    own = backbone.state_dict()
    names = {name: _file_name(name) for name in own}  # the backbone's to the file's
    _refuse_misfits({names[name]: tensor for name, tensor in own.items()}, resnet, path)
    # `num_batches_tracked` may be absent: old files have none, and with a fixed momentum it changes nothing.
    backbone.load_state_dict({name: resnet.get(file_name, own[name]) for name, file_name in names.items()})
    left_out = tensors.keys() - {prefix + name for name in resnet}
    others = f"; left out: {_shorten(sorted(left_out))}" if left_out else ""
    print(f"encoder: {len(resnet)} tensors `{prefix}*` of `{path}`{others}", file=sys.stderr)


def _read_tensors(path: str) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by its name, out of a `state_dict` wrapper if there is one."""
    if os.path.isdir(path):
        raise ValueError(f"`encoder_weights` must be a file. Got the folder `{path}`; give the weights file in it.")
    if not os.path.exists(path):  # unlike Path.exists it takes any string, however long, for a path
        raise FileNotFoundError(f"`encoder_weights`: no file at `{path}`.")
    try:
        content = load_file(path) if path.endswith(".safetensors") else _unpickle(path)
    except Exception as error:  # KeyError, EOFError, RuntimeError, SafetensorError ... for one fact
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"`encoder_weights`: `{path}` holds the Python object `{code[1]}`, which is not run. Save its "
                "`state_dict()` alone."
            ) from error
        raise ValueError(
            f"`encoder_weights`: `{path}` is no whole checkpoint of tensors (.pt, .pth, .bin or .safetensors; "
            f"{type(error).__name__})."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ValueError(f"`encoder_weights`: `{path}` must hold tensors by name. Got a {type(content).__name__}.")
    return {name: tensor for name, tensor in content.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def _unpickle(path: str) -> Any:
    return torch.load(path, weights_only=True, map_location="cpu")


def _find_resnet(tensors: dict[str, Tensor], path: str | Path) -> str:
    """What stands before the names of the ResNet in the file: "", "vision_model.model.", "module." ..."""
    stems = (name.removesuffix("conv1.weight") for name in tensors if re.search(r"(^|\.)conv1\.weight$", name))
    found = [s for s in stems if f"{s}layer1.0.conv1.weight" in tensors and tensors[f"{s}conv1.weight"].dim() == 4]
    if len(found) != 1:
        what = f"several ResNets, below {_shorten(found)}" if found else f"keys {_shorten(tensors)}"
        raise ValueError(
            f"`encoder_weights`: `{path}` must hold one ResNet with torchvision's names (conv1.weight, "
            f"layer1.0.conv1.weight, ...). Got {what}."
        )
    return found[0]


def _file_name(name: str) -> str:
    """`ResNetModel`'s name of a tensor to torchvision's: `encoder.stages.0.layers.1.layer.2.*` is `layer1.1.*3`."""
    module, _, tensor = name.rpartition(".")
    if module in _STEM:
        return f"{_STEM[module]}.{tensor}"
    block = _BLOCK.fullmatch(module)
    assert block, f"`ResNetModel` has a tensor `{name}` that it had not when this was written."
    stage, layer, number, kind = block.groups()
    if number is None:
        return f"layer{int(stage) + 1}.{layer}.downsample.{int(kind == 'normalization')}.{tensor}"
    return f"layer{int(stage) + 1}.{layer}.{'conv' if kind == 'convolution' else 'bn'}{int(number) + 1}.{tensor}"


def _sizes_of(resnet: dict[str, Tensor]) -> dict[str, Any]:
    """The `ResNetConfig` fields of a file's ResNet."""
    depths: dict[int, int] = {}  # by stage
    widths: dict[int, int] = {}  # channels that leave a stage: those of a block's last convolution
    is_bottleneck = any(re.fullmatch(r"layer\d+\.\d+\.conv3\.weight", name) for name in resnet)
    last = 3 if is_bottleneck else 2
    for name, tensor in resnet.items():
        if block := re.fullmatch(r"layer(\d+)\.(\d+)\.conv(\d)\.weight", name):
            stage, layer, number = map(int, block.groups())
            depths[stage] = max(depths.get(stage, 0), layer + 1)
            if number == last and tensor.dim() == 4:
                widths[stage] = len(tensor)
    stem = resnet["conv1.weight"]
    return {
        "num_channels": stem.shape[1],
        "embedding_size": stem.shape[0],
        "hidden_sizes": [widths[stage] for stage in sorted(widths)],
        "depths": [depths[stage] for stage in sorted(depths)],
        "layer_type": "bottleneck" if is_bottleneck else "basic",
    }


def _refuse_other_sizes(config: PretrainedConfig, resnet: dict[str, Tensor], path: str | Path) -> None:
    needed = _sizes_of(resnet) | HABITS
    if needed["layer_type"] == "basic":
        del needed["downsample_in_bottleneck"]
    own = {name: getattr(config, name) for name in needed}
    own |= {name: list(own[name]) for name in ("hidden_sizes", "depths")}
    wrong = [name for name in needed if needed[name] != own[name]]
    if not wrong:
        return
    hint = ""
    if "num_channels" in wrong and own["num_channels"] == 1:
        hint = " Set `image_processor.num_channels` to 3 too: the processor repeats the grey channel."
    elif HABITS.keys() & set(wrong):
        hint = " Files of torchvision's names go with ReLU, and stride in the 3x3 convolutions behind the first stage."
    raise ValueError(
        f"`encoder_weights`: the ResNet of `{path}` fits an `encoder` with {_as_yaml(needed, wrong)}. "
        f"Got {_as_yaml(own, wrong)}.{hint}"
    )


def _refuse_misfits(expected: dict[str, Tensor], resnet: dict[str, Tensor], path: str | Path) -> None:
    """Both by the file's names: what the backbone needs, and what the file has."""
    missing = [n for n in expected if n not in resnet and not n.endswith("num_batches_tracked")]
    unknown = [n for n in resnet if n not in expected]
    misshapen = [
        f"{n} {tuple(resnet[n].shape)} for {tuple(expected[n].shape)}"
        for n in expected
        if n in resnet and resnet[n].shape != expected[n].shape
    ]
    kinds = {"missing": missing, "not of a plain ResNet": unknown, "of another shape": misshapen}
    if found := [f"{len(names)} {kind} ({_shorten(names)})" for kind, names in kinds.items() if names]:
        hint = " Wide ResNets and ResNeXts have no `ResNetConfig`." if misshapen else ""
        raise ValueError(f"`encoder_weights`: tensors of `{path}` do not fit the backbone: {', '.join(found)}.{hint}")


def _as_yaml(values: dict[str, Any], names: list[str]) -> str:
    """As a recipe has it, for an error to copy from."""
    chosen = {name: values[name] for name in names}
    return yaml.safe_dump(chosen, default_flow_style=True, sort_keys=False, width=1000).strip()


def _shorten(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "none"
