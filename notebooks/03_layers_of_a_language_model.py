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
# # 3. The layers of a language model
#
# **You will** build the layers around the recurrent one, embedding, affine and softmax with loss, and plant a mistake
# in one of them that a common check does not see.
#
# **You will learn** how words become vectors and vectors become probabilities, where the gradient of the loss begins,
# and how to test a gradient so that a mistake has nowhere to hide.
#
# **You need** [notebook 1](01_one_step.ipynb). About 15 minutes.

# %%
import matplotlib.pyplot as plt
import numpy as np

from common.functions import log_softmax
from common.gradient_check import check_gradients, numerical_gradient
from common.layers import Affine, Embedding, SoftmaxWithLoss
from common.time_layers import TimeAffine, TimeAffineSoftmaxWithLoss, TimeEmbedding, TimeSoftmaxWithLoss

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)

# %% [markdown]
# ## From words to vectors: embedding
#
# A model knows words by numbers, $0, \dots, V - 1$. For the network each must become a vector. The textbook way is to
# write word $x$ as a row that is 0 everywhere but at place $x$ (one-hot), and to multiply it by a matrix $W$ of shape
# $(V, D)$. But that product only picks row $x$ of $W$:

# %%
V, D = 6, 3
W = rng.normal(size=(V, D))
x = np.array([3, 1, 3, 5])  # four words; word 3 comes twice
onehot = np.eye(V)[x]

assert np.array_equal(onehot @ W, W[x])

# %% [markdown]
# With 10,000 words, picking reads one row where the product would read all of them. So an **embedding** layer is a
# look-up: $y_n = W_{x_n}$. The rows of $W$ are learnt like any weight; words that are used alike end up with vectors
# that are alike.
#
# Its gradient: row $v$ of $W$ was used wherever word $v$ stands, so its gradient is the sum of what comes back from
# there.
#
# $$dW_v = \sum_{n:\, x_n = v} dy_n \qquad\text{or, with one-hot rows,}\qquad dW = \mathrm{onehot}(x)^\top dy$$
#
# Careful in NumPy: `dW[x] += dy` reads well and is wrong, because a row that is named twice gets only one of its parts.

# %%
dy = rng.normal(size=(4, D))
expected = onehot.T @ dy

wrong = np.zeros_like(W)
wrong[x] += dy
right = np.zeros_like(W)
np.add.at(right, x, dy)

assert np.allclose(right, expected)
assert not np.allclose(wrong[3], expected[3])  # word 3 comes twice: one of its parts is lost
assert np.allclose(wrong[[0, 1, 2, 4, 5]], expected[[0, 1, 2, 4, 5]])  # all other words are right

# %% [markdown]
# A test with four different words would not have noticed. The library's layer:

# %%
layer = Embedding(W)
assert np.array_equal(layer.forward(x), W[x])
layer.backward(dy)
assert np.allclose(layer.grads[0], expected)

# %% [markdown]
# ## From states to scores: affine
#
# At the other end, each state $h$ becomes a score for each word of the vocabulary: $y = h W + b$ with $W$ of shape
# $(H, V)$. You know its gradients from notebook 1: $dW = h^\top dy$, $db = \sum_n dy_n$, $dh = dy \, W^\top$.
#
# What is new is time. The states of all steps are an array $(N, T, H)$. To this layer a step is just another row, so
# all $N \cdot T$ rows go through one product:

# %%
N, T, H = 2, 3, 4
W, b = rng.normal(size=(H, V)), rng.normal(size=V)
hs = rng.normal(size=(N, T, H))

ys = (hs.reshape(N * T, H) @ W + b).reshape(N, T, V)
assert np.allclose(ys[1, 2], hs[1, 2] @ W + b)  # each step as if it were alone
assert np.allclose(ys, TimeAffine(W, b).forward(hs))

# %% [markdown]
# ## From scores to a loss: softmax and cross entropy
#
# **Softmax** turns the scores $x$ of a row into probabilities: all positive, with the sum 1.
#
# $$y_v = \frac{\exp(x_v)}{\sum_u \exp(x_u)}$$
#
# Adding a number to all scores changes nothing, since it cancels. That is worth knowing: $\exp(1000)$ is too large for
# a computer, so one subtracts the largest score first.


# %%
def naive_softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def softmax(x):
    y = np.exp(x - x.max(axis=-1, keepdims=True))
    return y / y.sum(axis=-1, keepdims=True)


