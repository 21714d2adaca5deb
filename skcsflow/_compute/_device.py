"""The one place that resolves device and precision."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "autocast",
    "backbone_layout",
    "cuda_kernels",
    "has_fast_bfloat16",
    "parameter_dtype",
    "resolve_device",
    "resolve_precision",
    "training_precision",
]

ENGINES = ("torch", "openvino")

PRECISIONS = ("auto", "float32", "tf32", "bfloat16", "float64")

_TF32_CAPABILITY = (8, 0)  # Ampere


def resolve_device(device: str | torch.device, engine: str = "torch") -> torch.device:
    """Resolve the parameter ``device``.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes CUDA where there is one and the engine can use it, and the CPU
        otherwise; else a device as torch names it.
    engine : {"torch", "openvino"}, default="torch"
        OpenVINO has no CUDA.

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
        return torch.device("cuda" if engine == "torch" and torch.cuda.is_available() else "cpu")
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


def resolve_precision(precision: str, device: torch.device) -> str:
    """Resolve the parameter ``precision``.

    Parameters
    ----------
    precision : {"auto", "float32", "tf32", "bfloat16", "float64"}
        ``"auto"``: TF32 on GPUs that have it, else float32.
    device : torch.device
        Where to compute.

    Returns
    -------
    str
        The precision, other than ``"auto"``.

    Raises
    ------
    ValueError
        Where `precision` is ``"tf32"`` and the device lacks it.
    """
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _TF32_CAPABILITY
    if precision == "auto":
        return "tf32" if has_tf32 else "float32"
    if precision == "tf32" and not has_tf32:
        raise ValueError(
            f"precision='tf32' needs a CUDA device of compute capability 8.0 or higher, but device is {str(device)!r}; "
            "use 'auto' or 'float32'."
        )
    return precision


def training_precision(precision: str, device: torch.device) -> str:
    """Precision to train in: as :func:`resolve_precision`, but that ``"auto"`` is bfloat16 on processors with AMX.

    Noise and the choice of images change a step by far more than bfloat16's rounding does. Scores are
    numbers that users compare: they stay in float32.
    """
    if precision == "auto" and device.type == "cpu" and _is_x86() and has_fast_bfloat16(device):
        return "bfloat16"
    return resolve_precision(precision, device)


def parameter_dtype(precision: str) -> torch.dtype:
    """Type that weights and features are kept in: float64, or float32 for all other precisions."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Run convolutions and products in bfloat16 if `precision` says so, and else not, whatever the caller does.

    Weights are cast anew in every call: torch's cache of them is one for all threads.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)


def backbone_layout(device: torch.device) -> torch.memory_format:
    """The memory layout to run backbones in.

    Channels last, which the flow has everywhere, is a tenth faster on a GPU too. But for convolutions within each
    channel, which most small backbones have, cuDNN then takes 4 to 6 seconds to choose kernels in every process.
    """
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: on GPUs, and on processors with instructions for it.

    On x86 that takes AMX. With AVX-512 alone it was slower, as was imitation by processors without.
    """
    if device.type != "cpu":
        return True
    supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return bool(supported and (not _is_x86() or torch.cpu._is_amx_tile_supported()))


def _is_x86() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


class _CUDASwitches:
    """cuDNN's and cuBLAS's switches, set for as long as any thread needs them and then put back.

    torch has them once for the whole process. Calls that overlap share one setting: the first
    sets it, the last puts back what was there before. A call that needs the other TF32 setting waits.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_users = 0
        self._allow_tf32 = False
        self._before: list[tuple[Any, str, Any]] = []

    @contextmanager
    def __call__(self, allow_tf32: bool) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._n_users == 0 or self._allow_tf32 == allow_tf32)
            if self._n_users == 0:
                self._allow_tf32 = allow_tf32
                wanted = _switches(allow_tf32)
                self._before = [(holder, name, _own_value(holder, name)) for holder, name, _ in wanted]
                _set_switches(wanted)
            self._n_users += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_users -= 1
                if self._n_users == 0:
                    _set_switches(self._before)
                    self._changed.notify_all()


def _switches(allow_tf32: bool) -> list[tuple[Any, str, Any]]:
    """Where torch has each switch, its name, and what it is to be."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    # Without a search for the fastest kernel, whose outcome varies, and without kernels that add up in varying
    # order. Matrix products never in TF32: whitening is one.
    repeatable: list[tuple[Any, str, Any]] = [(cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    if hasattr(cudnn, "conv"):  # torch 2.9 and later
        tf32: list[tuple[Any, str, Any]] = [
            (cudnn.conv, "fp32_precision", "tf32" if allow_tf32 else "ieee"),
            (matmul, "fp32_precision", "ieee"),
        ]
    else:
        tf32 = [(cudnn, "allow_tf32", allow_tf32), (matmul, "allow_tf32", False)]
    return [*repeatable, *tf32]


def _own_value(holder: Any, name: str) -> Any:
    """What a switch is set to, so that setting it again changes nothing."""
    value = getattr(holder, name)
    # torch gives the general precision where a switch has none of its own; it is to follow that one further on.
    backends: Any = torch.backends
    is_inherited = name == "fp32_precision" and value == backends.fp32_precision
    return "none" if is_inherited else value


def _set_switches(switches: list[tuple[Any, str, Any]]) -> None:
    for holder, name, value in switches:
        setattr(holder, name, value)


_CUDA = _CUDASwitches()


def cuda_kernels(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Have torch choose kernels whose results repeat bit for bit, with TF32 only where `precision` says so.

    torch's deterministic mode is not needed: what else the networks run repeats by itself. On
    the CPU everything does, and nothing is set.
    """
    return _CUDA(precision == "tf32") if device.type == "cuda" else nullcontext()
