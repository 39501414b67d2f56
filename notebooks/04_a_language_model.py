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
# # 4. A language model on 1,000 words
#
# **You will** put the layers together, feed them a small text in batches, train until the model knows it nearly by
# heart, and then break one index and see what that looks like.
#
# **You will learn** how a long text becomes batches for a network that carries its state, what a training loop does,
# and why a falling loss is no proof that the right thing is learnt.
#
# **You need** notebooks [2](02_through_time.ipynb) and [3](03_layers_of_a_language_model.ipynb). About 15 minutes.

# %%
import matplotlib.pyplot as plt
import numpy as np

import dataset
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.batching import OffsetBatches
from common.evaluation import evaluate, perplexity
from common.optimizer import SGD
from common.time_layers import TimeAffine, TimeEmbedding, TimeRNN, TimeSoftmaxWithLoss
from common.trainer import RnnlmTrainer

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})

# %% [markdown]
# ## The text
#
# The first 1,000 words of the addresses of US presidents, which came with the installation. A word is known by its
# number; at each word, the label is the word that follows.

# %%
book = dataset.load("sotu")
numbers, corpus = np.unique(book.train[:1000], return_inverse=True)  # the words that occur, from 0
words = [book.id_to_word[i] for i in numbers]
V = len(words)
xs, ts = corpus[:-1], corpus[1:]

print(" ".join(words[i] for i in corpus[:30]))
print(f"{len(corpus)} words, {V} different ones")
assert xs[1] == ts[0]  # what follows word 0 is word 1

# %% [markdown]
# ## Batches of a long text
#
# Truncated BPTT (notebook 2) reads a text window by window and carries the state along. To read several windows at
# once, let $N$ readers start at $N$ places: reader $i$ at $i \cdot n / N$. Each batch holds the next $T$ words of every
# reader. So row $i$ of one batch continues row $i$ of the batch before, and the carried state fits.
#
# Here are 24 letters, 3 readers and windows of 4. A colour is a batch.

