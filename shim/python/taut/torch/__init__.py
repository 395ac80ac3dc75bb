"""PyTorch: DistributedDataParallel in one line, FSDP2, a backend of torch.distributed.

    import taut.torch
    model = taut.torch.ddp(model, optimizer=optimizer)        # wraps it, or takes what DistributedDataParallel has wrapped

    state = taut.torch.State(model, optimizer=optimizer)      # the same by hand
    model.register_comm_hook(state, taut.torch.hook)
"""

import torch.distributed as _dist

if not _dist.is_available():
    raise ImportError("taut.torch: this torch was built without torch.distributed")

from .fsdp import fsdp  # noqa: E402
from .state import State, ddp, hook  # noqa: E402

__all__ = ["State", "ddp", "fsdp", "hook"]
