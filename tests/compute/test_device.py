"""Device and precision."""

import threading
from contextlib import suppress

import pytest
import torch

from skcsflow._compute import (
    PRECISIONS,
    autocast,
    cuda_kernels,
    parameter_dtype,
    resolve_device,
    resolve_precision,
    training_precision,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_resolve_device_auto_takes_cuda_where_there_is_one():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_resolve_device_takes_torchs_names_and_devices(device):
    assert resolve_device(device) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "CPU"])
def test_resolve_device_unknown_raises(device):
    with pytest.raises(ValueError, match=rf"device must be 'auto' or a device of torch .* got '{device}'"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["meta", "mps", torch.device("xla")])
def test_resolve_device_of_a_kind_that_is_not_supported_raises(device):
    with pytest.raises(ValueError, match=rf"device must be 'auto', 'cpu' or a CUDA device, got .*{device}"):
        resolve_device(device)


def test_resolve_device_cuda_that_is_not_there_raises():
    with pytest.raises(ValueError, match="device='cuda:99' is not available on this machine"):
        resolve_device("cuda:99")


def test_parameter_dtype_is_double_for_float64_alone():
    dtypes = {precision: parameter_dtype(precision) for precision in PRECISIONS}
    assert dtypes == {p: torch.float64 if p == "float64" else torch.float32 for p in PRECISIONS}


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("float64", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_autocast_lowers_products_for_bfloat16_alone(precision, dtype):
    with autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def cudnn_switches():
    """Benchmark, deterministic, TF32 in convolutions, TF32 in matrix products."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if not hasattr(cudnn, "conv"):
        return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32
    precisions = cudnn.conv.fp32_precision, matmul.fp32_precision
    return cudnn.benchmark, cudnn.deterministic, *(p == "tf32" for p in precisions)


def test_cuda_kernels_on_the_cpu_changes_no_switch():
    before = cudnn_switches()
    with cuda_kernels(CPU, "float32"):
        assert cudnn_switches() == before


@pytest.mark.parametrize(("precision", "allow_tf32"), [("float32", False), ("tf32", True)])
def test_cuda_kernels_sets_cudnn_and_puts_it_back(precision, allow_tf32):
    # torch lets the switches be set where there is no GPU.
    before = cudnn_switches()
    with suppress(KeyError), cuda_kernels(CUDA, precision):
        assert cudnn_switches() == (False, True, allow_tf32, False)
        raise KeyError
    assert cudnn_switches() == before


def test_cuda_kernels_of_calls_that_overlap_are_put_back_by_the_last():
    before = cudnn_switches()
    first, second = cuda_kernels(CUDA, "float32"), cuda_kernels(CUDA, "float32")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cudnn_switches() == (False, True, False, False)
    second.__exit__(None, None, None)
    assert cudnn_switches() == before


def test_cuda_kernels_of_another_precision_wait():
    seen = []

    def use_tf32():
        with cuda_kernels(CUDA, "tf32"):
            seen.append(cudnn_switches())

    thread = threading.Thread(target=use_tf32)
    with cuda_kernels(CUDA, "float32"):
        thread.start()
        thread.join(timeout=0.2)
        assert not seen
        assert cudnn_switches() == (False, True, False, False)
    thread.join()
    assert seen == [(False, True, True, False)]


def test_resolve_precision_on_the_cpu():
    found = {p: resolve_precision(p, CPU) for p in ("auto", "float32", "bfloat16", "float64")}
    assert found == {"auto": "float32", "float32": "float32", "bfloat16": "bfloat16", "float64": "float64"}
    with pytest.raises(ValueError, match=r"precision='tf32' needs a CUDA device .* but device is 'cpu'"):
        resolve_precision("tf32", CPU)


@pytest.mark.parametrize("has_fast", [True, False])
@pytest.mark.parametrize("is_x86", [True, False])
def test_training_precision_auto_is_bfloat16_on_fast_x86_processors_alone(monkeypatch, has_fast, is_x86):
    monkeypatch.setattr("skcsflow._compute._device.has_fast_bfloat16", lambda device: has_fast)
    monkeypatch.setattr("skcsflow._compute._device._is_x86", lambda: is_x86)
    assert training_precision("auto", CPU) == ("bfloat16" if has_fast and is_x86 else "float32")
    for precision in ("float32", "bfloat16", "float64"):
        assert training_precision(precision, CPU) == precision
    with pytest.raises(ValueError, match="precision='tf32' needs a CUDA device"):
        training_precision("tf32", CPU)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch 2.9 has brought these settings")
def test_cuda_kernels_heed_no_precision_that_the_user_has_set():
    holders = (torch.backends, torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    for holder in holders:
        before = holder.fp32_precision
        holder.fp32_precision = "tf32"
        try:
            with cuda_kernels(CUDA, "float32"):
                assert cudnn_switches() == (False, True, False, False)
            assert holder.fp32_precision == "tf32"
        finally:
            holder.fp32_precision = before


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch 2.9 has brought these settings")
def test_cuda_kernels_leaves_switches_to_follow_the_general_precision():
    before = torch.backends.fp32_precision
    try:
        torch.backends.fp32_precision = "tf32"
        with cuda_kernels(CUDA, "float32"):
            pass
        torch.backends.fp32_precision = "ieee"
        assert cudnn_switches()[2:] == (False, False)
    finally:
        torch.backends.fp32_precision = before
