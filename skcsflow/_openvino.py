"""Networks run by OpenVINO: fused and packed for the processor, on the CPU only."""

import warnings
from collections.abc import Sequence
from typing import Any

import joblib
import torch
from torch import Tensor, nn

from skcsflow._weights_cache import WeightsCache
from skcsflow.nn import CrossScaleFlow, MultiScaleFeatureExtractor

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
    and when its weights have changed. It runs on one core where torch would (an image then
    gets the same bits however many are under way), else on as many as torch would, compiled
    for that.

    Parameters
    ----------
    network : MultiScaleFeatureExtractor or CrossScaleFlow
        A network in evaluation mode.
    inputs : sequence of Tensors
        What it takes: feature maps, or the images' pyramid.
    precision : {"float32", "bfloat16"}
        Precision to compute in.

    Returns
    -------
    list of Tensors
        Feature maps; or latent maps and the log-determinant.
    """
    n_cores = torch.get_num_threads()
    key = precision, n_cores, tuple(t.shape for t in inputs)
    compiled = _COMPILED.get_or_make(network, key, lambda: _Compiled(network, inputs, precision, n_cores))
    return compiled.run(inputs)


class _Compiled:
    def __init__(self, network: nn.Module, inputs: Sequence[Tensor], precision: str, n_cores: int) -> None:
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
        # One thread for each request where our callers have a thread per core; else one request at a time.
        n_threads = joblib.cpu_count() if n_cores == 1 else n_cores
        self._compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
                "INFERENCE_NUM_THREADS": n_threads,
                "NUM_STREAMS": n_threads if n_cores == 1 else 1,
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
    """A network that takes and returns Tensors, and no sequences of them.

    An extractor without its pyramid, which OpenVINO takes ten times as long for as torch does.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        if isinstance(self.network, CrossScaleFlow):
            z, log_det = self.network(inputs)
            return [*z, log_det]
        assert isinstance(self.network, MultiScaleFeatureExtractor)
        return [self.network.extract(images) for images in inputs]


_COMPILED: WeightsCache[_Compiled] = WeightsCache()
