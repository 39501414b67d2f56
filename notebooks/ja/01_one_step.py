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
# # 1. RNNの1ステップ
#
# **やること**：1本の式を関数にし、その勾配を手で求め、微分の知識がいらない数値で確かめます。最後に、同じクラスを `common/layers.py` の中に1行ずつ見つけます。
#
# **学ぶこと**：再帰型ニューラルネットワーク（RNN）が単語ごとに何を計算しているか。どの勾配もなぜ行列の積ひとつで書けるか。そして、勾配が正しいことをどうやって知るか。
#
# **必要なもの**：行列の積、連鎖律、NumPyを少し。15分ほどで読めます。

# %%
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)

# %% [markdown]
# ## 式
#
# RNNは、系列を要素ひとつずつ読んでいきます。それまでに読んだものについて知っていることは、すべて**隠れ状態** $h$ という1本のベクトルに入っています。各ステップで、いま読む要素 $x$ と、それまでの状態 $h_{\mathrm{prev}}$ とから、新しい状態を作ります。
#
# $$h = \tanh(x W_x + h_{\mathrm{prev}} W_h + b)$$
#
# 複数の系列を、1行に1本ずつ並べて同時に読みます。系列の数（バッチサイズ）を $N$、入力の次元を $D$、隠れ状態の次元を $H$ とすると、形状は次のとおりです。
#
# | | 形状 | |
# | --- | --- | --- |
# | $x$ | $(N, D)$ | いま読む入力 |
# | $h_{\mathrm{prev}}$, $h$ | $(N, H)$ | 前の隠れ状態と、新しい隠れ状態 |
# | $W_x$ | $(D, H)$ | 入力に対する重み |
# | $W_h$ | $(H, H)$ | 前の隠れ状態に対する重み |
# | $b$ | $(H,)$ | バイアス。どの行にも同じものを足す |
#
# NumPyなら、式はそのまま1行です。


# %%
def step(x, h_prev, Wx, Wh, b):
    return np.tanh(x @ Wx + h_prev @ Wh + b)


# %% [markdown]
# まず、手で追える数で見てみましょう。系列は1本、入力は1次元、ユニットは1個です。状態0から始めて、1を読み、次に0を読みます。

# %%
Wx, Wh, b = np.array([[2.0]]), np.array([[0.5]]), np.array([0.0])
h0 = np.array([[0.0]])
h1 = step(np.array([[1.0]]), h0, Wx, Wh, b)
h2 = step(np.array([[0.0]]), h1, Wx, Wh, b)
print(f"after reading 1: {h1[0, 0]:.4f}   after reading 0: {h2[0, 0]:.4f}")

assert h1[0, 0] == np.tanh(2.0 * 1.0)
assert h2[0, 0] == np.tanh(0.5 * np.tanh(2.0))

# %% [markdown]
# 2つ目の入力は0なのに、状態は0ではありません。1があったことを覚えているのです。「再帰」という言葉が意味するのは、これだけです。古い状態が新しい状態に畳み込まれていくので、読む順番も結果を変えます。

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
# ## 逆伝播を手で求める
#
# 学習で知りたいのは、「重みをほんの少し増やしたら、損失 $L$ はどれだけ増えるか」です。$\partial L / \partial X$、つまり $X$ に関する損失の勾配を $dX$ と書くことにします。形状は $X$ と同じです。このステップの後ろから $dh$ が伝わってきたとして、$dx$、$dh_{\mathrm{prev}}$、$dW_x$、$dW_h$、$db$ を求めます。
#
# 括弧の中の和に名前をつけて $a = x W_x + h_{\mathrm{prev}} W_h + b$ とすると、$h = \tanh(a)$ です。
#
# **tanhを通る**：$h$ の各要素は、$a$ の対応する要素だけで決まります。そして $\tanh'(a) = 1 - \tanh^2(a) = 1 - h^2$ ですから、
#
# $$da = dh \odot (1 - h^2)$$
#
# 微分に必要なのは $h$ だけで、それはもう手元にあります。この微分は1より大きくなりません。$-1$ や $1$ に近いユニットは、勾配をほとんど後ろへ通さないのです。

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
# **行列の積を通る**：要素で書けば $a_{nj} = \sum_i x_{ni} (W_x)_{ij} + \dots$ です。重み $(W_x)_{ij}$ は、すべての行 $n$ の $a_{nj}$ に、$x_{ni}$ 倍されて加わっています。ですからその勾配は行についての和になり、その和は行列の積そのものです。
#
# $$(dW_x)_{ij} = \sum_n x_{ni} \, da_{nj} \quad\Longrightarrow\quad dW_x = x^\top da$$
#
# 同じように、$x_{ni}$ はすべてのユニット $j$ の $a_{nj}$ に $(W_x)_{ij}$ 倍されて加わるので、$dx = da \, W_x^\top$ です。$x$ と $W_x$ について言えることは、$h_{\mathrm{prev}}$ と $W_h$ についても言えます。バイアスはどの行にも足されるので、その勾配は行についての和です。
#
# $$dW_h = h_{\mathrm{prev}}^\top \, da \qquad db = \sum_n da_n \qquad dx = da \, W_x^\top \qquad dh_{\mathrm{prev}} = da \, W_h^\top$$
#
# 実は、形状を見るだけでもほとんど見当がつきます。$(N, D)$ と $(N, H)$ の行列を掛けて $(D, H)$ の行列を得る方法は、ひとつしかないからです。


