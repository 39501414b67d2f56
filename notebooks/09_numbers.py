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
# # 9. Numbers: a wave and two sequences
#
# **You will** teach a small LSTM a sine wave, let it go on alone with nothing to hear but itself, and make another one
# recite two sequences that only memory tells apart.
#
# **You will learn** how a network predicts numbers instead of words, why predicting one step ahead is much easier than
# running free, and how the moment in which a network finds out about memory looks in a curve.
#
# **You need** notebook [5](05_gates.ipynb). About 10 minutes.

# %%
import matplotlib.pyplot as plt
import numpy as np

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.lstm_lm import LstmLm
from ch06_gated.train_sequences import recite
from ch06_gated.train_sine import free_run, make_network, sine
from common.batching import OffsetBatches
from common.gradient_check import numerical_gradient
from common.optimizer import Adam
from common.packing import pack
from common.time_layers import TimeMeanSquaredError

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})

# %% [markdown]
# ## Numbers in, numbers out
#
# The wave is $\sin(2 \pi t / 50)$. At each step the network hears a number and says what the next one will be. No
# embedding: the number itself goes into the LSTM. No softmax: a number comes out. The loss is the **mean squared
# error**,
#
# $$L = \frac{1}{n} \sum_i (y_i - t_i)^2 \qquad\Longrightarrow\qquad dy_i = \frac{2}{n} (y_i - t_i)$$
#
# which is once more "what was said minus what is true".

# %%
rng = np.random.default_rng(0)
y, t = rng.normal(size=(2, 3, 1)), rng.normal(size=(2, 3, 1))
layer = TimeMeanSquaredError()

assert np.isclose(layer.forward(y, t), ((y - t) ** 2).mean())
dy = layer.backward()
assert np.allclose(dy, 2 * (y - t) / y.size)
assert np.allclose(dy, numerical_gradient(lambda: ((y - t) ** 2).mean(), y), atol=1e-9)

# %% [markdown]
# The network 1-5-1 has one number in, five units and one number out. Ten readers read the wave in windows of one cycle,
# as in notebook 4, with the state carried on.

# %%
wave = sine(100)
model = make_network(5, init_range=0.1, rng=np.random.default_rng(0))
print(f"{len(wave):,} steps, {sum(p.size for p in model.params)} parameters")
assert np.allclose(wave[:3, 0], np.sin(2 * np.pi * np.arange(3) / 50))

# %% [markdown]
# ## One step ahead, and running free
#
# There are two ways to ask how good it is. **One step ahead**: it hears the true wave all the time. That is how it is
# trained. **Running free**: it hears one cycle, and then only what it has said itself. `free_run` is this loop:


# %%
def my_run_free(model, heard, steps):
    said = []
    with model.evaluating():
        x = heard[None]  # (1, T, 1)
        for _ in range(steps):
            x = model.predict(x)[:, -1:]  # the last number that it says is the next that it hears
            said.append(x[0, 0])
    return np.array(said)


truth = sine(6)
heard, to_say = truth[:50], truth[50:]
assert np.allclose(my_run_free(model, heard, 20), free_run(model, heard, 20))

# %% [markdown]
# We train, and keep what it says when it runs free at two times: early, and at the end. The learning rate falls to
# zero, so that the weights come to rest.


# %%
def train(model, epochs=300, early=10):
    batches = OffsetBatches(wave[:-1], wave[1:], 10, 50, restart=True)
    optimizer, ahead, free, said = Adam(), [], [], {}
    for epoch in range(1, epochs + 1):
        optimizer.lr = 0.02 * (1 - (epoch - 1) / epochs)
        model.reset_state()
        total = 0.0
        for xs, ts in batches:
            total += float(model.forward(xs, ts))
            model.backward()
            optimizer.update(model.params, model.grads)
        if epoch % 10 == 0:
            said[epoch] = free_run(model, heard, len(to_say))
            ahead.append(total / len(batches))
            free.append(((said[epoch] - to_say) ** 2).mean())
    return ahead, free, said[early], said[epochs]