# %%
letters, N, T = "abcdefghijklmnopqrstuvwx", 3, 4
stretch = len(letters) // N
figure, ax = plt.subplots(figsize=(5, 1.8))
ax.imshow(np.tile(np.arange(stretch) // T, (N, 1)), cmap="Pastel1", vmin=0, vmax=8)
for i in range(N):
    for k in range(stretch):
        ax.text(k, i, letters[i * stretch + k], ha="center", va="center")
ax.set_xticks([T / 2 - 0.5, 1.5 * T - 0.5], ["batch 0", "batch 1"])
ax.set_yticks(range(N), [f"reader {i}" for i in range(N)])
plt.show()

# %% [markdown]
# As a function: the batch that begins when each reader has read `time` words. Behind the end of the text, a reader goes
# on at its beginning (`% n`).


# %%
def batch(xs, ts, N, T, time):
    n = len(xs)
    x, t = np.empty((N, T), dtype=int), np.empty((N, T), dtype=int)
    for i in range(N):
        offset = i * (n // N)
        for k in range(T):
            x[i, k] = xs[(offset + time + k) % n]
            t[i, k] = ts[(offset + time + k) % n]
    return x, t


ids = np.arange(24)
print(batch(ids, ids, N, T, time=0)[0], batch(ids, ids, N, T, time=T)[0], sep="\n\n")

# %% [markdown]
# The library does the same with index arrays, and yields the batches of an epoch.

# %%
N, T = 10, 5
steps = len(xs) // (N * T)  # batches in an epoch
library = OffsetBatches(xs, ts, N, T)
assert len(library) == steps
for k, (x, t) in enumerate(library):
    ours = batch(xs, ts, N, T, time=k * T)
    assert np.array_equal(x, ours[0])
    assert np.array_equal(t, ours[1])

# %% [markdown]
# ## The model
#
# ```text
#  words  (N, T)      w_0   w_1   w_2
#                      |     |     |
#  embedding          x_0   x_1   x_2         (N, T, D)
#                      |     |     |
#  RNN           h →  h_0 → h_1 → h_2 →  h    (N, T, H), carried from batch to batch
#                      |     |     |
#  affine             y_0   y_1   y_2         (N, T, V), scores of the next word
# ```

# %%
D = H = 100
model = SimpleRnnlm(V, D, H, rng=np.random.default_rng(0))
for p in model.parameters:
    print(f"{p.name:9} {p.data.shape}")

embed_W, rnn_Wx, rnn_Wh, rnn_b, affine_W, affine_b = model.params
ys = TimeEmbedding(embed_W).forward(x)
ys = TimeRNN(rnn_Wx, rnn_Wh, rnn_b).forward(ys)
ys = TimeAffine(affine_W, affine_b).forward(ys)
loss = TimeSoftmaxWithLoss().forward(ys, t)

assert np.isclose(loss, model.forward(x, t))
print(f"before training, the perplexity is {perplexity(loss):.0f}, among {V} words")
assert abs(perplexity(loss) / V - 1) < 0.1  # it knows nothing yet

# %% [markdown]
# ## Training
#
# Forward, backward, a step downhill; again and again. No gradient has to be set to zero, as each `backward` replaces
# those of the step before (notebook 2). An epoch is once through the text. The function takes the maker of batches as an
# argument, because there will be a second one.


# %%
def train(batch, epochs=100):
    model = SimpleRnnlm(V, D, H, rng=np.random.default_rng(0))
    optimizer, time, perplexities = SGD(lr=0.1), 0, []
    for _ in range(epochs):
        losses = []
        for _ in range(steps):
            losses.append(model.forward(*batch(xs, ts, N, T, time)))
            model.backward()
            optimizer.update(model.params, model.grads)
            time += T
        perplexities.append(perplexity(np.mean(losses)))
    return model, perplexities


model, right = train(batch)
for epoch in (1, 20, 40, 60, 80, 100):
    print(f"epoch {epoch:3}  perplexity {right[epoch - 1]:6.1f}")
assert right[-1] < 10

# %% [markdown]
# From 400 to single digits: at each word the model hesitates between four or five. `RnnlmTrainer` has this loop, and
# besides it clipping, a validation text, a falling learning rate and a record of the run.

# %%
trainer = RnnlmTrainer(SimpleRnnlm(V, D, H, rng=np.random.default_rng(0)), SGD(lr=0.1))
history = trainer.fit(xs, ts, max_epoch=3, batch_size=N, time_size=T)
assert np.allclose([record["train_perplexity"] for record in history], right[:3], rtol=1e-4)

# %% [markdown]
# ## A wrong index
#
# Look once more at the line of `batch` that makes labels. Here is its twin with one word less, `time`: the labels of
# every batch are those of the first. Nothing complains. All shapes are right, all labels are words of the text.


# %%
def wrong_batch(xs, ts, N, T, time):
    n = len(xs)
    x, t = np.empty((N, T), dtype=int), np.empty((N, T), dtype=int)
    for i in range(N):
        offset = i * (n // N)
        for k in range(T):
            x[i, k] = xs[(offset + time + k) % n]
            t[i, k] = ts[(offset + k) % n]
    return x, t


wrong_model, wrong = train(wrong_batch)

# %%
plt.semilogy(range(1, 101), right, label="right labels")
plt.semilogy(range(1, 101), wrong, label="labels of the first batch")
plt.xlabel("epoch")
plt.ylabel("perplexity (log scale)")
plt.legend()
plt.show()

assert wrong[4] < right[4] / 3  # after 5 epochs the wrong one looks far better
assert right[-1] < wrong[-1] / 5  # in the end it is far worse

# %% [markdown]
# This is what makes the mistake dangerous: in the first 40 epochs it looks like **better** learning. The perplexity
# falls from several hundreds to below 40, quickly and smoothly. Then nothing more happens. It looks like a model that
# is too small, or a learning rate that is wrong, and one could spend days on that.
#
# Where does the plateau come from? There are only $N \cdot T = 50$ labels, the same at each step, and they have nothing
# to do with the words that are read. All that can be learnt is how frequent each is. The best loss then is the entropy
# of these frequencies $p$:
#
# $$L = -\sum_v p_v \log p_v$$

# %%
labels = wrong_batch(xs, ts, N, T, 0)[1]
p = np.bincount(labels.ravel(), minlength=V) / labels.size
entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
print(f"perplexity of the frequencies {np.exp(entropy):.1f}, of the model in the end {wrong[-1]:.1f}")
assert np.isclose(wrong[-1], np.exp(entropy), rtol=0.02)

# %% [markdown]
# ## How to notice
#
# Two tests that take a minute. **Look at a batch**: is the label of each word the word that follows it?


# %%
def follows(batch):
    x, t = batch(xs, ts, N, T, time=T)
    return np.array_equal(x[:, 1:], t[:, :-1])


assert follows(batch)
assert not follows(wrong_batch)

# %% [markdown]
# **Let the model show what it knows**: read the text to it, and count how often the word that it finds likeliest is the
# one that follows.


# %%
def hits(model):
    with model.evaluating():
        scores = model.predict(xs[None])  # one reader, from the first word to the last
    return (scores[0].argmax(axis=1) == ts).mean()


print(f"right {hits(model):.0%}, wrong {hits(wrong_model):.0%}")
assert hits(model) > 0.6
assert hits(wrong_model) < 0.1

# %% [markdown]
# The measured perplexity says the same, if the measuring has no part of the mistake in it:

# %%
print(f"right {perplexity(evaluate(model, xs, ts)):.1f}, wrong {perplexity(evaluate(wrong_model, xs, ts)):.0f}")
assert perplexity(evaluate(wrong_model, xs, ts)) > V  # worse than knowing nothing

# %% [markdown]
# ## Summary
#
# - $N$ readers start at $N$ places of a text; row $i$ of each batch continues row $i$ of the one before.
# - A training step is forward, backward, update. The library's trainer adds to that, and changes nothing.
# - A model with 400 words starts at a perplexity of 400; on 1,000 words it should fall to single digits.
# - A plateau can be learning of the wrong thing. Look at a batch, and measure with other code than you train with.
#
# ## Exercises
#
# Put your answer in place of `None` and run the cell below it.
#
# **1.** How many batches has an epoch of Penn Treebank's 929,589 words, with $N = 20$ and $T = 35$? (The last word has
# no successor.)

# %%
answer_1 = None  # a whole number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    text = np.zeros(929_589 - 1)
    assert answer_1 == len(OffsetBatches(text, text, 20, 35)), "a batch has N x T words; only whole batches count"
    print("Exercise 1: right")

# %% [markdown]
# **2.** Write the function that returns where the $N$ readers of $n$ words start.

# %%
answer_2 = None  # a function: def answer_2(n, N): ..., which returns a list

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    x, _ = next(iter(OffsetBatches(np.arange(999), np.arange(999), 7, 1)))
    assert np.array_equal(answer_2(999, 7), x[:, 0]), "all stretches have the same whole number of words"
    print("Exercise 2: right")

# %% [markdown]
# **3.** Write the function that returns the perplexity of an epoch, given the losses of its batches.

# %%
answer_3 = None  # a function: def answer_3(losses): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = np.sqrt(np.exp(1.0) * np.exp(3.0))  # the geometric mean of the perplexities of two batches
    assert np.isclose(answer_3([1.0, 3.0]), expected), "first the mean of the losses, then e to the power of it"
    print("Exercise 3: right")
