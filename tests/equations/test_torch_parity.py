"""The same numbers as PyTorch's modules, in float64: losses, gradients, and weights after ten steps."""

import numpy as np
import pytest

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_lm import LstmLm
from common.interop import affine_from_torch, gru_from_torch, lstm_from_torch, rnn_from_torch
from common.optimizer import SGD, Adam, AdamW, Momentum, clip_grads
from common.time_layers import TimeBidirectional, TimeGRU, TimeLSTM, TimeRNN

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed; for a CPU build: https://pytorch.org/get-started/locally"
)

V, D, H, N, T = 11, 5, 6, 4, 7

CELLS = {
    "RNN": (SimpleRnnlm, {}, rnn_from_torch, TimeRNN),
    "LSTM": (LstmLm, {}, lstm_from_torch, TimeLSTM),
    "GRU": (GruLm, {"reset_after": True}, gru_from_torch, lambda *w, **o: TimeGRU(*w, **o, reset_after=True)),
}
EACH_CELL = pytest.mark.parametrize("cell", CELLS)


def one_bias(rnn):
    """Freeze at zero the second of two biases that are only ever added; GRU's h̃ has use for both."""
    H = rnn.hidden_size
    for name, p in rnn.named_parameters():
        if name.startswith("bias_hh"):
            free = slice(2 * H, None) if isinstance(rnn, torch.nn.GRU) else slice(0)
            mask = torch.zeros_like(p)
            mask[free] = 1
            with torch.no_grad():
                p.mul_(mask)
            p.register_hook(lambda g, mask=mask: g * mask)


def arrays(rnn, convert, suffix, array):
    """Weights of one layer, or what ``array`` makes of them, in our order."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return convert(*(array(getattr(rnn, name + suffix)).numpy() for name in names))


class TorchLm(torch.nn.Module):
    def __init__(self, cell, layers, tie):
        super().__init__()
        size = D if tie else H
        self.convert = CELLS[cell][2]
        self.embed = torch.nn.Embedding(V, D)
        self.rnn = getattr(torch.nn, cell)(D, size, layers, batch_first=True)
        one_bias(self.rnn)
        self.affine = torch.nn.Linear(size, V)
        if tie:
            self.affine.weight = self.embed.weight
        self.state = None

    def forward(self, xs, ts):
        hs, state = self.rnn(self.embed(torch.as_tensor(xs)), self.state)
        self.state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        return torch.nn.functional.cross_entropy(
            self.affine(hs).flatten(0, 1), torch.as_tensor(ts).flatten(), ignore_index=-1
        )

    def ours(self, array=lambda p: p.detach()):
        """Parameters, or what ``array`` makes of them, in our order and orientation."""
        found = [array(self.embed.weight).numpy()]
        for k in range(self.rnn.num_layers):
            found += arrays(self.rnn, self.convert, f"_l{k}", array)
        W, b = affine_from_torch(array(self.affine.weight).numpy(), array(self.affine.bias).numpy())
        return [*found, b] if self.affine.weight is self.embed.weight else [*found, W, b]


@pytest.fixture(params=[(cell, *rest) for cell in CELLS for rest in ((1, False), (2, True))], ids=str)
def models(request):
    cell, layers, tie = request.param
    torch.manual_seed(0)
    theirs = TorchLm(cell, layers, tie).double()
    model_class, options, _, _ = CELLS[cell]
    ours = model_class(V, D, D if tie else H, layers=layers, tie_weights=tie, dtype=np.float64, **options)
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
    weights = list(theirs.parameters())
    optimizer, reference = {
        "SGD": (SGD(0.5), torch.optim.SGD(weights, 0.5)),
        "Momentum": (Momentum(0.1, 0.9), torch.optim.SGD(weights, 0.1, momentum=0.9)),
        "Adam": (Adam(0.01, eps=1e-8, corrected=True), torch.optim.Adam(weights, 0.01)),
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


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@EACH_CELL
def test_a_layer_alone_with_gradients_of_its_inputs_and_state(cell):
    torch.manual_seed(0)
    _, _, convert, layer_class = CELLS[cell]
    theirs = getattr(torch.nn, cell)(D, H, batch_first=True).double()
    layer = layer_class(*arrays(theirs, convert, "_l0", lambda p: p.detach()), stateful=True)
    xs, dhs = random(N, T, D).requires_grad_(), random(N, T, H)
    state = [random(1, N, H).requires_grad_() for _ in layer.state]
    hs, _ = theirs(xs, tuple(state) if len(state) == 2 else state[0])
    hs.backward(dhs)
    layer.set_state(*(s.detach().numpy()[0] for s in state))
    assert np.allclose(layer.forward(xs.detach().numpy()), hs.detach().numpy(), rtol=0, atol=1e-14)
    assert np.allclose(layer.backward(dhs.numpy()), xs.grad.numpy(), rtol=0, atol=1e-13)
    for ours, other in zip([layer.dh, layer.dc] if cell == "LSTM" else [layer.dh], state, strict=True):
        assert np.allclose(ours, other.grad.numpy()[0], rtol=0, atol=1e-13)


@EACH_CELL
def test_bidirectional(cell):
    torch.manual_seed(0)
    _, _, convert, layer_class = CELLS[cell]
    theirs = getattr(torch.nn, cell)(D, H, batch_first=True, bidirectional=True).double()
    one_bias(theirs)
    layers = [layer_class(*arrays(theirs, convert, suffix, lambda p: p.detach())) for suffix in ("_l0", "_l0_reverse")]
    ours = TimeBidirectional(*layers)
    xs, dhs = random(N, T, D).requires_grad_(), random(N, T, 2 * H)
    hs, _ = theirs(xs)
    hs.backward(dhs)
    assert np.allclose(ours.forward(xs.detach().numpy()), hs.detach().numpy(), rtol=0, atol=1e-14)
    assert np.allclose(ours.backward(dhs.numpy()), xs.grad.numpy(), rtol=0, atol=1e-13)
    grads = [g for suffix in ("_l0", "_l0_reverse") for g in arrays(theirs, convert, suffix, lambda p: p.grad)]
    for mine, other in zip(ours.grads, grads, strict=True):
        assert np.allclose(mine, other, rtol=0, atol=1e-13)
