"""The least time that a computation could take on this machine: its arithmetic and its bytes at peak rates.

Arithmetic is what convolutions and matrix products need when computed directly, two operations per multiplication
and addition. Bytes are each weight once, and what goes into and comes out of every convolution and product once.
Everything in between counts as free.
"""

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry, register_flop_formula


@register_flop_formula(torch.ops.aten.mkldnn_convolution)
def _of_mkldnn_convolution(
    x: list[int], weight: list[int], *args: Any, out_shape: list[int], **kwargs: Any
) -> int:
    """What torch doesn't count by itself: the flow's convolutions on the CPU."""
    return conv_flop_count(x, weight, out_shape)


class Work(NamedTuple):
    """What one image costs.

    Attributes
    ----------
    flops : float
        Floating-point operations.
    weight_bytes : float
        Bytes of all weights, which a batch shares.
    activation_bytes : float
        Bytes into and out of convolutions and products.
    """

    flops: float
    weight_bytes: float
    activation_bytes: float

    def floor(self, peak: "Peak", batch_size: int = 1) -> float:
        """Seconds per image at least, in batches of this size."""
        n_bytes = self.activation_bytes + self.weight_bytes / batch_size
        return max(self.flops / peak.flops, n_bytes / peak.bandwidth)


class Peak(NamedTuple):
    """What this machine can do on all its cores.

    Attributes
    ----------
    flops : float
        Operations per second of a large matrix product.
    bandwidth : float
        Bytes per second, read and written, of a large copy.
    """

    flops: float
    bandwidth: float

    def __str__(self) -> str:
        return (
            f"{self.flops / 1e9:.0f} GFLOP/s in a matrix product, {self.bandwidth / 1e9:.1f} GB/s in a copy"
        )


def count_work(function: Callable[[], Any], weights: nn.Module, n_images: int = 1) -> Work:
    """Count what a computation costs per image.

    Parameters
    ----------
    function : callable
        The computation, run once. What it runs in other threads or in inference mode isn't seen.
    weights : nn.Module
        The network whose weights it reads.
    n_images : int, default=1
        Images that it computes.

    Returns
    -------
    Work
        Of one image.
    """
    tensors = [*weights.parameters(), *weights.buffers()]
    with _Counter({t.untyped_storage().data_ptr() for t in tensors}) as counter:
        function()
    return Work(counter.flops / n_images, sum(t.nbytes for t in tensors), counter.bytes / n_images)


@torch.no_grad()
def count_scoring(model: nn.Module, input_size: tuple[int, int]) -> Work:
    """Count what a model costs that makes scores and maps of one RGB image."""
    image = torch.rand(1, 3, *input_size)
    return count_work(lambda: model(image), model)


def measure_peak(
    dtype: torch.dtype = torch.float32, repeats: int = 5, device: torch.device | str = "cpu"
) -> Peak:
    """Best of some products of 2048 x 2048 matrices and some copies of 256 MB; on a GPU of 8192 x 8192 and 2 GB.

    Parameters
    ----------
    dtype : torch.dtype, default=torch.float32
        Of the matrices.
    repeats : int, default=5
        How many of each.
    device : torch.device or str, default="cpu"
        Where.

    Returns
    -------
    Peak
        The rates.
    """
    device = torch.device(device)
    n, n_copied = (8192, 2**29) if device.type == "cuda" else (2048, 2**26)
    a, b = torch.rand(2, n, n, device=device).to(dtype)
    product = min(seconds_of(lambda: a @ b, device) for _ in range(repeats))
    source = torch.rand(n_copied, device=device)
    copied = torch.empty_like(source)
    copy = min(seconds_of(lambda: copied.copy_(source), device) for _ in range(repeats))
    return Peak(2 * n**3 / product, 2 * source.nbytes / copy)


def seconds_of(function: Callable[[], Any], device: torch.device) -> float:
    """Seconds that a computation takes, until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - start


class _Counter(TorchDispatchMode):
    """Sums up the cost of every convolution and matrix product."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.weights = weights
        self.flops = 0
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += int(np.int64(count(*args, **kwargs, out_val=result)))
            self.bytes += sum(t.nbytes for t in self._activations((args, kwargs, result)))
        return result

    def _activations(self, tree: Any) -> Iterator[Tensor]:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in self.weights:
                yield leaf
