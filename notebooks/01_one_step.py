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
# # 1. One step of a recurrent network
#
# **You will** turn one equation into a function, find its gradients by hand, check them against numbers that need no
# calculus, and end with a class that you find again, line by line, in `common/layers.py`.
#
# **You will learn** what a recurrent network computes at each word, why each of its gradients is one matrix product,
# and how to know that a gradient is right.
#
# **You need** matrix products, the chain rule and a little NumPy. About 15 minutes.

# %%
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)

# %% [markdown]
# ## The equation
#
# A recurrent network reads a sequence one element at a time. All it knows of what it has read so far is a vector, its
# **hidden state** $h$. At each step it makes a new state out of the element $x$ that it reads and the state
# $h_{\mathrm{prev}}$ that it had:
#
# $$h = \tanh(x W_x + h_{\mathrm{prev}} W_h + b)$$
#
# Several sequences are read side by side, one in each row. With $N$ sequences (the batch), inputs of $D$ numbers and
# states of $H$ numbers the shapes are:
#
# | | shape | |
# | --- | --- | --- |
# | $x$ | $(N, D)$ | what is read now |
# | $h_{\mathrm{prev}}$, $h$ | $(N, H)$ | the state before and after |
# | $W_x$ | $(D, H)$ | weights of the input |
# | $W_h$ | $(H, H)$ | weights of the old state |
# | $b$ | $(H,)$ | bias, the same for each row |
#
# In NumPy the equation is one line.


# %%
def step(x, h_prev, Wx, Wh, b):
    return np.tanh(x @ Wx + h_prev @ Wh + b)


# %% [markdown]
# First with numbers that can be followed by hand: one sequence, one input, one unit. Starting from the state 0, the
# network reads 1 and then 0.

# %%
Wx, Wh, b = np.array([[2.0]]), np.array([[0.5]]), np.array([0.0])
h0 = np.array([[0.0]])
h1 = step(np.array([[1.0]]), h0, Wx, Wh, b)
h2 = step(np.array([[0.0]]), h1, Wx, Wh, b)
print(f"after reading 1: {h1[0, 0]:.4f}   after reading 0: {h2[0, 0]:.4f}")

assert h1[0, 0] == np.tanh(2.0 * 1.0)
assert h2[0, 0] == np.tanh(0.5 * np.tanh(2.0))

# %% [markdown]
# The second input was 0, and yet the state is not: it remembers that there was a 1. That is all that "recurrent" means.
# Because old states are folded into new ones, the order counts.

# %%
N, D, H = 3, 4, 5
Wx, Wh, b = rng.normal(size=(D, H)), rng.normal(size=(H, H)), rng.normal(size=H)
x, h_prev = rng.normal(size=(N, D)), rng.normal(size=(N, H))
h = step(x, h_prev, Wx, Wh, b)

assert h.shape == (N, H)
assert np.abs(h).max() < 1  # tanh stays between -1 and 1
assert np.allclose(h[1], step(x[1], h_prev[1], Wx, Wh, b))  # a row does not depend on the other rows

first, second = rng.normal(size=(2, N, D))
first_then_second = step(second, step(first, h_prev, Wx, Wh, b), Wx, Wh, b)
second_then_first = step(first, step(second, h_prev, Wx, Wh, b), Wx, Wh, b)
assert not np.allclose(first_then_second, second_then_first)  # order counts

# %% [markdown]
# ## Backward, by hand
#
# Training asks: if a weight grew a little, how much would the loss $L$ grow? We write $dX$ for
# $\partial L / \partial X$, the gradient of the loss with respect to $X$; it has the shape of $X$. Suppose that
# whatever comes after this step has told us $dh$. We want $dx$, $dh_{\mathrm{prev}}$, $dW_x$, $dW_h$ and $db$.
#
# Give the sum inside the brackets a name, $a = x W_x + h_{\mathrm{prev}} W_h + b$, so that $h = \tanh(a)$.
#
# **Through tanh.** Each element of $h$ depends on one element of $a$ alone, and $\tanh'(a) = 1 - \tanh^2(a) = 1 - h^2$:
#
# $$da = dh \odot (1 - h^2)$$
#
# The derivative needs only $h$, which we have. And it is never larger than 1: a unit that is near $-1$ or $1$ passes
# almost nothing back.

# %%
a = np.linspace(-4, 4, 201)
derivative = 1 - np.tanh(a) ** 2
plt.plot(a, np.tanh(a), label="tanh(a)")
plt.plot(a, derivative, label="its derivative, 1 - tanh(a)²")
plt.xlabel("a")
plt.legend()
plt.show()

assert derivative.max() == 1  # at a = 0
assert np.allclose(derivative[1:-1], (np.tanh(a)[2:] - np.tanh(a)[:-2]) / (a[2:] - a[:-2]), atol=1e-3)

