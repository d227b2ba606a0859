"""One or several training processes: rank, device, sums over all of them."""

import os
from collections.abc import Iterable

import torch


class Processes:
    """This process among those started by `accelerate launch` or `torchrun`. Several processes need accelerate.

    Parameters
    ----------
    device : str, optional
        Device of a single process; with several, accelerate assigns it.
    """

    def __init__(self, device: str | None = None):
        self.n = int(os.environ.get("WORLD_SIZE", "1"))
        self._accelerator = None
        if self.n > 1:
            from accelerate import Accelerator  # noqa: PLC0415  (needed by several processes only)

            self._accelerator = Accelerator(cpu=device == "cpu")
        self.number = self._accelerator.process_index if self._accelerator else 0
        default = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = self._accelerator.device if self._accelerator else torch.device(device or default)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.number == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over all processes."""
        return self._accelerator.reduce(tensor, "sum") if self._accelerator else tensor

    def max(self, number: float) -> float:
        """Maximum over all processes."""
        if self._accelerator is None:
            return number
        return float(self._accelerator.gather(torch.tensor([number], device=self.device)).max())

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes, in one message."""
        if self._accelerator is None:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self._accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def wait(self) -> None:
        """Wait for all processes."""
        if self._accelerator:
            self._accelerator.wait_for_everyone()
