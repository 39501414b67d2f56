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
# # 6. An LSTM that writes
#
# **You will** train an LSTM language model on 300,000 words in a few seconds, measure it on text that it has not seen,
# let it write at several temperatures, and look at its gates while it reads.
#
# **You will learn** what perplexity says and how to compute it without fooling yourself, how text is drawn from a
# model, and what the cell state of an LSTM does word by word.
#
# **You need** notebooks [4](04_a_language_model.ipynb) and [5](05_gates.ipynb). About 15 minutes.

# %%
import matplotlib.pyplot as plt
import numpy as np

import dataset
from ch06_gated.lstm_lm import LstmLm
from ch06_gated.show_gates import gates_of
from common.evaluation import evaluate, perplexity
from common.functions import log_softmax
from common.generation import generate, next_word_distribution
from common.layers import split
from common.optimizer import Adam
from common.trainer import RnnlmTrainer

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})

# %% [markdown]
# ## Text and model
#
# To keep it short we keep the 1,000 most frequent words of the addresses; all others are read as `<unk>`. We train on
# the last 300,000 words before 1998 and measure on words from after that. The model is that of notebook 4 with an LSTM
# in the place of the RNN.

# %%
book = dataset.load("sotu", vocab_size=1000)
train, valid = book.train[-300_000:], book.valid[:20_000]
xs, ts, valid_xs, valid_ts = train[:-1], train[1:], valid[:-1], valid[1:]
V = len(book.id_to_word)
model = LstmLm(V, 64, 64, rng=np.random.default_rng(0))

print(
    f"{V} words, {sum(p.size for p in model.params):,} parameters, of which {model.params[0].size:,} are word vectors"
)
print(" ".join(book.id_to_word[i] for i in valid[:40]))

# %%
trainer = RnnlmTrainer(model, Adam(lr=0.005))
history = trainer.fit(
    xs, ts, max_epoch=3, batch_size=20, time_size=35, max_grad=1.0, eval_interval=50, valid=(valid_xs, valid_ts)
)

# %%
inside = [record for record in history if record["epoch"] % 1]
ends = [record for record in history if record["valid_perplexity"]]
plt.plot([r["epoch"] for r in inside], [r["train_perplexity"] for r in inside], label="train")
plt.plot([r["epoch"] for r in ends], [r["valid_perplexity"] for r in ends], "o", label="valid")
plt.yscale("log")
plt.yticks([30, 40, 60, 100, 200], ["30", "40", "60", "100", "200"])
plt.xlabel("epoch")
plt.ylabel("perplexity (log scale)")
plt.legend()
plt.show()

assert ends[2]["valid_perplexity"] < ends[0]["valid_perplexity"] < 70

# %% [markdown]
# ## What perplexity says
#
# Perplexity is $e^L$ with the mean loss $L$ of a word: the number of words among which the model hesitates. Is a value
# below 40 good? Compare with models that need no network. One that knows nothing has a perplexity of $V$. One that
# knows how frequent each word is and nothing else, and one that looks at the word before and no further:

# %%
counts = np.bincount(xs, minlength=V) + 1  # one more of each: no word is impossible
unigram = np.exp(-np.log(counts[valid_ts] / counts.sum()).mean())
pairs = np.ones((V, V)) * counts / counts.sum()  # how often each word follows each, plus a share of the above
np.add.at(pairs, (xs, ts), 1)
bigram = np.exp(-np.log(pairs[valid_xs, valid_ts] / pairs[valid_xs].sum(axis=1)).mean())

lstm = perplexity(evaluate(model, valid_xs, valid_ts))
print(f"nothing {V}, frequencies {unigram:.0f}, the word before {bigram:.0f}, LSTM {lstm:.1f}")
assert lstm < bigram < unigram < V

# %% [markdown]
# Two things make perplexities comparable. **The state is carried** through the whole text: a model that starts from
# nothing at each window is judged too harshly. And **every word counts once**: windows are of different lengths, so the
# mean of their means is not the mean of the words. Here it is by hand, with one reader.


# %%
def loss_of(text, carried):
    total, words = 0.0, 0
    with model.evaluating():
        for start in range(0, len(text) - 1, 35):
            x, t = text[None, start : start + 35], text[None, start + 1 : start + 36]
            x = x[:, : t.shape[1]]  # the last, shorter window
            if not carried:
                model.reset_state()
            total += float(model.forward(x, t)) * x.size
            words += x.size
    assert words == len(text) - 1  # every word but the first is predicted once
    return total / words


