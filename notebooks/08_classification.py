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
# # 8. Classification: from many states to one answer
#
# **You will** let recurrent networks tell from a paragraph in which era a president spoke, compare what the last state
# knows with what the mean of all states knows, read from both ends, and look at what gets confused with what.
#
# **You will learn** how a sequence becomes one vector, what padding does to that, and how to compare models without
# fooling yourself.
#
# **You need** notebooks [5](05_gates.ipynb) and [7](07_sentences.ipynb). About 15 minutes.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from ch05_rnn.rnn_classifier import RnnClassifier
from ch06_gated.lstm_classifier import LstmClassifier
from common.gradient_check import numerical_gradient
from common.layers import Affine, SoftmaxWithLoss
from common.optimizer import Adam, clip_grads
from common.packing import from_rows, pack, to_rows, unpack
from common.time_layers import TimeEmbedding, TimeLast, TimeMean, TimeRNN
from dataset import sotu
from dataset.tokenizer import WordTokenizer

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)

# %% [markdown]
# ## Paragraphs and eras
#
# Two centuries of addresses, a paragraph each; its class is the era. Whole addresses are kept for choosing, so that no
# paragraph is judged whose neighbours were learnt. To be quick we take every fourth paragraph, and its first 60 words.

# %%
data = sotu.load_eras()
train, valid = data.train[::4], data.valid[::2]
tokenizer = WordTokenizer.train([text for text, _ in train], vocab_size=5000)


def encode(part):
    texts = [np.array(tokenizer.encode(text)[:60], dtype=np.int32) for text, _ in part]
    return texts, np.array([label for _, label in part])


texts, labels = encode(train)
valid_texts, valid_labels = encode(valid)
counts = np.bincount(valid_labels)
majority = counts.max() / counts.sum()
print(f"{len(texts)} paragraphs to train on, {len(valid_texts)} to choose on")
print(dict(zip(data.classes, counts.tolist())), f"always the most frequent class: {majority:.0%} right")

# %%
example = next(text for text, label in train if label == 0)
print(example[:300], "...")

# %% [markdown]
# A model that is right in 44 of 100 cases has learnt nothing: so many belong to the most frequent class. Accuracy means
# something only beside that number.
#
# ## From T states to one vector
#
# A recurrent layer gives a state for each word. A classifier needs one vector for the text. The two simplest choices:
#
# $$y = h_{T} \quad\text{(last)} \qquad\qquad y = \frac{1}{T} \sum_{t=1}^{T} h_t \quad\text{(mean)}$$
#
# The **last** state has seen everything, but must have carried it to the end. The **mean** gives every step a direct
# way to the answer, and its gradient a direct way back: $dh_t = dy / T$ for each $t$.
#
# With padding there is a trap. In a padded batch `hs[:, -1]` is the last state of the longest text only; for the others
# it is a state after many steps of padding. And a mean over all steps takes in the padding. Packed sequences know where
# they end.

# %%
sequences = [rng.normal(size=(n, 3)) for n in (2, 5, 3)]
layer = TimeRNN(rng.normal(size=(3, 4)), rng.normal(size=(4, 4)), rng.normal(size=4))
hs = layer.forward(pack(sequences))
each = unpack(hs)  # the states of each sequence, in the order in which they were packed

assert np.allclose(TimeLast().forward(hs), [h[-1] for h in each])
assert np.allclose(TimeMean().forward(hs), [h.mean(axis=0) for h in each])

padded = np.zeros((3, 5, 3))
for row, sequence in zip(padded, sequences):
    row[: len(sequence)] = sequence
wrong = layer.forward(padded)[:, -1]
print("distance of hs[:, -1] from the last real state:", np.linalg.norm(wrong - [h[-1] for h in each], axis=1).round(2))
assert np.allclose(wrong[1], each[1][-1])  # right for the longest alone
assert not np.allclose(wrong[0], each[0][-1])

# %% [markdown]
# The gradient of the mean, by hand and from the layer:

