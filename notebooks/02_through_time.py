# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Through time
#
# **You will** unroll a recurrent network over a sequence, send gradients back through it, measure what that costs in
# memory, cut it into windows, and watch gradients fade and explode.
#
# **You will learn** back-propagation through time (BPTT), why it is truncated and what truncation loses, and why
# gradients are clipped.
#
# **You need** [notebook 1](01_one_step.ipynb). About 15 minutes.

# %%
import matplotlib.pyplot as plt
import numpy as np

from common.gradient_check import check_gradients
from common.layers import RNN
from common.optimizer import clip_grads
from common.parameter import Parameter
from common.time_layers import TimeLoop, TimeRNN

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)

# %% [markdown]
# ## Unrolling
#
# A sequence of $T$ steps, $x_0, \dots, x_{T-1}$, goes through the same equation $T$ times, and each step starts from
# the state in which the one before ended:
#
# $$h_t = \tanh(x_t W_x + h_{t-1} W_h + b)$$
#
# Drawn from left to right, this is a network of $T$ layers. What is special about it is that all of them share one set
# of weights.
#
# ```text
#         x_0       x_1       x_2
#          |         |         |
#  h_-1 → RNN → h_0 RNN → h_1 RNN → h_2      one Wx, one Wh, one b
# ```
#
# The library lets layers share a weight by sharing the object, a `Parameter`, which holds an array and its gradient.

# %%
N, T, D, H = 2, 6, 3, 4
Wx = Parameter(rng.normal(size=(D, H)))
Wh = Parameter(rng.normal(size=(H, H)))
b = Parameter(rng.normal(size=H))
layers = [RNN(Wx, Wh, b) for t in range(T)]
xs = rng.normal(size=(N, T, D))


def forward(xs):
    h, hs = np.zeros((N, H)), []
    for t, layer in enumerate(layers):
        h = layer.forward(xs[:, t], h)
        hs.append(h)
    return np.stack(hs, axis=1)


# %%
hs = forward(xs)
assert hs.shape == (N, T, H)

changed = xs.copy()
changed[:, 3] += 1  # what is read at step 3 ...
differs = np.abs(forward(changed) - hs).max(axis=(0, 2)) > 0
print(dict(enumerate(differs.tolist())))
assert differs.tolist() == [False] * 3 + [True] * 3  # ... is seen at step 3 and after, and never before

# %% [markdown]
# ## Back-propagation through time
#
# A state $h_t$ is used twice: by the loss at step $t$ (it predicts something there) and by the next step. Its gradient
# is the sum of what comes back on both ways:
#
# $$dh_t = \underbrace{dh_t^{\mathrm{loss}}}_{\text{from above}} + \underbrace{da_{t+1} W_h^\top}_{\text{from the next step}}$$
#
# So we walk from the last step to the first and carry the gradient of the state along. All steps use the same weights,
# so the gradient of a weight is the sum of what each step adds to it:
#
# $$dW_h = \sum_t h_{t-1}^\top \, da_t$$
#
# `Parameter` adds it up. A pass is a `forward` and the `backward` that follows it. The first gradient of a pass replaces
# that of the last pass, and all others are added to it. So nothing has to be set to zero, here or in a training loop.


# %%
def backward(dhs):
    dxs, dh = np.empty_like(xs), np.zeros((N, H))
    for t in reversed(range(T)):
        dxs[:, t], dh = layers[t].backward(dhs[:, t] + dh)
    return dxs, dh


# %%
dhs = rng.normal(size=(N, T, H))
forward(xs)
dxs, dh0 = backward(dhs)

arrays = {"Wx": Wx.data, "Wh": Wh.data, "b": b.data, "xs": xs}
gradients = {"Wx": Wx.grad, "Wh": Wh.grad, "b": b.grad, "xs": dxs}
errors = check_gradients(lambda: (forward(xs) * dhs).sum(), arrays, gradients)
print({name: f"{error:.0e}" for name, error in errors.items()})
assert max(errors.values()) < 1e-7

dWx = Wx.grad.copy()
forward(xs), backward(dhs)  # another pass: its gradients replace those of the first
assert np.array_equal(Wx.grad, dWx)

# %% [markdown]
# That is all of BPTT: the chain rule, walked backwards through the steps. `common.time_layers.TimeLoop` is these two
# functions in a class, for any cell: it is the library's definition of a layer over time.

# %%
import inspect

print(inspect.getsource(TimeLoop.forward))
print(inspect.getsource(TimeLoop.backward))

# %% [markdown]
# `TimeRNN` computes the same, only faster: one product gives $x_t W_x$ for all steps before the loop, and one product
# each gives $dW_x$ and $dW_h$ after it. (Notebook 10 shows what that is worth.)

