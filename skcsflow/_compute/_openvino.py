"""Networks run by OpenVINO: fused and packed for the processor, on the CPU only."""

import ctypes
import math
import os
import warnings
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import joblib
import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["CompiledNetwork", "check_engine"]

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}

_ARC_TANGENT = np.array(
    [
        *(-0.3333314528, 0.1999355085, -0.1420889944, 0.1065626393),
        *(-0.0752896400, 0.0429096138, -0.0161657367, 0.0028662257),
    ],
    dtype=np.float32,
)
"""Coefficients of the powers 2, 4, ... 16 of x in atan(x) / x - 1, from 0 to 1."""


def check_engine(engine: str, precision: str, device: torch.device) -> None:
    """Check that the engine is installed, and can do what it is asked for.

    Parameters
    ----------
    engine : {"torch", "openvino"}
        The estimator's parameter.
    precision : str
        The estimator's parameter, or what it was resolved to.
    device : torch.device
        Where to compute.

    Raises
    ------
    ImportError
        Where the package is missing.
    ValueError
        Where OpenVINO can't compute in that precision, or on that device.
    """
    if engine == "torch":
        return
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "engine='openvino' needs the package openvino: pip install \"skcsflow[openvino]\". "
            "Or pass engine='torch'."
        ) from error
    if precision not in ("auto", *_PRECISIONS):
        raise ValueError(
            f"engine='openvino' has no precision={precision!r}; use {' or '.join(map(repr, _PRECISIONS))}."
        )
    if device.type != "cpu":
        raise ValueError(f"engine='openvino' computes on the CPU; pass device='cpu', not {str(device)!r}.")


class CompiledNetwork:
    """A network compiled by OpenVINO for one shape of inputs, run by any thread, several at a time.

    Every run takes one core, so that results don't depend on how many are under way. A forked process
    must compile its own: it lacks the threads of this one.

    Parameters
    ----------
    network : nn.Module
        Takes and returns Tensors, in evaluation mode.
    inputs : sequence of Tensors
        What it takes, for the shapes.
    precision : {"float32", "bfloat16"}
        Precision to compute in.
    """

    def __init__(self, network: nn.Module, inputs: Sequence[Tensor], precision: str) -> None:
        import openvino

        n_threads = joblib.cpu_count()
        self._compiled = openvino.Core().compile_model(
            _convert(network, inputs),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
                "INFERENCE_NUM_THREADS": n_threads,
                "NUM_STREAMS": n_threads,
            },
        )
        self._idle: list[Any] = []
        _COMPILED.add(self)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the network; the outputs are the caller's to keep."""
        # A request owns memory that takes long to get: it is handed on from call to call.
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        request.infer([t.contiguous().numpy() for t in inputs], share_inputs=True)
        outputs = [torch.from_numpy(output.data.copy()) for output in request.output_tensors]
        self._idle.append(request)
        return outputs


_COMPILED: WeakSet[CompiledNetwork] = WeakSet()


def _never_free_in_forked_process() -> None:
    """Keep what was compiled before the fork: OpenVINO ends its threads when it is freed, which aborts the process."""
    # No list would do, as it is emptied when the process ends.
    for network in _COMPILED:
        for held in (network._compiled, *network._idle):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


if hasattr(os, "register_at_fork"):  # which Windows has not
    os.register_at_fork(after_in_child=_never_free_in_forked_process)


def _convert(network: nn.Module, inputs: Sequence[Tensor]) -> Any:
    """The network as OpenVINO's model, with shapes fixed."""
    import openvino

    # Not openvino.convert_model, which reports its use to its makers over the network.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.passes import ConstantFolding, Manager

    with warnings.catch_warnings():
        # torch deprecates tracing, and warns of checks of shapes, which are fixed here.
        warnings.simplefilter("ignore")
        # Not torch.jit.trace, which keeps what it has traced, weights included, until the process ends. In this
        # graph weights are inputs, behind those of the network and in the order of the state dict.
        graph, _ = torch.jit._get_trace_graph(network, tuple(inputs))
        decoder = TorchScriptPythonDecoder(network, graph_element=graph, alias_db=graph.alias_db())
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    names = [value.debugName() for value in graph.inputs()]
    weights = torch.jit._unique_state_dict(network).values()
    by_name = dict(zip(names[len(inputs) :], weights, strict=True))
    for parameter in model.get_parameters():
        name = parameter.output(0).get_any_name()
        if name in by_name:
            constant = openvino.op.Constant(by_name[name].detach().contiguous().numpy())
            parameter.output(0).replace(constant.output(0))
            model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
    model.reshape({port: list(t.shape) for port, t in zip(model.inputs, inputs, strict=True)})
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Atan":
            node.output(0).replace(_arc_tangent(node.input_value(0)))
    # Biases are constants that are reshaped. Where that is left to the compiler, it adds them, and clips, in a pass of
    # its own over the maps behind every convolution: a fifth of a backbone's time.
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    return model


def _arc_tangent(x: Any) -> Any:
    """Arc tangent of an output of a model, by operations that OpenVINO compiles to one pass.

    Its own takes an eighth of the flow's time. The formula's error is at most 2e-8 (Abramowitz and Stegun, 4.4.49),
    rounding's about 2e-7.
    """
    from openvino import opset8 as op

    size = op.absolute(x)
    # Of x and 1 / x the smaller: atan(x) = pi / 2 - atan(1 / x).
    smaller = op.minimum(size, op.divide(np.float32(1), size))
    square = op.multiply(smaller, smaller)
    series = op.multiply(square, _ARC_TANGENT[-1])
    for coefficient in _ARC_TANGENT[-2::-1]:
        series = op.multiply(square, op.add(series, coefficient))
    angle = op.add(smaller, op.multiply(smaller, series))
    angle = op.select(op.greater(size, np.float32(1)), op.subtract(np.float32(math.pi / 2), angle), angle)
    return op.select(op.less(x, np.float32(0)), op.multiply(angle, np.float32(-1)), angle).output(0)
