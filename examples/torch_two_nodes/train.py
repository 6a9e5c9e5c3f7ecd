"""A data-parallel training: every process has its share of the data of y = 3 x + 1."""

from __future__ import annotations


def fit(steps: int = 200) -> dict[str, float]:
    """Fit a line; return it, and how many processes found it."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    x = torch.linspace(-1, 1, 64).reshape(-1, 1)[rank::world]
    model = DistributedDataParallel(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), 3 * x + 1).backward()
        optimizer.step()
    slope, offset = model.module.weight.item(), model.module.bias.item()
    dist.barrier()  # a process that leaves while others still use the group may be torn down with an abort
    dist.destroy_process_group()
    return {"slope": round(slope, 3), "offset": round(offset, 3), "processes": world}
