"""What runs on a GPU, on the CPU: PyTorch has streams for it that do nothing."""

import threading

import pytest
import torch

from berg import transfers
from berg.transfers import read_out_elsewhere, send_ahead

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


def test_batches_come_in_order(device):
    batches = [torch.full((2, 3), i) for i in range(5)]
    sent = list(send_ahead((batch.to(device) for batch in batches), device))
    assert all(torch.equal(a.cpu(), b) for a, b in zip(sent, batches, strict=True))
    assert list(send_ahead([], device)) == []


def test_the_next_batch_is_made_while_this_one_is_used(device):
    made = [threading.Event() for _ in range(3)]

    def batches():
        for i, event in enumerate(made):
            event.set()
            yield torch.tensor(i, device=device)

    coming = send_ahead(batches(), device)
    next(coming)
    assert made[1].wait(10)
    assert not made[2].is_set()  # one ahead, and no more
    coming.close()


def test_an_error_while_making_a_batch_reaches_the_caller(device):
    def batches():
        yield torch.zeros(1, device=device)
        raise ValueError("unreadable")

    coming = send_ahead(batches(), device)
    next(coming)
    with pytest.raises(ValueError, match="unreadable"):
        next(coming)


@pytest.mark.parametrize("n_vertices", [0, 1, 4, 5, 8, 11])
@pytest.mark.parametrize("n_images", [0, 1, 3])
def test_responses_come_back_block_by_block(monkeypatch, rng, device, n_vertices, n_images):
    monkeypatch.setattr(transfers, "_VERTEX_BLOCK", 4)
    scores, coef, intercept = (
        torch.from_numpy(rng.standard_normal(shape))
        for shape in ((n_images, 6), (n_vertices, 6), (n_vertices,))
    )
    out = torch.full((n_images, n_vertices), torch.nan, dtype=torch.float64)
    read_out_elsewhere(*(each.to(device) for each in (scores, coef, intercept)), out)
    torch.testing.assert_close(out, scores @ coef.T + intercept)
