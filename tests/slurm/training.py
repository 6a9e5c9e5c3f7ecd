"""A small data-parallel training: every rank has its share of the data of y = 3 x + 1."""

from __future__ import annotations

import os
from pathlib import Path


def fit(steps: int = 200) -> None:
    """Fit a line and leave it as an artifact."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    x = torch.linspace(-1, 1, 64).reshape(-1, 1)[rank::world]
    model = DistributedDataParallel(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), 3 * x + 1)
        loss.backward()
        optimizer.step()
    print(f"rank {rank} of {world} on {os.environ['SLURMD_NODENAME']}: loss {loss.item():.6f}", flush=True)
    if rank == 0:
        torch.save(model.module.state_dict(), Path(os.environ["NEMO_RUN_ARTIFACTS"], "model.pt"))
    dist.barrier()  # a rank that leaves while others still use the group may be torn down with an abort
    dist.destroy_process_group()
