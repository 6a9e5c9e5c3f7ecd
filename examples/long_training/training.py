"""A data-parallel training that can be ended at any time, and goes on where it was.

Every step is saved: its number, the weights, the state of the optimizer, and the losses so far. What is random depends
on the number of the step and the rank only.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import nemo_run as run


def batch(step: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what one rank learns from in one step."""
    generator = torch.Generator().manual_seed(1000 * step + rank)
    x = torch.randn(64, 8, generator=generator)
    return x, torch.sin(x).sum(1, keepdim=True)


def save(path: Path, state: dict[str, object]) -> None:
    """Replace a checkpoint as a whole: an end in the middle leaves the one before."""
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def train() -> None:
    """Train until done, or until told to stop."""
    steps, pause = int(os.environ["STEPS"]), float(os.environ["STEP_SECONDS"])
    checkpoint = Path(os.environ["NEMO_RUN_CHECKPOINTS"], "state.pt")
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    model = DistributedDataParallel(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses: list[float] = []
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
    dist.barrier()  # all have read it before one writes
    if rank == 0:
        why = os.environ.get("NEMO_RUN_RESTART_CAUSE", "")
        print(f"begins at step {len(losses)} of {steps} {why}", flush=True)
    while len(losses) < steps:
        x, y = batch(len(losses), rank)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        told = torch.tensor([loss.item(), float(run.stopping())])
        dist.all_reduce(told)  # a signal may have reached some ranks only: all of them decide the same
        losses.append(told[0].item() / dist.get_world_size())
        if rank == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
            save(checkpoint, state)
            print(f"step {len(losses)} loss {losses[-1]:.4f}", flush=True)
        if told[1] > 0 and len(losses) < steps:
            dist.barrier()  # it is saved
            run.continue_later()
        time.sleep(pause)
    if rank == 0:
        print("done at step", len(losses), flush=True)
    dist.barrier()
    dist.destroy_process_group()
