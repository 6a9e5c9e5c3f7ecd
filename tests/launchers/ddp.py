"""What a rank does in the test of torchrun: an all-reduce with its fellows."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def all_reduce(results: str) -> None:
    """Write the sum of all ranks, as every rank sees it."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    total = torch.tensor([float(rank + 1)])
    dist.all_reduce(total)
    print(f"hello from rank {rank} of {dist.get_world_size()}, local rank {os.environ['LOCAL_RANK']}", flush=True)
    Path(results, f"{rank}.txt").write_text(str(total.item()))
    dist.destroy_process_group()


def fail_on_rank_one() -> None:
    """End with an error on one rank only."""
    sys.exit(7 if os.environ["RANK"] == "1" else 0)