# %%
def step_backward(dh, x, h_prev, h, Wx, Wh):
    da = dh * (1 - h**2)
    dWx, dWh, db = x.T @ da, h_prev.T @ da, da.sum(axis=0)
    dx, dh_prev = da @ Wx.T, da @ Wh.T
    return dx, dh_prev, dWx, dWh, db


# %% [markdown]
# ## 正しいか確かめる
#
# 微分の計算なしに勾配を知る方法があります。数をひとつだけ少し動かして、損失がどれだけ変わるかを見ればよいのです（数値微分）。損失を作るために、$h$ に固定した乱数を掛けて、すべて足し合わせます。この損失の $h$ に関する勾配は、その乱数そのものです：$L = \sum h \odot dh$。

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
# いまのは、$W_x$ の20個の数のうちのひとつでした。同じことを、すべての配列のすべての要素で行います。


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
# どの勾配も8桁以上一致しました。測り方について2つ補足します。
#
# - **両側で測る**：$(L(w + \varepsilon) - L(w - \varepsilon)) / 2\varepsilon$ の誤差は $\varepsilon^2$ の程度です。片側だけなら $\varepsilon$ の程度になります。
# - **どれだけ動かすか**：$\varepsilon$ が大きいと式の誤差が増え、小さいと、2つの損失の差が最後の数桁にしか現れず、丸め誤差が支配します。図に見えるのは、そのあいだの谷です。勾配確認をfloat64で行う理由もわかります。float32には、よい場所がありません。

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
# ## クラスにする
#
# 順伝播から逆伝播まで覚えておく必要があるのは、$x$、$h_{\mathrm{prev}}$、$h$ の3つです。それらと、重みとその勾配を入れておくには、クラスが便利です。
#
# 勾配の配列を作るのは最初の1回だけです。`backward` は、前回の勾配を新しい勾配で**置き換えます**。ですから、勾配を0に戻す必要はありません。


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
# ## ライブラリの中の同じクラス
#
# `common.layers.RNN` が、このクラスです。これからはライブラリのものを使います。どのノートブックも同じ流れです。まず手で導き、それからライブラリのものを読み込んで、等しいことを示します。

# %%
from common.layers import RNN

mine, theirs = MyRNN(Wx, Wh, b), RNN(Wx, Wh, b)
assert np.array_equal(mine.forward(x, h_prev), theirs.forward(x, h_prev))
for a, b_ in zip(mine.backward(dh), theirs.backward(dh)):
    assert np.array_equal(a, b_)
for a, b_ in zip(mine.grads, theirs.grads):
    assert np.array_equal(a, b_)

# %% [markdown]
# ソースを読んでみてください。`remember` と `recall` が `self.cache` の役目をし、`check_inputs` と `check_shape` は形状の違う配列を受け付けません。勾配は `Parameter` が持つようになりました。`add_grad` は、前回の勾配を置き換えます。足すのは、次のノートブックのように、同じ重みが1回の順伝播と逆伝播の中で何度も使われるときだけです。`xp` はNumPy、GPUの上ではCuPyです。残りは、いま導いたとおりです。

# %%
import inspect

print(inspect.getsource(RNN.forward))
print(inspect.getsource(RNN.backward))

# %% [markdown]
# 勾配確認もライブラリにあるので、自分で作ったレイヤにも使えます。

# %%
from common.gradient_check import check_gradients

layer = RNN(Wx, Wh, b)
layer.forward(x, h_prev)
layer.backward(dh)
errors = check_gradients(loss, dict(zip(("Wx", "Wh", "b"), layer.params)), dict(zip(("Wx", "Wh", "b"), layer.grads)))
print(errors)
assert max(errors.values()) < 1e-7

# %% [markdown]
# PyTorchが入っていれば、PyTorchにも聞いてみましょう。重みは転置した形で持っていて、バイアスは2本を足す作りになっています。

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
# ## まとめ
#
# - RNNは、読んだものを状態に畳み込んでいきます：$h = \tanh(x W_x + h_{\mathrm{prev}} W_h + b)$。
# - 逆伝播は $da = dh \odot (1 - h^2)$ でtanhを通り抜け、その先の勾配は、どれも積か和ひとつです。
# - 数値微分で、どんな勾配でも確かめられます。両側で、float64で、$\varepsilon = 10^{-5}$ で測り、正しければ誤差は $10^{-7}$ 未満です。
# - `backward` は前回の勾配を置き換えます。学習のループで勾配を0に戻す必要はありません。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。正しいかどうかがわかります。（すべての演習の答えは `notebooks/answers.py` にあります。）
#
# **1.** $D = 100$、$H = 50$ のRNNが学習する数は、全部でいくつですか。

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
# **2.** ステップの式が $h = \max(0, a)$（ReLU）だったとします。$dh$ と $h$ から $da$ を返す関数を書いてください。

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
# **3.** 前の状態をtanhの外でも足すことにします：$h = h_{\mathrm{prev}} + \tanh(x W_x + h_{\mathrm{prev}} W_h + b)$。$dh_{\mathrm{prev}}$ を返す関数を書いてください。（ここで見つかることが、LSTMが長く覚えていられる理由になります。ノートブック5で扱います。）

# %%
answer_3 = None  # a function: def answer_3(dh, x, h_prev, Wx, Wh, b): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = measured_gradient(lambda: ((h_prev + step(x, h_prev, Wx, Wh, b)) * dh).sum(), h_prev)
    assert np.allclose(answer_3(dh, x, h_prev, Wx, Wh, b), expected), "h_prev reaches h on two ways: add both"
    print("Exercise 3: right")