carried, reset = loss_of(valid, True), loss_of(valid, False)
print(f"perplexity with the state carried {np.exp(carried):.1f}, from nothing at each window {np.exp(reset):.1f}")
assert np.isclose(carried, evaluate(model, valid_xs, valid_ts, batch_size=1), rtol=1e-5)
assert reset > carried + 0.02

# %% [markdown]
# The library's `evaluate` lets ten readers share the text, which is faster; each of them starts from nothing once.
#
# ## Where it hesitates
#
# The loss of a sentence is the sum of its words' surprises, $-\log p$. Nothing says more about a language model than to
# look at them. A state of zeros is a strange place to start from, so the model first reads a few lines of the
# validation text.

# %%
eos, unk = book.word_to_id["<eos>"], book.word_to_id["<unk>"]
context = valid[: np.flatnonzero(valid == eos)[4] + 1]  # five lines, the last <eos> included
sentence = "the people of the united states have the right to be free .".split()
ids = np.array([book.word_to_id[word] for word in sentence])


def surprises(ids):
    with model.evaluating():
        scores = model.predict(np.concatenate([context, ids])[None])[0]
    before = scores[len(context) - 1 : -1]  # those before each word of ids
    return -log_softmax(before)[np.arange(len(ids)), ids]


plt.bar(range(len(sentence)), surprises(ids))
plt.xticks(range(len(sentence)), sentence, rotation=60)
plt.ylabel("-log p")
plt.show()

# %%
place = sentence.index("states")
print(f"'states' after 'united' has the probability {np.exp(-surprises(ids)[place]):.2f}")
print(f"the sentence {surprises(ids).sum():.0f} nats, its words in reverse order {surprises(ids[::-1]).sum():.0f}")
assert np.exp(-surprises(ids)[place]) > 0.5
assert surprises(ids[::-1]).sum() > 1.3 * surprises(ids).sum()  # it knows more than how frequent words are

# %% [markdown]
# ## It writes
#
# To write, draw a word from the distribution that the model gives, read it as if it had been there, and go on. Before
# drawing, the scores may be divided by a **temperature** $\tau$:
#
# $$p_v = \frac{\exp(x_v / \tau)}{\sum_u \exp(x_u / \tau)}$$
#
# Below 1 it prefers what is likely anyhow; near 0 it always takes the likeliest; above 1 it dares more, and errs more.


# %%
def distribution(scores, temperature):
    y = np.exp((scores - scores.max()) / temperature)
    return y / y.sum()


with model.evaluating():
    scores = model.predict(np.concatenate([context, ids[:1]])[None])[0, -1].astype(float)
scores[unk] = -np.inf  # not to be written
top = np.argsort(-scores)[:8]
for k, temperature in enumerate((0.5, 1.0, 2.0)):
    p = distribution(scores, temperature)
    plt.bar(np.arange(8) + 0.27 * (k - 1), p[top], 0.27, label=f"τ = {temperature}")
    assert np.allclose(p, next_word_distribution(scores, temperature))
plt.xticks(range(8), [book.id_to_word[i] for i in top], rotation=60)
plt.ylabel("p of the word after 'the'")
plt.legend()
plt.show()

# %%
entropies = []
for temperature in (0.25, 0.5, 1.0, 2.0, 4.0):
    p = distribution(scores, temperature)
    entropies.append(-(p[p > 0] * np.log(p[p > 0])).sum())
    print(f"temperature {temperature:4}: as if there were {np.exp(entropies[-1]):6.1f} equally likely words")
assert entropies == sorted(entropies)

# %% [markdown]
# The loop of drawing and reading, by hand; `generate` is the same.


# %%
def write(length, temperature, rng):
    words, text = context, []
    with model.evaluating():
        for _ in range(length):
            scores = model.predict(words[None])[0, -1].astype(float)
            scores[unk] = -np.inf
            word = int(rng.choice(V, p=distribution(scores, temperature)))
            text.append(word)
            words = np.array([word])  # all else is in the state
    return text


ours = write(30, 0.8, np.random.default_rng(0))
assert ours == list(generate(model, context, 30, np.random.default_rng(0), temperature=0.8, skip_ids=[unk]))

# %%
for temperature in (0.5, 0.8, 1.2):
    ids_ = generate(model, context, 40, np.random.default_rng(1), temperature, skip_ids=[unk], stop_id=eos)
    print(f"τ = {temperature}:", " ".join(book.id_to_word[i] for i in ids_), "\n")