# %%
ahead, free, said_early, said = train(model)
plt.semilogy(range(10, 301, 10), free, label="running free, 5 cycles")
plt.semilogy(range(10, 301, 10), ahead, label="one step ahead")
plt.xlabel("epoch")
plt.ylabel("mean squared error")
plt.legend()
plt.show()

assert free[0] > 10 * ahead[0]  # after 10 epochs
assert ahead[-1] < 1e-4
assert free[-1] < 0.01

# %% [markdown]
# One step ahead, the error is small almost at once. No wonder: a wave hardly moves in a fiftieth of a cycle, so that to
# repeat the last number is a fair guess. Running free, every small error is heard, becomes part of the next, and adds
# up over 250 steps.

# %%
repeat = ((wave[1:] - wave[:-1]) ** 2).mean()
print(f"one step ahead: repeating the last number {repeat:.1e}, the network {ahead[-1]:.1e}")
assert ahead[-1] < repeat / 100

figure, axes = plt.subplots(2, 1, figsize=(6, 4), sharex=True)
for ax, values, title in zip(axes, (said_early, said), ("after 10 epochs", "after 300 epochs")):
    ax.plot(truth, color="tab:gray", lw=3, alpha=0.5, label="truth")
    ax.plot(range(50, 300), values, color="tab:red", lw=1, label="network, running free")
    ax.axvline(50, color="black", lw=0.8, ls=":")
    ax.set_title(title, fontsize=10)
    ax.set_ylim(-1.2, 1.8)
axes[0].legend(fontsize=8, loc="upper right", ncols=2)
axes[1].set_xlabel("step (the truth is heard up to the dotted line)")
plt.show()

# %% [markdown]
# Early on it swings, and its period is about right, but its shape and height are not: it has learnt what waves are like,
# not yet this wave. The same gap opens in language models, which read true text in training and their own when they write.
#
# ## Two sequences that only memory tells apart
#
# ```text
# 9 0 1 2 3 4 5 6 7 9
# 8 0 1 2 3 4 5 6 7 8
# ```
#
# Told the first number, the network is to say the rest. In the middle it hears the same in both. To know the last
# number it must remember the first, over eight steps in which nothing asks for it. Numbers are words here: embedding,
# softmax, cross entropy.

# %%
sequences = np.array([[9, 0, 1, 2, 3, 4, 5, 6, 7, 9], [8, 0, 1, 2, 3, 4, 5, 6, 7, 8]])
xs, ts = pack(list(sequences[:, :-1])), pack(list(sequences[:, 1:]))
best_without_memory = np.log(2) / 9  # eight of nine are certain, the last is a guess between two


def learn(model, steps=1000):
    optimizer, losses, last = Adam(lr=0.01), [], []
    for step in range(steps):
        model.reset_state()
        losses.append(float(model.forward(xs, ts)))
        model.backward()
        optimizer.update(model.params, model.grads)
        if step % 10 == 0:
            _, ps = recite(model, 9, 9)  # nine numbers, after a 9 at the beginning
            last.append(ps[-1, 9])  # the probability of a 9 at the end
    return losses, last


# %%
steps = range(0, 1000, 10)
for seed in range(3):
    lstm = LstmLm(10, 8, 16, init_range=0.5, forget_bias=3.0, rng=np.random.default_rng(seed))
    rnn = SimpleRnnlm(10, 8, 16, init_range=0.5, rng=np.random.default_rng(seed))
    (lstm_losses, lstm_last), (rnn_losses, rnn_last) = learn(lstm), learn(rnn)
    plt.plot(steps, lstm_last, color="tab:blue", lw=1, label="LSTM" if seed == 0 else None)
    plt.plot(steps, rnn_last, color="tab:orange", lw=1, label="RNN" if seed == 0 else None)
    assert lstm_last[40] > 0.9  # after 400 steps
    assert abs(rnn_last[40] - 0.5) < 0.1
plt.axhline(0.5, color="black", ls=":", label="guessing")
plt.xlabel("step of training")
plt.ylabel("p(the last is 9), after a 9")
plt.legend()
plt.show()

