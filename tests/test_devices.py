import pytest
import torch

from berg.devices import full_precision, pick_device
from berg.errors import InvalidParameterError, InvalidParameterTypeError, ResourceError


def test_cpu_is_always_there():
    assert pick_device("cpu") == pick_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(("available", "kind"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_where_there_is_one(monkeypatch, available, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert pick_device("auto").type == kind


def test_a_cuda_device_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ResourceError, match="no usable CUDA device 2"):
        pick_device("cuda:2")


def test_an_absent_device_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"no usable CUDA(.*\n)*.*device='auto'"):
        pick_device("cuda")
    with pytest.raises(RuntimeError, match="no usable MPS"):
        pick_device("mps")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "mps:0", "cpu:0", "", "meta", "CPU"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(InvalidParameterError, match="there is no device"):
        pick_device(name)


def test_a_device_is_a_name():
    with pytest.raises(InvalidParameterTypeError, match="int: 0"):
        pick_device(0)


@pytest.mark.parametrize("outside", ["highest", "medium"])
def test_full_precision_holds_inside_and_puts_settings_back(outside):
    torch.set_float32_matmul_precision(outside)
    try:
        a = torch.linspace(0, 1, 256 * 256).reshape(256, 256)
        expected = (a.double() @ a.double()).float()
        with full_precision():
            # float32 sums of 256 terms up to 1: bfloat16 would be off by 1e-1
            torch.testing.assert_close(a @ a, expected, atol=1e-3, rtol=0)
        with pytest.raises(KeyError):
            _fail_inside()
        assert torch.get_float32_matmul_precision() == outside
    finally:
        torch.set_float32_matmul_precision("highest")


def _fail_inside():
    with full_precision():
        raise KeyError