scores = np.array([1.0, 2.0, 4.0])
assert np.allclose(softmax(scores), naive_softmax(scores))
assert np.allclose(softmax(scores + 1000), softmax(scores))
with np.errstate(all="ignore"):
    print("naive:", naive_softmax(scores + 1000), "  with the largest subtracted:", softmax(scores + 1000))
assert np.allclose(np.log(softmax(scores)), log_softmax(scores))  # the library takes the logarithm without softmax

# %% [markdown]
# The **loss** of a row is the surprise at the word $t$ that really follows: $-\log y_t$. It is 0 if the model was sure
# of it. Over $n$ rows one takes the mean:
#
# $$L = -\frac{1}{n} \sum_{i=1}^{n} \log y_{i, t_i}$$
#
# Papers report $e^L$, the **perplexity**: a model that finds $k$ words equally likely, and no others, has $L = \log k$
# and a perplexity of $k$. It is the number of words among which the model still hesitates.

# %%
n = 5
t = rng.integers(0, V, n)
knows_nothing = np.zeros((n, V))  # the same score for each word

loss = SoftmaxWithLoss().forward(knows_nothing, t)
print(f"loss {loss:.4f}, perplexity {np.exp(loss):.2f}, vocabulary {V}")
assert np.isclose(np.exp(loss), V)

# %% [markdown]
# **The gradient** turns out as simple as could be. From $\log y_t = x_t - \log \sum_u \exp(x_u)$,
#
# $$\frac{\partial (-\log y_t)}{\partial x_v} = y_v - [v = t]$$
#
# where $[v = t]$ is 1 for the word that follows and 0 for the others. Probability minus truth: the score of the right
# word is pushed up, that of each other word is pushed down, by as much probability as it was wrongly given. This is
# where the gradient of everything begins.

# %%
x = rng.normal(size=(n, V))
layer = SoftmaxWithLoss()
layer.forward(x, t)
dx = layer.backward()

assert np.allclose(dx, (softmax(x) - np.eye(V)[t]) / n)
assert np.allclose(dx, numerical_gradient(lambda: layer.forward(x, t), x), atol=1e-9)
assert np.allclose(dx.sum(axis=1), 0)  # what one score gains, the others lose

# %%
words = np.arange(V)
plt.bar(words - 0.2, softmax(x[0]), 0.4, label="probability y")
plt.bar(words + 0.2, dx[0] * n, 0.4, label="gradient y - [v = t]")
plt.axhline(0, color="black", lw=0.8)
plt.xlabel(f"word v (word {t[0]} is the one that follows)")
plt.legend()
plt.show()

assert (dx[0] < 0).tolist() == (words == t[0]).tolist()  # only the right word's score is to rise

# %% [markdown]
# Steps that do not count, such as the padding behind a short sentence, have the label $-1$. They add nothing to the
# loss or to $n$, and their gradient is 0.

# %%
masked = t.copy()
masked[0] = -1
some = SoftmaxWithLoss()
assert np.isclose(some.forward(x, masked), SoftmaxWithLoss().forward(x[1:], t[1:]))
assert np.all(some.backward()[0] == 0)
assert SoftmaxWithLoss().forward(x, np.full(n, -1)) == 0  # no labels at all: 0, and not NaN

# %% [markdown]
# ## A mistake that hides
#
# Now plant a mistake. The library's layers keep the rows of a sequence in the order of time: first the $N$ rows of step
# 0, then those of step 1, and so on. Suppose that the author of `TimeAffine` remembered that in forward, and forgot it
# in backward:


# %%
class WrongTimeAffine(TimeAffine):
    def backward(self, dys):
        N, T, V = dys.shape
        dy = dys.reshape(N * T, V)  # sequence by sequence, but forward has remembered x step by step
        return Affine.backward(self, dy).reshape(N, T, -1)


# %% [markdown]
# Every shape is right. To check the layer we need a loss; the simplest is the sum of all outputs, whose gradient is an
# array of ones. Many tests are written like that. Here is the check with ones, and beside it the check with random
# numbers.


# %%
def errors_of(layer_class, upstream):
    layer = layer_class(W.copy(), b.copy())
    layer.forward(hs)
    dhs = layer.backward(upstream)
    arrays = {"W": layer.params[0], "b": layer.params[1], "hs": hs}
    gradients = {"W": layer.grads[0], "b": layer.grads[1], "hs": dhs}
    return check_gradients(lambda: (layer.forward(hs) * upstream).sum(), arrays, gradients)