# %% [markdown]
# **Through the products.** Written out, $a_{nj} = \sum_i x_{ni} (W_x)_{ij} + \dots$ The weight $(W_x)_{ij}$ takes part
# in $a_{nj}$ for every row $n$, each time multiplied by $x_{ni}$. So its gradient is a sum over the rows, and that sum
# is a matrix product:
#
# $$(dW_x)_{ij} = \sum_n x_{ni} \, da_{nj} \quad\Longrightarrow\quad dW_x = x^\top da$$
#
# In the same way $x_{ni}$ takes part in $a_{nj}$ for every unit $j$, multiplied by $(W_x)_{ij}$, which gives
# $dx = da \, W_x^\top$. What holds for $x$ and $W_x$ holds for $h_{\mathrm{prev}}$ and $W_h$. The bias is added to each
# row, so its gradient is the sum over the rows.
#
# $$dW_h = h_{\mathrm{prev}}^\top \, da \qquad db = \sum_n da_n \qquad dx = da \, W_x^\top \qquad dh_{\mathrm{prev}} = da \, W_h^\top$$
#
# The shapes alone would almost tell you: there is one way to multiply an $(N, D)$ and an $(N, H)$ matrix to get a
# $(D, H)$ one.


# %%
def step_backward(dh, x, h_prev, h, Wx, Wh):
    da = dh * (1 - h**2)
    dWx, dWh, db = x.T @ da, h_prev.T @ da, da.sum(axis=0)
    dx, dh_prev = da @ Wx.T, da @ Wh.T
    return dx, dh_prev, dWx, dWh, db


# %% [markdown]
# ## Is it right?
#
# There is a way to find a gradient that needs no calculus: change one number a little, and look how much the loss
# changes. To have a loss, multiply $h$ by fixed random numbers and add everything up. The gradient of that loss with
# respect to $h$ is just those numbers: $L = \sum h \odot dh$.

# %%
dh = rng.normal(size=(N, H))


def loss():
    return (step(x, h_prev, Wx, Wh, b) * dh).sum()


dx, dh_prev, dWx, dWh, db = step_backward(dh, x, h_prev, h, Wx, Wh)

eps = 1e-5
Wx[0, 1] += eps
above = loss()
Wx[0, 1] -= 2 * eps
below = loss()
Wx[0, 1] += eps
print(f"by hand   {dWx[0, 1]:.10f}\nmeasured  {(above - below) / (2 * eps):.10f}")

# %% [markdown]
# That was one of the 20 numbers in $W_x$. The same for every element of everything:


# %%
def measured_gradient(loss, array, eps=1e-5):
    gradient = np.empty_like(array)
    for i in np.ndindex(array.shape):
        kept = array[i]
        array[i] = kept + eps
        above = loss()
        array[i] = kept - eps
        below = loss()
        array[i] = kept
        gradient[i] = (above - below) / (2 * eps)
    return gradient


# %%
def error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


arrays = {"x": x, "h_prev": h_prev, "Wx": Wx, "Wh": Wh, "b": b}
for (name, array), gradient in zip(arrays.items(), (dx, dh_prev, dWx, dWh, db)):
    print(f"d{name:7} shape {gradient.shape!s:7} error {error(gradient, measured_gradient(loss, array)):.1e}")
    assert error(gradient, measured_gradient(loss, array)) < 1e-7

# %% [markdown]
# Every gradient agrees to eight digits or more. Two notes on how we measured:
#
# - **Both sides.** $(L(w + \varepsilon) - L(w - \varepsilon)) / 2\varepsilon$ has an error of the order
#   $\varepsilon^2$; with one side only it would be $\varepsilon$.
# - **How far.** A larger $\varepsilon$ makes the formula worse, a smaller one lets rounding take over: the two losses
#   differ in their last digits only. The picture shows the valley between, and why one checks in float64: in float32
#   there is no good place to stand.

# %%
steps = 10.0 ** np.arange(-10, 0)
errors = {np.float64: [], np.float32: []}
for dtype in errors:
    x_, h_prev_, Wx_, Wh_, b_, dh_ = (v.astype(dtype) for v in (x, h_prev, Wx, Wh, b, dh))
    for eps in steps:
        found = measured_gradient(lambda: (step(x_, h_prev_, Wx_, Wh_, b_) * dh_).sum(), Wx_, dtype(eps))
        errors[dtype].append(error(found, dWx))
    plt.loglog(steps, errors[dtype], "o-", label=dtype.__name__)
plt.xlabel("ε")
plt.ylabel("relative error of dWx")
plt.legend()
plt.show()

assert min(errors[np.float64]) < 1e-9 < 1e-5 < min(errors[np.float32])

# %% [markdown]
# ## A class
#
# What a step has to remember between forward and backward is $x$, $h_{\mathrm{prev}}$ and $h$. A class is a good place
# for that, and for the weights with their gradients.
#
# The arrays of the gradients are made once. Each `backward` **replaces** what the last one left in them, so nobody has
# to set them to zero.


