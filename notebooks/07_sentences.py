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
# # 7. Sentences: subwords, padding, packing
#
# **You will** cut Japanese into subwords, put sentences of many lengths into one batch, first with padding and then
# without, and train on them.
#
# **You will learn** what a tokenizer does where there are no spaces, how labels make padding harmless, and how packing
# saves the work that padding costs while it gives the same numbers.
#
# **You need** notebooks [3](03_layers_of_a_language_model.ipynb) and [4](04_a_language_model.ipynb). No Japanese. About
# 15 minutes.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb

from ch06_gated.lstm_lm import LstmLm
from common.generation import generate
from common.optimizer import Adam, clip_grads
from common.packing import pack, unpack
from dataset import bungo
from dataset.tokenizer import CharTokenizer, SentencePieceTokenizer

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})

# %% [markdown]
# ## A language without spaces
#
# The text is the Bible in classical Japanese, a translation of the Meiji and Taisho eras; `pip` brought it along. A
# document is a verse.

# %%
documents = bungo.load().train[:5000]
print(documents[0], documents[1], sep="\n")

# %% [markdown]
# Where does a word end? Nothing in the writing says so. One could take characters: there are two thousand different
# ones here, and a sentence becomes long. **Subwords** are the way between. SentencePiece starts from many candidate
# strings and keeps those with which the text can be written most probably: frequent strings become one token, rare ones
# stay single characters.

# %%
subwords = SentencePieceTokenizer.train(documents, vocab_size=4000)
characters = CharTokenizer.train(documents, vocab_size=4000)

ids = subwords.encode(documents[0])
print([subwords.decode([i]) for i in ids])
print(ids)
assert subwords.decode(ids) == documents[0]


# %%
def tokens_a_verse(tokenizer):
    return np.mean([len(tokenizer.encode(document)) for document in documents])


print(f"characters: {characters.vocab_size:,} tokens, {tokens_a_verse(characters):.1f} a verse")
print(f"subwords:   {subwords.vocab_size:,} tokens, {tokens_a_verse(subwords):.1f} a verse")
assert tokens_a_verse(subwords) < 0.6 * tokens_a_verse(characters)

# %% [markdown]
# Half as many steps for the network, and gradients that reach twice as far back in the text. Four tokens are special,
# and have the same ids in every tokenizer: `<unk>` for a character that the vocabulary does not have, `<s>` and `</s>`
# for the beginning and the end of a document, `<pad>` to fill up.

# %%
print(subwords.encode("神は笑う😀"), subwords.decode(subwords.encode("神は笑う😀")))
assert subwords.unk_id in subwords.encode("😀")
assert (subwords.unk_id, subwords.bos_id, subwords.eos_id, subwords.pad_id) == (0, 1, 2, 3)

# %% [markdown]
# ## Sentences of many lengths
#
# A sentence is read from `<s>`, and the last word to predict is `</s>`: the model learns where sentences end. Inputs
# are all ids but the last, labels all but the first.

# %%
bos, eos = subwords.bos_id, subwords.eos_id
sentences = [np.array([bos, *subwords.encode(document), eos], dtype=np.int32) for document in documents]
lengths = np.array([len(sentence) - 1 for sentence in sentences])

plt.hist(lengths, bins=range(0, 70, 3))
plt.xlabel("tokens to predict")
plt.ylabel("verses")
plt.show()

# %% [markdown]
# A batch, though, is a rectangle. Shorter sentences must be filled up to the longest:


# %%
def pad(sequences, value):
    padded = np.full((len(sequences), max(len(s) for s in sequences)), value, dtype=np.int32)
    for row, s in zip(padded, sequences):
        row[: len(s)] = s
    return padded


rng = np.random.default_rng(0)
batch = [sentences[n] for n in rng.choice(len(sentences), 64, replace=False)]
inputs, labels = [s[:-1] for s in batch], [s[1:] for s in batch]
xs, ts = pad(inputs, subwords.pad_id), pad(labels, -1)
real = (ts != -1).mean()
print(f"a batch of {xs.shape}: {real:.0%} real, {1 - real:.0%} padding")
assert 0.3 < real < 0.7

