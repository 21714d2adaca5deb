"""Networks run by OpenVINO: fused and packed for the processor, on the CPU only."""

import warnings
from collections.abc import Sequence
from typing import Any

import joblib
import torch
from torch import Tensor, nn

__all__ = ["CompiledNetwork", "check_engine"]

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


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

    Every run takes one core, so that results don't depend on how many are under way.

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


def _convert(network: nn.Module, inputs: Sequence[Tensor]) -> Any:
    """The network as OpenVINO's model, with shapes fixed."""
    import openvino

    # Not openvino.convert_model, which reports its use to its makers over the network.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

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
    return model
