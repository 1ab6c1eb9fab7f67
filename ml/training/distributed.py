"""Distributed training: several processes, started by ``torchrun``, share each batch."""

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

# Timeout for the other processes while the first one writes and measures.
_PATIENCE = datetime.timedelta(hours=12)


@dataclass(frozen=True)
class Distributed:
    """The processes of one training run, seen from one of them.

    Attributes:
        rank: this process's number from 0; the first one logs and writes.
        world_size: number of processes.
        device: the device of this process.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0

    def share(self, chosen: Tensor) -> Tensor:
        """This process's part of a batch (N,), padded with its first slices to equal parts."""
        missing = -len(chosen) % self.world_size
        return torch.cat([chosen, chosen[torch.arange(missing) % len(chosen)]])[
            self.rank :: self.world_size
        ]

    def mean(self, value: float) -> float:
        """The mean of the values of all processes."""
        if self.world_size == 1:
            return value
        total = torch.tensor(value, device=self.device)
        dist.all_reduce(total)
        return float(total) / self.world_size

    def wait(self) -> None:
        """Block until all processes have reached this point."""
        if self.world_size > 1:
            dist.barrier()


def single_process() -> Distributed:
    """One process, on a GPU if there is one."""
    return Distributed(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def distributed_processes() -> Iterator[Distributed]:
    """The processes that ``torchrun`` started (NCCL on GPUs, Gloo on CPUs), or this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield single_process()
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device.type == "cpu" else "nccl", timeout=_PATIENCE)
    try:
        yield Distributed(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