# %%
mean, dy = TimeMean(), rng.normal(size=(3, 4))
hs = layer.forward(pack(sequences))
mean.forward(hs)
for d, n, grad in zip(dy, (2, 5, 3), unpack(mean.backward(dy))):
    assert np.allclose(grad, d / n)  # at each of the n steps

rows, layout = to_rows(hs)
rows = rows.copy()  # what a layer returned cannot be changed; a copy can
measured = numerical_gradient(lambda: (mean.forward(from_rows(rows, layout)) * dy).sum(), rows)
mean.forward(hs)
assert np.allclose(to_rows(mean.backward(dy))[0], measured, atol=1e-8)

# %% [markdown]
# ## The model
#
# Embedding, recurrent layer, last or mean, affine, softmax with loss. It takes packed texts and a class each.

# %%
V, C = tokenizer.vocab_size, len(data.classes)
model = RnnClassifier(V, 32, 32, C, pool="mean", rng=np.random.default_rng(0))
batch = model.batch(texts[:8])
loss = model.forward(batch, labels[:8])

embed_W, Wx, Wh, b, affine_W, affine_b = model.params
hs = TimeRNN(Wx, Wh, b).forward(TimeEmbedding(embed_W).forward(batch))
scores = Affine(affine_W, affine_b).forward(TimeMean().forward(hs))
assert scores.shape == (8, C)
assert np.isclose(SoftmaxWithLoss().forward(scores, labels[:8]), loss)
print(f"loss {loss:.3f}, and log {C} = {np.log(C):.3f}")

# %% [markdown]
# ## Five networks
#
# A simple RNN with the last state and with the mean; an LSTM with the last state; an LSTM that reads from both ends,
# with the last state of either reader; and two LSTMs, one on the other. All with the same sizes, the same batches, the
# same seed.


# %%
def accuracy(model):
    return (model.probabilities(valid_texts).argmax(axis=1) == valid_labels).mean()


def fit(model, epochs=2):
    optimizer, rng = Adam(lr=0.005), np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(texts))
        for first in range(0, len(texts), 32):
            chosen = order[first : first + 32]
            model.forward(model.batch([texts[n] for n in chosen]), labels[chosen])
            model.backward()
            clip_grads(model.grads, 1.0)
            optimizer.update(model.params, model.grads)


# %%
networks = {
    "RNN, last": (RnnClassifier, {"pool": "last"}),
    "RNN, mean": (RnnClassifier, {"pool": "mean"}),
    "LSTM, last": (LstmClassifier, {"pool": "last"}),
    "LSTM, both ends": (LstmClassifier, {"pool": "last", "bidirectional": True}),
    "2 LSTMs, last": (LstmClassifier, {"pool": "last", "layers": 2}),
}
models, accuracies = {}, {}
for name, (model_class, options) in networks.items():
    start = time.perf_counter()
    models[name] = model_class(V, 32, 32, C, rng=np.random.default_rng(0), **options)
    fit(models[name])
    accuracies[name] = accuracy(models[name])
    print(f"{name:16} {accuracies[name]:.1%}   {time.perf_counter() - start:4.1f} s")

# %% [markdown]
# How much of this is chance? With $n$ texts and an accuracy of $p$, another draw of texts would move the figure by
# about $\sqrt{p (1 - p) / n}$, and another seed moves it again.

# %%
n = len(valid_texts)
errors = {name: np.sqrt(p * (1 - p) / n) for name, p in accuracies.items()}
bars = [2 * error for error in errors.values()]
plt.barh(list(accuracies), list(accuracies.values()), xerr=bars, alpha=0.7)
plt.axvline(majority, color="black", ls=":", label="most frequent class")
plt.xlim(0.4, 0.8)
plt.gca().invert_yaxis()
plt.xlabel("accuracy (bars: two standard errors)")
plt.legend(fontsize=8, loc="lower right")
plt.show()

assert min(accuracies.values()) > majority + 0.1  # all of them have learnt something
assert max(errors.values()) > 0.013  # a difference of a point or two says nothing
assert accuracies["RNN, mean"] > accuracies["RNN, last"] + 0.02

