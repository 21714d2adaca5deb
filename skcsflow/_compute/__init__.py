"""How a network is run: device, precision, threads, and one object that runs a fitted model."""

from skcsflow._compute._device import (
    ENGINES,
    PRECISIONS,
    autocast,
    backbone_layout,
    cuda_kernels,
    has_fast_bfloat16,
    parameter_dtype,
    resolve_device,
    resolve_precision,
    training_precision,
)
from skcsflow._compute._openvino import check_engine
from skcsflow._compute._processes import Processes
from skcsflow._compute._recorded import RecordedFunction
from skcsflow._compute._runner import Runner
from skcsflow._compute._threads import CoreThreads, map_on_cores, on_new_thread, one_core, resolve_n_threads

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "CoreThreads",
    "Processes",
    "RecordedFunction",
    "Runner",
    "autocast",
    "backbone_layout",
    "check_engine",
    "cuda_kernels",
    "has_fast_bfloat16",
    "map_on_cores",
    "on_new_thread",
    "one_core",
    "parameter_dtype",
    "resolve_device",
    "resolve_n_threads",
    "resolve_precision",
    "training_precision",
]
