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
# # 3. 言語モデルのレイヤ
#
# **やること**：RNNの前後にあるレイヤ、つまり埋め込み、Affine、損失つきのソフトマックスを作ります。そのひとつに、よくある確認では見つからない間違いを仕込みます。
#
# **学ぶこと**：単語がどのようにベクトルになり、ベクトルがどのように確率になるか。損失の勾配はどこから始まるか。そして、間違いが隠れられない勾配確認の方法。
#
# **必要なもの**：[ノートブック1](01_one_step.ipynb)。15分ほどで読めます。

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
# ## 単語からベクトルへ：埋め込み
#
# モデルにとって、単語は番号 $0, \dots, V - 1$ です。ネットワークに入れるには、それぞれをベクトルにしなければなりません。教科書どおりなら、単語 $x$ を、$x$ 番目だけが1で残りが0の行（one-hotベクトル）で表し、形状 $(V, D)$ の行列 $W$ を掛けます。しかしこの積は、$W$ の $x$ 行目を抜き出しているだけです。

# %%
V, D = 6, 3
W = rng.normal(size=(V, D))
x = np.array([3, 1, 3, 5])  # four words; word 3 comes twice
onehot = np.eye(V)[x]

assert np.array_equal(onehot @ W, W[x])

# %% [markdown]
# 語彙が10,000語のとき、積なら全部の行を読みますが、抜き出すなら1行で済みます。そこで**埋め込み**（Embedding）レイヤは表引きになります：$y_n = W_{x_n}$。$W$ の行は、ほかの重みと同じように学習されます。似た使われ方をする単語のベクトルは、やがて似てきます。
#
# 勾配を考えましょう。$W$ の $v$ 行目は、単語 $v$ があるすべての場所で使われました。ですからその勾配は、それらの場所から戻ってくるものの和です。
#
# $$dW_v = \sum_{n:\, x_n = v} dy_n \qquad\text{one-hotの行で書けば}\qquad dW = \mathrm{onehot}(x)^\top dy$$
#
# NumPyでは注意が必要です。`dW[x] += dy` は自然に見えますが、間違いです。同じ行が2回指定されると、片方しか足されません。

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
# 4語がすべて異なるテストだったら、この間違いには気づけません。ライブラリのレイヤはこうです。

# %%
layer = Embedding(W)
assert np.array_equal(layer.forward(x), W[x])
layer.backward(dy)
assert np.allclose(layer.grads[0], expected)

# %% [markdown]
# ## 状態からスコアへ：Affine
#
# 反対側の端では、各状態 $h$ から、語彙のすべての単語のスコアを計算します：$y = h W + b$。$W$ の形状は $(H, V)$ です。勾配はノートブック1で見たとおりです：$dW = h^\top dy$、$db = \sum_n dy_n$、$dh = dy \, W^\top$。
#
# 新しいのは時間です。全ステップの状態は $(N, T, H)$ の配列です。このレイヤにとっては、ステップも行のひとつにすぎません。そこで $N \cdot T$ 行をまとめて1回の積に通します。

# %%
N, T, H = 2, 3, 4
W, b = rng.normal(size=(H, V)), rng.normal(size=V)
hs = rng.normal(size=(N, T, H))

ys = (hs.reshape(N * T, H) @ W + b).reshape(N, T, V)
assert np.allclose(ys[1, 2], hs[1, 2] @ W + b)  # each step as if it were alone
assert np.allclose(ys, TimeAffine(W, b).forward(hs))

# %% [markdown]
# ## スコアから損失へ：ソフトマックスと交差エントロピー誤差
#
# **ソフトマックス**は、1行のスコア $x$ を確率に変えます。すべて正で、和は1です。
#
# $$y_v = \frac{\exp(x_v)}{\sum_u \exp(x_u)}$$
#
# すべてのスコアに同じ数を足しても、約分されるので結果は変わりません。これは役に立ちます。$\exp(1000)$ はコンピュータには大きすぎるので、先に最大のスコアを引いておくのです。


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
# 1行の**損失**は、実際に続く単語 $t$ に対する「驚き」$-\log y_t$ です。モデルがその単語を確信していれば0になります。$n$ 行については平均をとります。
#
# $$L = -\frac{1}{n} \sum_{i=1}^{n} \log y_{i, t_i}$$
#
# 論文で報告されるのは $e^L$、すなわち**パープレキシティ**です。$k$ 個の単語だけを同じくらいありそうだと考えるモデルなら、$L = \log k$、パープレキシティは $k$ になります。つまり、モデルがまだ何語のあいだで迷っているかを表す数です。

# %%
n = 5
t = rng.integers(0, V, n)
knows_nothing = np.zeros((n, V))  # the same score for each word

