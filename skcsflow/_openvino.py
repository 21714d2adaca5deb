"""Networks run by OpenVINO: fused and packed for the processor, on the CPU only."""

import warnings
from collections.abc import Sequence
from typing import Any

import joblib
import torch
from torch import Tensor, nn

from skcsflow._weights_cache import WeightsCache
from skcsflow.nn import CrossScaleFlow

__all__ = ["check_engine", "run_openvino"]

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def check_engine(engine: str, precision: str, device: torch.device) -> None:
    """Check that the engine is here, and can do what it is asked for.

    Parameters
    ----------
    engine, precision : str
        Those of the estimator.
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
    if precision not in _PRECISIONS:
        raise ValueError(
            f"engine='openvino' has no precision={precision!r}; use {' or '.join(map(repr, _PRECISIONS))}."
        )
    if device.type != "cpu":
        raise ValueError(f"engine='openvino' computes on the CPU; pass device='cpu', not {str(device)!r}.")


def run_openvino(network: nn.Module, inputs: Sequence[Tensor], precision: str) -> list[Tensor]:
    """Run a network by OpenVINO, from any thread, several at a time.

    It is compiled when it is first seen, and again for each precision and shape of inputs,
    and when its weights have changed. An image gets the same bits however many threads
    OpenVINO has, and however many images are under way.

    Parameters
    ----------
    network : nn.Module
        A network in evaluation mode, of Tensors to a sequence of Tensors.
    inputs : sequence of Tensors
        What it takes.
    precision : {"float32", "bfloat16"}
        Precision to compute in.

    Returns
    -------
    list of Tensors
        What it returns.
    """
    key = precision, tuple(t.shape for t in inputs)
    compiled = _COMPILED.get_or_make(network, key, lambda: _Compiled(network, inputs, precision))
    return compiled.run(inputs)


class _Compiled:
    def __init__(self, network: nn.Module, inputs: Sequence[Tensor], precision: str) -> None:
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        # Not openvino.convert_model, which reports its use to its makers over the network.
        frontend = FrontEndManager().load_by_framework("pytorch")
        with warnings.catch_warnings():
            # torch deprecates the tracing that OpenVINO relies on, and warns of checks of shapes, which are fixed here.
            warnings.simplefilter("ignore")
            decoder = TorchScriptPythonDecoder(_Flat(network).eval(), example_input=tuple(inputs))
            model = frontend.convert(frontend.load(decoder))
        model.reshape({port: list(t.shape) for port, t in zip(model.inputs, inputs, strict=True)})
        n_cores = joblib.cpu_count()
        self._compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
                # One thread for each request: our callers have a thread per core.
                "INFERENCE_NUM_THREADS": n_cores,
                "NUM_STREAMS": n_cores,
            },
        )
        self._idle: list[Any] = []

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        # A request has its memory, which is expensive to get: taken over from call to call, by whichever thread.
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        request.infer([t.contiguous().numpy() for t in inputs], share_inputs=True)
        # Copies, as the request's own memory is overwritten by its next run.
        outputs = [torch.from_numpy(output.data.copy()) for output in request.output_tensors]
        self._idle.append(request)
        return outputs


class _Flat(nn.Module):
    """A network that takes and returns Tensors, and no sequences of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        if isinstance(self.network, CrossScaleFlow):
            z, log_det = self.network(inputs)
            return [*z, log_det]
        return list(self.network(*inputs))


_COMPILED: WeightsCache[_Compiled] = WeightsCache()
