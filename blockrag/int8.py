"""Numbers in 8 bits, those along one dimension by a scale that they share. Knows tensors alone."""

import torch

LARGEST = 127


def to_int8(numbers: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers from -127 to 127, and their scales, of the same shape but for a 1 at `dim`.

    The largest along `dim` stands at the end of the range; where all are 0, so is the scale. `numbers` is float32.
    """
    scales = numbers.abs().amax(dim, keepdim=True) / LARGEST
    divisor = torch.where(scales == 0, 1.0, scales)
    return (numbers / divisor).round().clamp(-LARGEST, LARGEST).to(torch.int8), scales