# %%
class MyRNN:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, x, h_prev):
        h = step(x, h_prev, *self.params)
        self.cache = x, h_prev, h
        return h

    def backward(self, dh):
        dx, dh_prev, *grads = step_backward(dh, *self.cache, *self.params[:2])
        for array, grad in zip(self.grads, grads):
            array[...] = grad
        return dx, dh_prev


# %% [markdown]
# ## The same class in the library
#
# `common.layers.RNN` is this class. From here on we use the library's, and each notebook does the same with what it
# derives: first by hand, then imported and shown to be equal.

# %%
from common.layers import RNN

mine, theirs = MyRNN(Wx, Wh, b), RNN(Wx, Wh, b)
assert np.array_equal(mine.forward(x, h_prev), theirs.forward(x, h_prev))
for a, b_ in zip(mine.backward(dh), theirs.backward(dh)):
    assert np.array_equal(a, b_)
for a, b_ in zip(mine.grads, theirs.grads):
    assert np.array_equal(a, b_)

# %% [markdown]
# Read it. `remember` and `recall` stand for `self.cache`, and `check_inputs` and `check_shape` refuse arrays of a wrong
# shape. A gradient is now a `Parameter`'s: `add_grad` replaces the gradient of the last pass, and adds only if the same
# weight is used again in this pass, as in the next notebook. `xp` is NumPy or, on a GPU, CuPy; the rest you have just
# derived.

# %%
import inspect

print(inspect.getsource(RNN.forward))
print(inspect.getsource(RNN.backward))

# %% [markdown]
# The library also has the check, for your own layers.

# %%
from common.gradient_check import check_gradients

layer = RNN(Wx, Wh, b)
layer.forward(x, h_prev)
layer.backward(dh)
errors = check_gradients(loss, dict(zip(("Wx", "Wh", "b"), layer.params)), dict(zip(("Wx", "Wh", "b"), layer.grads)))
print(errors)
assert max(errors.values()) < 1e-7

# %% [markdown]
# And if PyTorch is installed, it can be asked too. It stores weights transposed, and has two biases that are added.

# %%
import importlib.util

if importlib.util.find_spec("torch"):
    import torch

    cell = torch.nn.RNNCell(D, H).double()
    with torch.no_grad():
        for theirs, ours in zip(cell.parameters(), (Wx.T, Wh.T, b, np.zeros(H))):
            theirs.copy_(torch.tensor(ours))
    assert np.allclose(cell(torch.tensor(x), torch.tensor(h_prev)).detach().numpy(), h)
    print("PyTorch agrees")
else:
    print("PyTorch is not installed: nothing to compare with")

# %% [markdown]
# ## Summary
#
# - A recurrent network folds what it reads into a state: $h = \tanh(x W_x + h_{\mathrm{prev}} W_h + b)$.
# - Backward goes through tanh with $da = dh \odot (1 - h^2)$, and from there each gradient is one product or sum.
# - Finite differences check any gradient: two-sided, in float64, with $\varepsilon = 10^{-5}$, below $10^{-7}$ if it is
#   right.
# - `backward` replaces the gradients of the last pass: no loop has to set them to zero.
#
# ## Exercises
#
# Put your answer in place of `None` and run the cell below it: it says whether you are right. (Answers to all exercises
# are in `notebooks/answers.py`.)
#
# **1.** How many numbers does an RNN with $D = 100$ and $H = 50$ learn?

# %%
answer_1 = None  # a whole number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    layer = RNN(np.zeros((100, 50)), np.zeros((50, 50)), np.zeros(50))
    assert answer_1 == sum(p.size for p in layer.params), "count the elements of Wx, Wh and b"
    print("Exercise 1: right")

# %% [markdown]
# **2.** Suppose the step were $h = \max(0, a)$, known as ReLU. Write the function that returns $da$, given $dh$ and
# $h$.

# %%
answer_2 = None  # a function: def answer_2(dh, h): ...

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    a = rng.normal(size=(N, H))
    expected = measured_gradient(lambda: (np.maximum(a, 0) * dh).sum(), a)
    assert np.allclose(answer_2(dh, np.maximum(a, 0)), expected), "where h is 0, a change of a changes nothing"
    print("Exercise 2: right")

# %% [markdown]
# **3.** Let the old state also be added outside tanh:
# $h = h_{\mathrm{prev}} + \tanh(x W_x + h_{\mathrm{prev}} W_h + b)$. Write the function that returns
# $dh_{\mathrm{prev}}$. (What you find here is why LSTMs remember for so long: notebook 5.)

# %%
answer_3 = None  # a function: def answer_3(dh, x, h_prev, Wx, Wh, b): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = measured_gradient(lambda: ((h_prev + step(x, h_prev, Wx, Wh, b)) * dh).sum(), h_prev)
    assert np.allclose(answer_3(dh, x, h_prev, Wx, Wh, b), expected), "h_prev reaches h on two ways: add both"
    print("Exercise 3: right")
