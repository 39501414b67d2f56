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


def models(cell, layers, tie):
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


@pytest.mark.parametrize(("layers", "tie"), [(1, False), (2, True)])
@EACH_CELL
def test_loss_and_gradients(cell, layers, tie):
    ours, theirs = models(cell, layers, tie)
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
def test_ten_steps(rule, max_grad):
    ours, theirs = models("LSTM", 2, True)
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


@pytest.mark.parametrize("bidirectional", [False, True])
@EACH_CELL
def test_a_layer_alone_with_gradients_of_its_input_and_states(cell, bidirectional):
    torch.manual_seed(0)
    _, _, convert, layer_class = CELLS[cell]
    theirs = getattr(torch.nn, cell)(D, H, batch_first=True, bidirectional=bidirectional).double()
    one_bias(theirs)
    suffixes = ["_l0", "_l0_reverse"][: 1 + bidirectional]
    layers = [
        layer_class(*arrays(theirs, convert, suffix, lambda p: p.detach()), stateful=not bidirectional)
        for suffix in suffixes
    ]
    layer = TimeBidirectional(*layers) if bidirectional else layers[0]
    xs, dhs = (torch.randn(N, T, width, dtype=torch.float64) for width in (D, H * len(layers)))
    names = "" if bidirectional else "hc"[: len(layer.state)]
    state, dstate = ([torch.randn(1, N, H, dtype=torch.float64) for _ in names] for _ in range(2))
    for x in (xs, *state):
        x.requires_grad_()
    hs, final = theirs(xs, tuple(state) if len(state) == 2 else state[0] if state else None)
    pairs = zip((hs, *(final if isinstance(final, tuple) else [final])), (dhs, *dstate))
    sum((x * dx).sum() for x, dx in pairs).backward()

    if names:
        layer.set_state(*(x.detach().numpy()[0] for x in state))
    found = [layer.forward(xs.detach().numpy()), layer.backward(dhs.numpy(), *(d.numpy()[0] for d in dstate))]
    found += [*(getattr(layer, f"d{name}") for name in names), *layer.grads]
    expected = [hs.detach().numpy(), xs.grad.numpy(), *(x.grad.numpy()[0] for x in state)]
    expected += [g for suffix in suffixes for g in arrays(theirs, convert, suffix, lambda p: p.grad)]
    for ours, other in zip(found, expected, strict=True):
        assert np.allclose(ours, other, rtol=0, atol=1e-13)