# %%
for layer in (TimeLoop(RNN(Wx.data, Wh.data, b.data)), TimeRNN(Wx.data, Wh.data, b.data)):
    assert np.allclose(layer.forward(xs), hs)
    assert np.allclose(layer.backward(dhs), dxs)
    assert np.allclose(layer.dh, dh0)  # the gradient of the state that the sequence started from
    for ours, theirs in zip((Wx, Wh, b), layer.grads):
        assert np.allclose(ours.grad, theirs)

# %% [markdown]
# ## Where the memory goes
#
# Backward needs $x_t$ and $h_t$ of every step, so forward must keep them: memory grows with $T$. And at each step a
# language model has a score for each of its $V$ words. How much is it? We ask the layer what it holds, and count the
# scores, in float32, for $N = 20$ sequences, $D = H = 100$ and $V = 10{,}000$ words.

# %%
N, H, V = 20, 100, 10_000
lengths = np.array([1, 10, 100])
states = []
for T in lengths:
    layer = TimeRNN(*(np.zeros(shape, np.float32) for shape in ((H, H), (H, H), (H,))))
    layer.forward(np.zeros((N, T, H), np.float32))
    states.append(sum(a.nbytes for a in (layer.x, layer.hs)))
scores = N * lengths * V * 4

plt.loglog(lengths, np.array(scores) / 1e6, "o-", label="scores of all words")
plt.loglog(lengths, np.array(states) / 1e6, "o-", label="what the RNN keeps")
plt.xlabel("steps T")
plt.ylabel("MB")
plt.legend()
plt.show()

assert states[2] / states[1] > 9  # ten times the steps, about ten times the memory
assert scores[2] > 40 * states[2]

# %% [markdown]
# Two things to take away. The scores are the memory, not the states, so the library's loss layer holds no more than a
# fixed number of them at a time. And a text of two million words, read by 20 readers, has 100,000 steps:

# %%
steps = 100_000
print(f"states {steps * states[2] / 100 / 1e9:.1f} GB, scores {steps * scores[2] / 100 / 1e9:.0f} GB")
assert steps * scores[2] / 100 == 80e9

# %% [markdown]
# ## Truncation
#
# So the text is cut into windows of $T$ words. The **state** is carried from one window to the next, so that going
# forward nothing is lost. The **gradient** stops at the start of its window. `TimeRNN(..., stateful=True)` carries the
# state.

# %%
N, T, D, H = 1, 200, 8, 20
Wx, b = rng.normal(size=(D, H)) / np.sqrt(D), np.zeros(H)
Wh = np.linalg.qr(rng.normal(size=(H, H)))[0]
text, dhs = rng.normal(size=(N, T, D)) / 2, rng.normal(size=(N, T, H))


def in_windows(size):
    layer = TimeRNN(Wx, Wh, b, stateful=True)
    hs, dWh = [], np.zeros_like(Wh)
    for start in range(0, T, size):
        window = slice(start, start + size)
        hs.append(layer.forward(text[:, window]))
        layer.backward(dhs[:, window])
        dWh += layer.grads[1]  # those of this window alone
    return np.concatenate(hs, axis=1), dWh


# %%
hs_whole, dWh_whole = in_windows(T)
sizes = [1, 2, 5, 10, 20, 50, 100, 200]
differences = []
for size in sizes:
    hs, dWh = in_windows(size)
    assert np.allclose(hs, hs_whole)  # forward: the same, whatever the window
    differences.append(np.linalg.norm(dWh - dWh_whole) / np.linalg.norm(dWh_whole))

plt.semilogx(sizes, differences, "o-")
plt.xlabel("window, in steps")
plt.ylabel("dWh: part that is missing")
plt.show()

assert differences[0] > 0.5  # most of it is missing
assert 0.1 < differences[5] < 0.3  # a window of 50 steps
assert differences[-1] == 0  # the whole text in one window

# %% [markdown]
# With a window of one step most of the gradient is missing, with fifty steps a fifth. What a window cuts off are
# gradients from far away, and those tend to be small. Let us see why.
#
# ## Gradients that fade, gradients that explode
#
# Take a loss at the last step alone, and follow $dh$ back. Each step multiplies it by $\operatorname{diag}(1 - h^2)$
# and by $W_h^\top$. Leave tanh out for a moment, and let $W_h = s\,Q$ with a rotation $Q$, which keeps lengths. Then
# $k$ steps multiply the length by exactly $s^k$: for any $s$ but 1 it fades or explodes, and does so fast.

# %%
H, K = 50, 40
Q = np.linalg.qr(rng.normal(size=(H, H)))[0]
dh = rng.normal(size=(10, H))
dh_last = dh / np.linalg.norm(dh, axis=1, keepdims=True)


def linear_norms(s):
    dh, norms = dh_last, []
    for _ in range(K):
        norms.append(np.linalg.norm(dh, axis=1).mean())
        dh = dh @ (s * Q).T
    return np.array(norms)


