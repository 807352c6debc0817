"""A rehearsal of FSDP2 without cards: `radscribe train` on two CPU processes, each weight cut in two.

torchrun --nproc-per-node 2 -m tests.tools.fsdp_on_cpu RECIPE [--set KEY=VALUE ...]

On cards `accelerate launch --config_file training/launch/fsdp2.yaml` does it. On CPUs Accelerate quietly takes DDP in
FSDP's place; here it is told that these are cards. Says how many parameters were cut.
"""

import os

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from transformers import Trainer

from radscribe.training import train as module

SETTINGS = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "state_dict_type": "FULL_STATE_DICT"}


def main() -> None:
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    arguments, step = module._arguments, Trainer.training_step

    def sharded(recipe, **changes):
        made = arguments(recipe, fsdp=True, fsdp_config=dict(SETTINGS), **changes)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        return made

    def counted(self, model, *args, **kwargs):
        if self.state.global_step == 0:
            cut = [isinstance(p, DTensor) for p in model.parameters()]
            print(f"{self.accelerator.distributed_type}: {sum(cut)} of {len(cut)} parameters are cut", flush=True)
        return step(self, model, *args, **kwargs)

    module._arguments, Trainer.training_step = sharded, counted
    module.main()


if __name__ == "__main__":
    main()