loss = SoftmaxWithLoss().forward(knows_nothing, t)
print(f"loss {loss:.4f}, perplexity {np.exp(loss):.2f}, vocabulary {V}")
assert np.isclose(np.exp(loss), V)

# %% [markdown]
# **勾配**は、これ以上ないほど簡単な形になります。$\log y_t = x_t - \log \sum_u \exp(x_u)$ ですから、
#
# $$\frac{\partial (-\log y_t)}{\partial x_v} = y_v - [v = t]$$
#
# $[v = t]$ は、続く単語では1、ほかの単語では0です。つまり「確率 − 正解」です。正解の単語のスコアは押し上げられ、ほかの単語のスコアは、誤って与えられた確率の分だけ押し下げられます。すべての勾配は、ここから始まります。

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
# 短い文の後ろのパディングのように、数えないステップの正解ラベルは $-1$ です。損失にも $n$ にも加わらず、勾配は0になります。

# %%
masked = t.copy()
masked[0] = -1
some = SoftmaxWithLoss()
assert np.isclose(some.forward(x, masked), SoftmaxWithLoss().forward(x[1:], t[1:]))
assert np.all(some.backward()[0] == 0)
assert SoftmaxWithLoss().forward(x, np.full(n, -1)) == 0  # no labels at all: 0, and not NaN

# %% [markdown]
# ## 隠れる間違い
#
# では、間違いを仕込みます。このライブラリのレイヤは、系列の行を時刻の順に並べています。最初にステップ0の $N$ 行、次にステップ1の $N$ 行、という具合です。`TimeAffine` の作者が、順伝播ではそれを覚えていたのに、逆伝播では忘れてしまったとしましょう。


# %%
class WrongTimeAffine(TimeAffine):
    def backward(self, dys):
        N, T, V = dys.shape
        dy = dys.reshape(N * T, V)  # sequence by sequence, but forward has remembered x step by step
        return Affine.backward(self, dy).reshape(N, T, -1)


# %% [markdown]
# 形状はすべて合っています。このレイヤを確かめるには損失が必要です。いちばん簡単なのは全出力の和で、その勾配は1を並べた配列です。そう書かれたテストはたくさんあります。1を並べた場合と、乱数を使った場合とを並べてみます。


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
# 1を並べると $dy$ の行はすべて同じなので、どんな順番で来ても変わりません。積 $h^\top dy$ は行どうしを組にしますが、組み合わせを間違えても同じ結果になるのです。乱数なら行の区別がつきます。しかも、間違っているのは $dW$ だけです。$dx$ だけを確かめても、やはり見逃していたでしょう。そこで、このプロジェクトのテストは次の決まりを守っています。
#
# > **すべて**の勾配を名前ごとに、上から来る勾配を**乱数**にして確かめること。
#
# ## ひとつにつなげる
#
# 単語を入れて損失を出すところまで、つなげてみます。RNNレイヤはまだありません。次のノートブックで、この2つのあいだに入ります。

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
# ライブラリのモデルが使うのは `TimeAffineSoftmaxWithLoss` です。スコアは何よりも大きな配列なので（ノートブック2）、最後の2つのレイヤを、何行かずつに区切ってまとめて計算します。関数としては同じものです。

# %%
both = TimeAffineSoftmaxWithLoss(W_out, b_out)
assert np.isclose(both.forward(W_in[xs], ts), forward())
both.backward()
assert np.allclose(both.grads[0], gradients["W_out"])

# %% [markdown]
# ## まとめ
#
# - 埋め込みは行を抜き出します。その勾配は行を足し合わせます。2回出てくる単語に注意が必要です。
# - Affineレイヤにとって、ステップは行のひとつです。全部を1回の積で計算します。
# - ソフトマックスと交差エントロピー誤差の勾配は「確率 − 正解」です。パープレキシティは $e^L$ です。
# - 1を並べた勾配確認は、行を取り違えただけの間違いを見逃します。乱数を使い、すべての勾配を確かめましょう。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。
#
# **1.** すべての正解の単語に確率0.25を与えるモデルがあります。パープレキシティはいくつですか。

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
# **2.** $V$ 語の埋め込みの勾配を、`np.add.at` を使わずに、行列の積で書いてください。

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
# **3.** ソフトマックスの前に、スコアを温度 $\tau$ で割ることにします。平均の損失の $dx$ を返す関数を書いてください。

# %%
answer_3 = None  # a function: def answer_3(x, t, tau): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = numerical_gradient(lambda: SoftmaxWithLoss().forward(x / 2.5, t), x)
    assert np.allclose(answer_3(x, t, 2.5), expected, atol=1e-9), "x / tau is one more step of the chain rule"
    print("Exercise 3: right")