for s in (0.8, 1.0, 2.0):
    assert np.allclose(linear_norms(s), s ** np.arange(K))

# %% [markdown]
# With tanh, each step multiplies by numbers between 0 and 1 as well, so gradients are never longer than that.


# %%
def rnn_norms(s):
    Wx, Wh, b = rng.normal(size=(H, H)) / np.sqrt(H), s * Q, np.zeros(H)
    layers, h = [RNN(Wx, Wh, b) for _ in range(K)], np.zeros((10, H))
    for layer in layers:
        h = layer.forward(0.2 * rng.normal(size=(10, H)), h)
    dh, norms = dh_last, []
    for layer in reversed(layers):
        norms.append(np.linalg.norm(dh, axis=1).mean())
        _, dh = layer.backward(dh)
    return np.array(norms)


# %%
for s, colour in ((0.8, "tab:blue"), (1.0, "tab:orange"), (2.0, "tab:green")):
    norms = rnn_norms(s)
    plt.semilogy(linear_norms(s), "--", color=colour)
    plt.semilogy(norms, color=colour, label=f"s = {s}")
    assert (norms <= s ** np.arange(K) * (1 + 1e-9)).all()
plt.xlabel("k, steps back")
plt.ylabel("‖dh‖ (dashed: without tanh)")
plt.legend()
plt.show()

assert rnn_norms(0.8)[-1] < 1e-3 and norms[-1] > 100  # the one fades, the other explodes

# %% [markdown]
# - **Fading**: what happened 40 steps ago has a gradient thousands of times smaller than what happened just now. The
#   network learns what is near, and is deaf to what is far. No learning rate mends that; gates do (notebook 5).
# - **Exploding**: the gradient is hundreds of times longer than usual, and one step of gradient descent throws the
#   weights away. That can be mended, crudely.
#
# ## Clipping
#
# If the gradient $g$ of all weights together is longer than we trust, shorten it, and keep its direction:
#
# $$g \leftarrow g \cdot \min\left(1, \frac{\mathrm{max\_norm}}{\lVert g \rVert}\right)$$


# %%
def clipped(grads, max_norm):
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    return [g * min(1, max_norm / norm) for g in grads]


grads = [rng.normal(size=(3, 4)), 10 * rng.normal(size=5)]
ours = clipped(grads, 1.0)
assert np.isclose(np.sqrt(sum((g**2).sum() for g in ours)), 1.0)
assert np.allclose(clipped(grads, 1e9)[0], grads[0])  # a short gradient stays as it is

theirs = [g.copy() for g in grads]
norm = clip_grads(theirs, 1.0)  # the library's, in place
print(f"length before {norm:.1f}, after {np.sqrt(sum((g**2).sum() for g in theirs)):.4f}")
assert all(np.allclose(a, b, rtol=1e-5) for a, b in zip(ours, theirs))

# %% [markdown]
# ## Summary
#
# - A recurrent network over $T$ steps is $T$ layers that share their weights; BPTT is the chain rule through them, and
#   gradients of shared weights add up.
# - Forward keeps every step for backward, so memory grows with $T$; most of it is the scores of the words.
# - Truncated BPTT cuts the text into windows: the state is carried on, the gradient stops.
# - Each step back multiplies the gradient by $W_h^\top$ and by $1 - h^2$. Over many steps it fades or explodes.
#   Clipping tames the explosion; it cannot bring back what has faded.
#
# ## Exercises
#
# Put your answer in place of `None` and run the cell below it.
#
# **1.** With $W_h = 0.9\,Q$ and no tanh, after how many steps back is the gradient first below 1 % of its length?

# %%
answer_1 = None  # a whole number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    assert 0.9**answer_1 < 0.01 <= 0.9 ** (answer_1 - 1), "0.9 to the power of k: solve for k, and round up"
    print("Exercise 1: right")

# %% [markdown]
# **2.** A window of one step: the gradient of the last step goes no further back than that step. Write the function
# that returns this truncated $dW_h$ out of the state before the last step, the last state and its gradient.

# %%
answer_2 = None  # a function: def answer_2(h_prev, h, dh): ...

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    layer = TimeRNN(Wx, Wh, b, stateful=True)
    before = layer.forward(text[:, :-1])[:, -1]
    last = layer.forward(text[:, -1:])
    layer.backward(dhs[:, -1:])
    found = answer_2(before, last[:, 0], dhs[:, -1])
    assert np.allclose(found, layer.grads[1]), "da = dh (1 - h²), and dWh is a product with the state before"
    print("Exercise 2: right")

# %% [markdown]
# **3.** How many bytes are the scores of one window, in float32, for $N = 20$ readers, $T = 35$ steps and the 33,278
# words of WikiText-2?

# %%
answer_3 = None  # a whole number

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    assert answer_3 == np.empty((20, 35, 33_278), np.float32).nbytes, "a float32 number takes 4 bytes"
    print("Exercise 3: right")