# %% [markdown]
# Three of each, from different initial weights. All learn the middle quickly, and then guess the end: one half. The
# LSTMs, whose forget gates keep from the start (a bias of 3, as in notebook 5), find within some hundred steps that the
# beginning can be kept. The RNNs go on guessing for hundreds of steps; then one or another finds it too, and suddenly.
# Eight steps are not out of an RNN's reach. But nobody can say when, and until then it stays at the loss that is best
# without memory.

# %%
print(f"loss: LSTM {lstm_losses[-1]:.4f}, RNN {rnn_losses[-1]:.4f}, best without memory {best_without_memory:.4f}")
assert lstm_losses[-1] < best_without_memory / 5
assert abs(rnn_losses[-1] - best_without_memory) < 0.02

for model, name in ((lstm, "LSTM"), (rnn, "RNN")):
    for sequence in sequences:
        said, ps = recite(model, int(sequence[0]), 9)
        print(f"{name:5}{said}   last number with probability {ps[-1].max():.2f}")
        if name == "LSTM":
            assert said == sequence.tolist()

# %% [markdown]
# These are the last two of the six. If this RNN says a right number at the end, it is by luck: its probability is a
# half. To look at the answers alone would be too kind.
#
# Where does the LSTM keep it? In units of its cell state that differ between the two sequences in the middle, where all
# it hears is the same.

# %%
cell_states = []
for first in (9, 8):
    with lstm.evaluating():
        lstm.predict(np.array([[first, 0, 1, 2, 3, 4, 5, 6, 7]]))
        cell_states.append(lstm.layers[1].cs_next)
difference = cell_states[0] - cell_states[1]  # (9 steps, 16 units)
limit = np.abs(difference).max()
plt.imshow(difference.T, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
plt.xticks(range(9), ["9 or 8", *range(8)])
plt.xlabel("number that is heard")
plt.ylabel("unit")
plt.colorbar(label="difference of the cell states")
plt.show()

assert np.abs(difference[-1]).max() > 0.2 * np.abs(difference[0]).max()  # still there after eight steps

# %% [markdown]
# ## Summary
#
# - For numbers, the loss is the mean squared error; its gradient is again "said minus true".
# - One step ahead is easy; running free, errors feed on themselves. Measure what you need.
# - Memory is learnt suddenly, and late where nothing keeps it from the start. A plateau at the loss that is best
#   without memory is its sign.
# - Probabilities tell knowing from guessing; answers alone do not.
#
# `python ch06_gated/train_sine.py` and `python ch06_gated/train_sequences.py` are the same as scripts.
#
# ## Exercises
#
# Put your answer in place of `None` and run the cell below it.
#
# **1.** How many parameters does the network 1-5-1 have: an LSTM of 5 units that hears one number, and an affine layer
# to one?

# %%
answer_1 = None  # a whole number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    network = make_network(5, init_range=0.1, rng=np.random.default_rng(0))
    assert answer_1 == sum(p.size for p in network.params), "Wx, Wh and b have four parts each; then W and b"
    print("Exercise 1: right")

# %% [markdown]
# **2.** What is the lowest mean loss, in nats a number, of a model without memory on sequences of 21 numbers, of which
# 19 predictions are certain and the last is a guess among three?

# %%
answer_2 = None  # a number

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    surprises = -np.log([1.0] * 19 + [1 / 3])  # of each of the twenty predictions
    assert np.isclose(answer_2, surprises.mean()), "a guess among three costs log 3; take the mean over 20"
    print("Exercise 2: right")

# %% [markdown]
# **3.** Let the loss be the mean of $|y_i - t_i|$. Write the function that returns $dy$.

# %%
answer_3 = None  # a function: def answer_3(y, t): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = numerical_gradient(lambda: np.abs(y - t).mean(), y)
    assert np.allclose(answer_3(y, t), expected, atol=1e-9), "the slope of |x| is the sign of x"
    print("Exercise 3: right")
