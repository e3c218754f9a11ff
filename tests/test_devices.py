from types import SimpleNamespace

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


@pytest.fixture
def settings():
    """Every precision that PyTorch has, set to the fast one and put back afterwards."""
    backends = torch.backends
    found = (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    )
    before = [backend.fp32_precision for backend in found]
    for backend in found:
        backend.fp32_precision = "tf32"
    yield lambda: [backend.fp32_precision for backend in found]
    for backend, value in zip(found, before, strict=True):
        backend.fp32_precision = value


def test_full_precision_holds_inside_and_puts_settings_back(settings):
    with full_precision():
        assert settings() == ["ieee"] * 4
    assert settings() == ["tf32"] * 4
    with pytest.raises(KeyError):
        _fail_inside()
    assert settings() == ["tf32"] * 4


def test_full_precision_holds_until_the_last_thread_leaves(settings):
    first, second = full_precision(), full_precision()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert settings() == ["ieee"] * 4
    second.__exit__(None, None, None)
    assert settings() == ["tf32"] * 4


def test_releases_before_2_9_have_other_settings(monkeypatch):
    backends = SimpleNamespace(
        cuda=SimpleNamespace(matmul=object()), cudnn=SimpleNamespace(allow_tf32=True)
    )
    said = ["medium"]
    monkeypatch.setattr(torch, "backends", backends)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: said[-1])
    monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
    with full_precision():
        assert not backends.cudnn.allow_tf32
        assert said[-1] == "highest"
    assert backends.cudnn.allow_tf32
    assert said[-1] == "medium"


def _fail_inside():
    with full_precision():
        raise KeyError