# %% [markdown]
# ## Padding that does not count
#
# What would the model learn from padding? To write `<pad>` after `<pad>`, which is easy, and would make the loss look
# good. So padded labels are $-1$, and the loss ignores them (notebook 3): it is the mean over real words only. Since
# the padding stands **behind** a sentence, it cannot disturb the states before it.

# %%
V = subwords.vocab_size
model = LstmLm(V, 96, 96, rng=np.random.default_rng(0))
loss = model.forward(xs, ts)

total = 0.0
for x, t in zip(inputs, labels):  # each sentence alone
    model.reset_state()
    total += model.forward(x[None], t[None]) * len(t)
print(f"batch with padding {loss:.5f}, sentences one by one {total / sum(map(len, labels)):.5f}")
assert np.isclose(loss, total / sum(map(len, labels)), rtol=1e-5)

# %% [markdown]
# So padding is harmless, but it is not free: half of this batch's work is thrown away.
#
# ## Packing
#
# Sort the sentences by length, the longest first, and go through them **step by step**: at step 0 all of them have a
# word, later fewer and fewer. Lay those rows one behind the other. Nothing is left over.

# %%
colour = {"a": "lightsalmon", "b": "lightblue", "c": "lightgreen", ".": "lightgray", " ": "white"}


def grid(ax, rows, title):
    cells = [row + [" "] * (max(map(len, rows)) - len(row)) for row in rows]
    ax.imshow([[to_rgb(colour[cell[0]]) for cell in row] for row in cells])
    for i, row in enumerate(cells):
        for k, cell in enumerate(row):
            ax.text(k, i, cell, ha="center", va="center")
    ax.set_title(title, fontsize=10)
    ax.axis("off")


# %%
toy = [["a0", "a1", "a2"], ["b0", "b1", "b2", "b3", "b4"], ["c0"]]
figure, axes = plt.subplots(3, 1, figsize=(5, 4), height_ratios=(3, 3, 1))
grid(axes[0], [row + ["."] * (5 - len(row)) for row in toy], "padded: 15 cells")
grid(axes[1], sorted(toy, key=len, reverse=True), "sorted: column t is step t")
grid(axes[2], [["b0", "a0", "c0", "b1", "a1", "b2", "a2", "b3", "b4"]], "packed: 9 cells, step by step")
plt.show()


# %%
def my_pack(sequences):
    ordered = sorted(sequences, key=len, reverse=True)
    steps = [[s[t] for s in ordered if len(s) > t] for t in range(len(ordered[0]))]
    return np.concatenate(steps), [len(step) for step in steps]


packed = pack(inputs)
data, batch_sizes = my_pack(inputs)
assert np.array_equal(packed.data, data)
assert packed.layout.batch_sizes == batch_sizes
assert all(np.array_equal(a, b) for a, b in zip(unpack(packed), inputs))  # and back, in the order they came
print(f"sentences at each step: {batch_sizes[:3]} ... {batch_sizes[-3:]}")

# %% [markdown]
# The loop of the recurrent layer stays as it was: at step $t$ it takes the rows of step $t$, with the first rows of the
# state before. As sentences end, the batch shrinks. All other layers see nothing but rows. So models take packed
# sequences as they take arrays.

# %%
model.reset_state()
packed_loss = model.forward(pack(inputs), pack(labels))
model.backward()
packed_grads = [g.copy() for g in model.grads]

model.reset_state()
padded_loss = model.forward(xs, ts)
model.backward()

print(f"loss packed {packed_loss:.6f}, padded {padded_loss:.6f}")
assert np.isclose(packed_loss, padded_loss, rtol=1e-5)
for p, ours, theirs in zip(model.parameters, packed_grads, model.grads):
    assert np.allclose(ours, theirs, atol=1e-6), p.name

# %% [markdown]
# The same loss, the same gradients. And the time?


