"""The one place that resolves device and precision."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

__all__ = [
    "PRECISIONS",
    "autocast",
    "cores",
    "has_fast_bfloat16",
    "parameter_dtype",
    "repeatable",
    "resolve_device",
]

PRECISIONS = ("float32", "float64", "bfloat16")


def resolve_device(device: str | torch.device) -> torch.device:
    """Resolve the parameter ``device``.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes CUDA where there is one and the CPU otherwise; else a device as
        torch names it.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ValueError
        Where torch doesn't know the device, or this machine lacks it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto' or a device of torch such as 'cpu' or 'cuda', got {device!r}."
        ) from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or a CUDA device, got {device!r}.")
    if resolved.type == "cuda" and not (
        torch.cuda.is_available() and (resolved.index or 0) < torch.cuda.device_count()
    ):
        raise ValueError(f"device={str(device)!r} is not available on this machine; use 'auto' or 'cpu'.")
    return resolved


def parameter_dtype(precision: str) -> torch.dtype:
    """Type that parameters and features are kept in: bfloat16 computes with float32 weights."""
    return torch.float64 if precision == "float64" else torch.float32


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Run convolutions and matrix products in bfloat16 where `precision` says so."""
    with torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext():
        yield


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: on GPUs, and on processors with instructions for it.

    On x86 that takes AMX. With AVX-512 alone it was slower, as was imitation by processors without.
    """
    if device.type != "cpu":
        return True
    supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    is_x86 = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    return bool(supported and (not is_x86 or torch.cpu._is_amx_tile_supported()))


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Make results on one device repeat bit for bit, and put torch's switches back afterwards."""
    if device.type == "cpu":  # what we run on the CPU repeats as it is
        yield
        return
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    was_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    # warn_only: cuBLAS asks for an environment variable that only matters with
    # several streams, which we don't use; TF32 would cost the 1e-4 agreement.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic, warn_only=was_warning)


@contextmanager
def cores(n: int) -> Iterator[None]:
    """Let torch compute on this many cores here; on one where the others are busy, lest this waits for them."""
    intra_op_threads = torch.get_num_threads()
    if intra_op_threads == n:
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(intra_op_threads)
