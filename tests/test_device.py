"""Device and precision."""

import pytest
import torch

from skcsflow._device import PRECISIONS, autocast, cores, parameter_dtype, repeatable, resolve_device


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
    assert dtypes == {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("float64", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_autocast_lowers_products_for_bfloat16_alone(precision, dtype):
    with autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_repeatable_on_the_cpu_changes_no_switch():
    before = torch.are_deterministic_algorithms_enabled()
    with repeatable(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled() == before


@pytest.mark.parametrize("was", [(False, False), (True, False), (True, True)])
def test_repeatable_for_cuda_puts_the_switches_back(was):
    # Torch lets them be set where there is no GPU.
    def switches():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.allow_tf32,
        )

    def fail_inside():
        with repeatable(torch.device("cuda")):
            assert switches() == (True, True, False, True, False)
            raise KeyError

    torch.use_deterministic_algorithms(was[0], warn_only=was[1])
    try:
        before = switches()
        with pytest.raises(KeyError):
            fail_inside()
        assert switches() == before
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
def test_resolve_device_cuda_is_taken():
    assert resolve_device("cuda").type == "cuda"
    assert resolve_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize("n", [1, 3])
def test_cores_leaves_torchs_threads_as_they_were(n):
    before = torch.get_num_threads()
    with cores(n):
        assert torch.get_num_threads() == n
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), cores(n):
        raise KeyError
    assert torch.get_num_threads() == before