ones, random = np.ones((N, T, V)), rng.normal(size=(N, T, V))
for layer_class in (TimeAffine, WrongTimeAffine):
    for name, upstream in (("ones", ones), ("random", random)):
        errors = errors_of(layer_class, upstream)
        print(f"{layer_class.__name__:16} {name:7}", {name: f"{error:.0e}" for name, error in errors.items()})

# %%
assert max(errors_of(TimeAffine, ones).values()) < 1e-7
assert max(errors_of(TimeAffine, random).values()) < 1e-7
assert max(errors_of(WrongTimeAffine, ones).values()) < 1e-7  # the check with ones sees nothing
assert errors_of(WrongTimeAffine, random)["W"] > 0.1  # the check with random numbers does
assert errors_of(WrongTimeAffine, random)["hs"] < 1e-7  # two of three gradients are right even so

# %% [markdown]
# With ones, every row of $dy$ is the same, so it does not matter in which order they come: the sum $h^\top dy$ pairs
# rows, and the wrong pairs give the same as the right ones. Random numbers tell rows apart. And only $dW$ is wrong: a
# check of $dx$ alone would have been content, too. Hence the rule that the tests of this project keep:
#
# > Check **every** gradient, by name, with **random** numbers as the gradient that comes from above.
#
# ## All of it in a row
#
# Words in, a loss out, without a recurrent layer yet; that one comes between the two in the next notebook.

# %%
W_in, W_out, b_out = rng.normal(size=(V, H)), rng.normal(size=(H, V)), rng.normal(size=V)
xs, ts = rng.integers(0, V, (N, T)), rng.integers(0, V, (N, T))
layers = [TimeEmbedding(W_in), TimeAffine(W_out, b_out)]
loss_layer = TimeSoftmaxWithLoss()


def forward():
    ys = xs
    for layer in layers:
        ys = layer.forward(ys)
    return loss_layer.forward(ys, ts)


# %%
forward()
dys = loss_layer.backward()
for layer in reversed(layers):
    dys = layer.backward(dys)

arrays = {"W_in": W_in, "W_out": W_out, "b_out": b_out}
gradients = dict(zip(arrays, [*layers[0].grads, *layers[1].grads]))
errors = check_gradients(forward, arrays, gradients)
print({name: f"{error:.0e}" for name, error in errors.items()})
assert max(errors.values()) < 1e-7

# %% [markdown]
# The models of the library use `TimeAffineSoftmaxWithLoss`, which computes the last two layers a slice of rows at a
# time, because the scores are the largest arrays of all (notebook 2). It is the same function:

# %%
both = TimeAffineSoftmaxWithLoss(W_out, b_out)
assert np.isclose(both.forward(W_in[xs], ts), forward())
both.backward()
assert np.allclose(both.grads[0], gradients["W_out"])

# %% [markdown]
# ## Summary
#
# - An embedding picks rows; its gradient adds rows up, with care for words that come twice.
# - An affine layer treats each step as a row: one product for all of them.
# - Softmax with cross entropy has the gradient "probability minus truth". Perplexity is $e^L$.
# - A gradient check with all ones is blind to whatever only mixes up rows. Use random numbers, and check every
#   gradient.
#
# ## Exercises
#
# Put your answer in place of `None` and run the cell below it.
#
# **1.** A model gives every right word the probability 0.25. What is its perplexity?

# %%
answer_1 = None  # a number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    scores = np.log([[0.25, 0.5, 0.125, 0.125]])
    assert np.isclose(answer_1, np.exp(SoftmaxWithLoss().forward(scores, np.array([0])))), "e to the power of the loss"
    print("Exercise 1: right")

# %% [markdown]
# **2.** Write the gradient of an embedding of $V$ words without `np.add.at`, with a matrix product.

# %%
answer_2 = None  # a function: def answer_2(x, dy, V): ...

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    x_ = np.array([0, 2, 2, 2, 4])
    dy_ = rng.normal(size=(5, D))
    layer = Embedding(np.zeros((7, D)))
    layer.forward(x_)
    layer.backward(dy_)
    assert np.allclose(answer_2(x_, dy_, 7), layer.grads[0]), "np.eye(V)[x] has a one-hot row for each word"
    print("Exercise 2: right")

# %% [markdown]
# **3.** Let the scores be divided by a temperature $\tau$ before the softmax. Write the function that returns $dx$ of
# the mean loss.

# %%
answer_3 = None  # a function: def answer_3(x, t, tau): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = numerical_gradient(lambda: SoftmaxWithLoss().forward(x / 2.5, t), x)
    assert np.allclose(answer_3(x, t, 2.5), expected, atol=1e-9), "x / tau is one more step of the chain rule"
    print("Exercise 3: right")