# %% [markdown]
# All are far above the dotted line. Between most of them the difference is no larger than the error bars, and another
# seed could turn their order round. What can be said: for the simple RNN, which forgets what it read at the beginning
# (notebook 2), the mean is better than the last state, and it is the cheapest good network here. Reading from both ends
# and a second layer cost twice the time of one LSTM.
#
# Much of this task is in single words: "gentlemen" or "terrorism" give an era away wherever they stand. Where the order
# of words decides, a mean may do less well.
#
# ## What gets confused
#
# Row: the true era. Column: what the model says.

# %%
model = models["RNN, mean"]
said = model.probabilities(valid_texts).argmax(axis=1)
confusion = np.zeros((C, C), dtype=int)
np.add.at(confusion, (valid_labels, said), 1)

plt.figure(figsize=(5, 3.6))
plt.imshow(confusion / confusion.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
for i, j in np.ndindex(C, C):
    share = confusion[i, j] / confusion[i].sum()
    plt.text(j, i, confusion[i, j], ha="center", va="center", color="white" if share > 0.5 else "black")
plt.xticks(range(C), data.classes, fontsize=8)
plt.yticks(range(C), data.classes, fontsize=8)
plt.xlabel("era that the model says")
plt.ylabel("true era")
plt.colorbar(label="share of the row")
plt.show()

# %%
distance = np.abs(np.subtract.outer(np.arange(C), np.arange(C)))
print("paragraphs that are 0, 1, 2, 3 eras off:", [int(confusion[distance == d].sum()) for d in range(C)])
assert np.isclose(confusion.trace() / confusion.sum(), (said == valid_labels).mean())
assert confusion[distance == 1].sum() > confusion[distance >= 2].sum()  # neighbours are confused most

# %% [markdown]
# The mistakes make sense: an era is taken for the one beside it. A confusion matrix that makes no sense is often the
# first sign of labels that are mixed up.
#
# Ask it about sentences of your own.


# %%
def ask(text):
    [p] = model.probabilities([np.array(tokenizer.encode(text), dtype=np.int32)])
    print(f"{text}\n   " + ", ".join(f"{era} {p_:.0%}" for era, p_ in zip(data.classes, p)))
    return p


old = ask("the treaty with the indian tribes on our frontier has been laid before the senate")
new = ask("tonight i ask congress to cut taxes and to create new jobs for american families")
assert old[:2].sum() > 0.5
assert new.argmax() == 3

# %% [markdown]
# ## Summary
#
# - A text becomes one vector: its last state, or the mean of its states. The mean gives every step a short way for its
#   gradient.
# - With padding, "last" and "mean" must know the lengths. Packed sequences do.
# - Accuracy means something beside that of the most frequent class, and with its error.
# - A confusion matrix shows whether mistakes make sense.
#
# `python ch05_rnn/train_classifier.py` and `python ch06_gated/train_classifier.py` train on all of it, and on news by
# topic.
#
# ## Exercises
#
# Put your answer in place of `None` and run the cell below it.
#
# **1.** Of 400 texts, 100 are of each of four classes, and a model that gives every text the same class is asked. What
# is its accuracy?

# %%
answer_1 = None  # a number between 0 and 1

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    truth = np.repeat(np.arange(4), 100)
    assert np.isclose(answer_1, (truth == 2).mean()), "it is right for one class of four"
    print("Exercise 1: right")

# %% [markdown]
# **2.** Write the mean over real steps of padded states $(N, T, H)$, given the lengths.

# %%
answer_2 = None  # a function: def answer_2(hs, lengths): ..., which returns (N, H)

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    states = layer.forward(padded)
    assert np.allclose(answer_2(states, [2, 5, 3]), [h.mean(axis=0) for h in each]), "each row has its own length"
    print("Exercise 2: right")

# %% [markdown]
# **3.** Write the function that returns the accuracy within each true class (its recall), given a confusion matrix.

# %%
answer_3 = None  # a function: def answer_3(confusion): ..., which returns (C,)

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = [(said[valid_labels == c] == c).mean() for c in range(C)]
    assert np.allclose(answer_3(confusion), expected), "the diagonal, each number divided by the sum of its row"
    print("Exercise 3: right")
