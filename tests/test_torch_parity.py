"""The same numbers as PyTorch's nn.Embedding, nn.RNN and nn.Linear, in float64."""

import numpy as np
import pytest

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.optimizer import SGD, Adam, AdamW, Momentum, clip_grads
from common.time_layers import TimeRNN

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed; for a CPU build: https://pytorch.org/get-started/locally"
)

V, D, H, N, T = 11, 5, 6, 4, 7


class TorchRnnlm(torch.nn.Module):
    def __init__(self, tie):
        super().__init__()
        self.embed = torch.nn.Embedding(V, D)
        self.rnn = torch.nn.RNN(D, H if not tie else D, batch_first=True)
        self.affine = torch.nn.Linear(H if not tie else D, V)
        if tie:
            self.affine.weight = self.embed.weight
        self.rnn.bias_hh_l0.requires_grad_(False).zero_()  # the second of two biases that are only ever added
        self.h = None

    def forward(self, xs, ts):
        hs, h = self.rnn(self.embed(torch.as_tensor(xs)), self.h)
        self.h = h.detach()
        return torch.nn.functional.cross_entropy(
            self.affine(hs).flatten(0, 1), torch.as_tensor(ts).flatten(), ignore_index=-1
        )

    def ours(self, array=lambda p: p.detach()):
        """Parameters, or what ``array`` makes of them, in our order and orientation."""
        arrays = [array(self.embed.weight).numpy(), array(self.rnn.weight_ih_l0).numpy().T]
        arrays += [array(self.rnn.weight_hh_l0).numpy().T, array(self.rnn.bias_ih_l0).numpy()]
        if self.affine.weight is not self.embed.weight:
            arrays.append(array(self.affine.weight).numpy().T)
        return [*arrays, array(self.affine.bias).numpy()]


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def models(request):
    torch.manual_seed(0)
    theirs = TorchRnnlm(tie=request.param).double()
    ours = SimpleRnnlm(V, D, D if request.param else H, tie_weights=request.param, dtype=np.float64)
    for mine, other in zip(ours.params, theirs.ours(), strict=True):
        mine[...] = other
    return ours, theirs


def batches(steps):
    rng = np.random.default_rng(1)
    for _ in range(steps):
        words = rng.integers(0, V, (N, T + 1))
        words[0, 3] = 0
        ts = words[:, 1:].copy()
        ts[1, 2] = -1  # ignored
        yield words[:, :-1].copy(), ts


def test_loss_and_gradients(models):
    ours, theirs = models
    for xs, ts in batches(3):  # the state is carried from batch to batch
        loss = theirs(xs, ts)
        assert float(ours.forward(xs, ts)) == pytest.approx(loss.item(), rel=1e-13)
        theirs.zero_grad()
        loss.backward()
        ours.backward()
        for mine, other in zip(ours.grads, theirs.ours(lambda p: p.grad), strict=True):
            assert np.allclose(mine, other, rtol=0, atol=1e-14)


@pytest.mark.parametrize("max_grad", [None, 0.1])
@pytest.mark.parametrize("rule", ["SGD", "Momentum", "Adam", "AdamW"])
def test_ten_steps(models, rule, max_grad):
    ours, theirs = models
    weights = [p for p in theirs.parameters() if p.requires_grad]
    optimizer, reference = {
        "SGD": (SGD(0.5), torch.optim.SGD(weights, 0.5)),
        "Momentum": (Momentum(0.1, 0.9), torch.optim.SGD(weights, 0.1, momentum=0.9)),
        "Adam": (Adam(0.01), torch.optim.Adam(weights, 0.01)),
        "AdamW": (AdamW(0.01, weight_decay=0.1), torch.optim.AdamW(weights, 0.01, weight_decay=0.1)),
    }[rule]
    for xs, ts in batches(10):
        loss = theirs(xs, ts)
        assert float(ours.forward(xs, ts)) == pytest.approx(loss.item(), rel=1e-9)
        reference.zero_grad()
        loss.backward()
        ours.backward()
        if max_grad:
            norm = torch.nn.utils.clip_grad_norm_(weights, max_grad)
            assert float(clip_grads(ours.grads, max_grad)) == pytest.approx(norm.item(), rel=1e-9)
        reference.step()
        optimizer.update(ours.params, ours.grads)
    for mine, other in zip(ours.params, theirs.ours(), strict=True):
        assert np.allclose(mine, other, rtol=0, atol=1e-9)


def test_rnn_alone_with_gradients_of_its_inputs():
    torch.manual_seed(0)
    theirs = torch.nn.RNN(D, H, batch_first=True).double()
    Wx, Wh = (w.detach().numpy().T.copy() for w in (theirs.weight_ih_l0, theirs.weight_hh_l0))
    layer = TimeRNN(Wx, Wh, (theirs.bias_ih_l0 + theirs.bias_hh_l0).detach().numpy(), stateful=True)
    xs, h0, dhs = (torch.randn(*shape, dtype=torch.float64) for shape in ((N, T, D), (1, N, H), (N, T, H)))
    xs.requires_grad_()
    h0.requires_grad_()
    hs, _ = theirs(xs, h0)
    hs.backward(dhs)
    layer.set_state(h0.detach().numpy()[0])
    assert np.allclose(layer.forward(xs.detach().numpy()), hs.detach().numpy(), rtol=0, atol=1e-14)
    assert np.allclose(layer.backward(dhs.numpy()), xs.grad.numpy(), rtol=0, atol=1e-13)
    assert np.allclose(layer.dh, h0.grad.numpy()[0], rtol=0, atol=1e-13)