# %%
def seconds(xs, ts, rounds=5):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        model.reset_state()
        model.forward(xs, ts)
        model.backward()
        times.append(time.perf_counter() - start)
    return min(times)


words = sum(map(len, labels))
ms = {"padded": 1e3 * seconds(xs, ts), "packed": 1e3 * seconds(pack(inputs), pack(labels))}
print(", ".join(f"{way} {t:.0f} ms, {1e3 * words / t:,.0f} real words per second" for way, t in ms.items()))
assert packed.data.size == words < 0.7 * xs.size  # the work that is saved

# %% [markdown]
# Another way to waste less is to put sentences of nearly equal length into one batch (bucketing). But then each batch
# is less of a mixture. Packing asks for no such choice.
#
# ## Training on verses

# %%
optimizer, rng, losses = Adam(lr=0.005), np.random.default_rng(0), []
model = LstmLm(V, 96, 96, rng=rng)
for _ in range(200):
    chosen = [sentences[n] for n in rng.choice(len(sentences), 32, replace=False)]
    model.reset_state()  # each verse starts from nothing
    losses.append(float(model.forward(pack([s[:-1] for s in chosen]), pack([s[1:] for s in chosen]))))
    model.backward()
    clip_grads(model.grads, 1.0)
    optimizer.update(model.params, model.grads)

plt.semilogy(np.exp(losses), lw=1)
plt.xlabel("step")
plt.ylabel("perplexity (log scale)")
plt.yticks([400, 1000, 4000], ["400", "1,000", "4,000"])
plt.minorticks_off()
plt.show()
assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 1

# %% [markdown]
# A perplexity of some hundreds, from 4,000: no poetry yet, but it has learnt which tokens are frequent and what tends
# to follow what. From `<s>` to `</s>`:

# %%
skip = (subwords.unk_id, bos, subwords.pad_id)
for seed in range(3):
    ids = generate(model, [bos], 40, np.random.default_rng(seed), temperature=0.6, skip_ids=skip, stop_id=eos)
    print(subwords.decode(ids))

# %% [markdown]
# `python ch05_rnn/train_sentence_rnnlm.py` does this for hours instead of seconds.
#
# ## Summary
#
# - Subwords lie between characters and words, and need no spaces. They halve the number of steps.
# - Padding makes a rectangle; the label $-1$ keeps it out of the loss, and its place behind the sentence out of the
#   states.
# - Packed, sentences lie step by step, the longest first, and the batch shrinks as they end: the same loss, the same
#   gradients, and no work for padding.
#
# ## Exercises
#
# Put your answer in place of `None` and run the cell below it.
#
# **1.** Sentences of 5, 3 and 2 words share a padded batch. Which part of it is padding?

# %%
answer_1 = None  # a number between 0 and 1

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    padded = pad([np.zeros(5), np.zeros(3), np.zeros(2)], -1)
    assert np.isclose(answer_1, (padded == -1).mean()), "the rectangle has 3 rows of 5"
    print("Exercise 1: right")

# %% [markdown]
# **2.** Write the function that returns how many sentences have a step $0, 1, 2, \dots$, given their lengths.

# %%
answer_2 = None  # a function: def answer_2(lengths): ..., which returns a list

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    expected = pack([np.zeros(n) for n in (4, 1, 6, 4)]).layout.batch_sizes
    assert np.array_equal(answer_2([4, 1, 6, 4]), expected), "step t belongs to those longer than t"
    print("Exercise 2: right")

# %% [markdown]
# **3.** A model gave the loss of every step of a padded batch, an array $(N, T)$. Write the function that returns the
# mean loss of a real word.

# %%
answer_3 = None  # a function: def answer_3(losses, lengths): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    values, n_words = np.random.default_rng(0).random((3, 6)), [6, 2, 3]
    expected = np.concatenate([row[:n] for row, n in zip(values, n_words)]).mean()
    assert np.isclose(answer_3(values, n_words), expected), "np.arange(T) < lengths[:, None] says which steps are real"
    print("Exercise 3: right")