# %% [markdown]
# ## Its gates and its cell state
#
# Inside a block of `model.evaluating()`, a layer holds what it has computed last, so that we can look at it; after the
# block, all is as it was before. For each word there are $f, g, i, o$, side by side: the gates after their $\sigma$, the
# candidate $g$ after its tanh. Do they obey the equations of notebook 5?

# %%
with model.evaluating():
    model.predict(np.concatenate([context, ids])[None])
    layer = model.layers[1]
    f, g, i, o = split(layer.gates[-len(ids) :], 4)  # (words, H) each, for one reader
    c, h = layer.cs_next[-len(ids) :], layer.hs_next[-len(ids) :]
    maps = gates_of(layer)  # the same arrays by name, for ch06_gated/show_gates.py

assert np.allclose(c[1:], f[1:] * c[:-1] + i[1:] * g[1:], atol=1e-6)
assert np.allclose(h, o * np.tanh(c), atol=1e-6)
assert all(any(np.array_equal(values[-len(ids) :], array) for values in maps.values()) for array in (f, i, o, c, h))

# %% [markdown]
# Twelve of the 64 units, those whose state changes most. For the gate, white to blue is 0 to 1; for the cell state,
# red and blue are plus and minus.

# %%
chosen = np.argsort(-np.abs(np.diff(h, axis=0)).sum(axis=0))[:12]
figure, axes = plt.subplots(2, 1, figsize=(6, 4.5), sharex=True)
limit = np.abs(c[:, chosen]).max()
for ax, name, values, colours in (
    (axes[0], "forget gate f", f, {"cmap": "Blues", "vmin": 0, "vmax": 1}),
    (axes[1], "cell state c", c, {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}),
):
    image = ax.imshow(values[:, chosen].T, aspect="auto", **colours)
    figure.colorbar(image, ax=ax)
    ax.set_title(name, fontsize=10)
    ax.set_ylabel("unit")
    ax.set_yticks(range(12), chosen, fontsize=6)
axes[1].set_xticks(range(len(sentence)), sentence, rotation=60)
plt.show()

# %% [markdown]
# A row that keeps its colour over several words is a unit that remembers; a pale spot in the upper map is where it
# forgets. How long do they remember? A unit whose forget gate is $f$ on the average loses half of what it holds in
# $\log \tfrac12 / \log f$ words.

# %%
half_lives = np.log(0.5) / np.log(f.mean(axis=0))
print("words after which half is gone: the three fastest units", np.sort(half_lives)[:3].round(1), end=", ")
print("the three slowest", np.sort(half_lives)[-3:].round(1))
assert half_lives.max() > 4 * half_lives.min()  # units that forget soon and units that keep long, side by side

# %% [markdown]
# ## Summary
#
# - A few seconds of training bring an LSTM far below what frequencies and pairs of words can give.
# - Measure perplexity with a carried state, and weigh every word once.
# - To write is to draw, read what was drawn, and go on. The temperature trades safety for variety.
# - Units of one LSTM remember over very different spans, and their gates say when they let go.
#
# `python ch06_gated/train_lstm_lm.py` trains on the whole text, and `python ch06_gated/show_gates.py` draws all the
# maps.
#
# ## Exercises
#
# Put your answer in place of `None` and run the cell below it.
#
# **1.** How many bits does a word cost on the average, in a code built on a model with a perplexity of 64?

# %%
answer_1 = None  # a number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    assert np.isclose(2.0**answer_1, perplexity(np.log(64))), "bits are logarithms to the base 2"
    print("Exercise 1: right")

# %% [markdown]
# **2.** Write the function that returns a distribution over the $k$ likeliest words only, all others with probability
# 0.

# %%
answer_2 = None  # a function: def answer_2(scores, k): ...

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    found = answer_2(scores, 5)
    assert np.allclose(found, next_word_distribution(scores, top_k=5)), "the five are to sum to 1"
    print("Exercise 2: right")

# %% [markdown]
# **3.** Texts of different lengths have been measured one by one. Write the function that returns the perplexity of all
# of them together, out of the mean loss and the number of words of each.

# %%
answer_3 = None  # a function: def answer_3(losses, words): ..., both lists

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    parts = np.split(np.random.default_rng(0).random(100), [10])  # the losses of single words
    found = answer_3([part.mean() for part in parts], [len(part) for part in parts])
    assert np.isclose(found, np.exp(np.concatenate(parts).mean())), "weigh each loss by its number of words"
    print("Exercise 3: right")
