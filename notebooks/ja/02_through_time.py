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
# # 2. 時間をさかのぼる
#
# **やること**：RNNを系列に沿って展開し、勾配を時間をさかのぼって伝えます。そのためのメモリを測り、ウィンドウに切り分け、勾配が消えたり爆発したりする様子を見ます。
#
# **学ぶこと**：BPTT（Backpropagation Through Time）とは何か。なぜ途中で打ち切るのか、打ち切ると何が失われるのか。そして、なぜ勾配クリッピングをするのか。
#
# **必要なもの**：[ノートブック1](01_one_step.ipynb)。15分ほどで読めます。

# %%
import matplotlib.pyplot as plt
import numpy as np

from common.gradient_check import check_gradients
from common.layers import RNN
from common.optimizer import clip_grads
from common.parameter import Parameter
from common.time_layers import TimeLoop, TimeRNN

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)

# %% [markdown]
# ## 展開
#
# $T$ ステップの系列 $x_0, \dots, x_{T-1}$ は、同じ式を $T$ 回通ります。各ステップは、前のステップが終わった状態から始まります。
#
# $$h_t = \tanh(x_t W_x + h_{t-1} W_h + b)$$
#
# 左から右へ描けば、これは $T$ 層のネットワークです。特別なのは、すべての層がひと組の重みを共有していることです。
#
# ```text
#         x_0       x_1       x_2
#          |         |         |
#  h_-1 → RNN → h_0 RNN → h_1 RNN → h_2      Wx、Wh、b はひと組だけ
# ```
#
# このライブラリでは、オブジェクトを共有することで重みを共有します。そのオブジェクトが `Parameter` で、配列とその勾配を持っています。

# %%
N, T, D, H = 2, 6, 3, 4
Wx = Parameter(rng.normal(size=(D, H)))
Wh = Parameter(rng.normal(size=(H, H)))
b = Parameter(rng.normal(size=H))
layers = [RNN(Wx, Wh, b) for t in range(T)]
xs = rng.normal(size=(N, T, D))


def forward(xs):
    h, hs = np.zeros((N, H)), []
    for t, layer in enumerate(layers):
        h = layer.forward(xs[:, t], h)
        hs.append(h)
    return np.stack(hs, axis=1)


# %%
hs = forward(xs)
assert hs.shape == (N, T, H)

changed = xs.copy()
changed[:, 3] += 1  # what is read at step 3 ...
differs = np.abs(forward(changed) - hs).max(axis=(0, 2)) > 0
print(dict(enumerate(differs.tolist())))
assert differs.tolist() == [False] * 3 + [True] * 3  # ... is seen at step 3 and after, and never before

# %% [markdown]
# ## Backpropagation Through Time
#
# 状態 $h_t$ は2か所で使われます。ステップ $t$ の損失（そこで何かを予測します）と、次のステップです。ですから勾配は、この2つの道を戻ってくるものの和になります。
#
# $$dh_t = \underbrace{dh_t^{\mathrm{loss}}}_{\text{上から}} + \underbrace{da_{t+1} W_h^\top}_{\text{次のステップから}}$$
#
# そこで、最後のステップから最初のステップへと歩きながら、状態の勾配を持ち運びます。どのステップも同じ重みを使うので、重みの勾配は、全ステップの分の和になります。
#
# $$dW_h = \sum_t h_{t-1}^\top \, da_t$$
#
# この和をとるのが `Parameter` です。`forward` とそれに続く `backward` を、ひとまとまりと考えます。その中で最初に来た勾配は前回の勾配を置き換え、2つ目からは足されます。ですから、ここでも、学習のループでも、勾配を0に戻す必要はありません。


# %%
def backward(dhs):
    dxs, dh = np.empty_like(xs), np.zeros((N, H))
    for t in reversed(range(T)):
        dxs[:, t], dh = layers[t].backward(dhs[:, t] + dh)
    return dxs, dh


# %%
dhs = rng.normal(size=(N, T, H))
forward(xs)
dxs, dh0 = backward(dhs)

arrays = {"Wx": Wx.data, "Wh": Wh.data, "b": b.data, "xs": xs}
gradients = {"Wx": Wx.grad, "Wh": Wh.grad, "b": b.grad, "xs": dxs}
errors = check_gradients(lambda: (forward(xs) * dhs).sum(), arrays, gradients)
print({name: f"{error:.0e}" for name, error in errors.items()})
assert max(errors.values()) < 1e-7

dWx = Wx.grad.copy()
forward(xs), backward(dhs)  # another pass: its gradients replace those of the first
assert np.array_equal(Wx.grad, dWx)

# %% [markdown]
# BPTTはこれだけです。連鎖律を、ステップを後ろへたどりながら使っているのです。`common.time_layers.TimeLoop` は、この2つの関数を、どのセルでも使えるクラスにしたものです。このライブラリでは、これが系列を扱うレイヤの定義です。

# %%
import inspect

print(inspect.getsource(TimeLoop.forward))
print(inspect.getsource(TimeLoop.backward))

# %% [markdown]
# `TimeRNN` は同じ計算を、もっと速く行います。ループの前に積ひとつで全ステップの $x_t W_x$ を求め、ループの後に積ひとつずつで $dW_x$ と $dW_h$ を求めます。（それにどれだけの価値があるかは、ノートブック10で見ます。）

# %%
for layer in (TimeLoop(RNN(Wx.data, Wh.data, b.data)), TimeRNN(Wx.data, Wh.data, b.data)):
    assert np.allclose(layer.forward(xs), hs)
    assert np.allclose(layer.backward(dhs), dxs)
    assert np.allclose(layer.dh, dh0)  # the gradient of the state that the sequence started from
    for ours, theirs in zip((Wx, Wh, b), layer.grads):
        assert np.allclose(ours.grad, theirs)

# %% [markdown]
# ## メモリはどこへ行くのか
#
# 逆伝播には全ステップの $x_t$ と $h_t$ が必要なので、順伝播はそれらを取っておかなければなりません。メモリは $T$ に比例して増えます。さらに言語モデルは、各ステップで語彙の $V$ 語すべてのスコアを計算します。どれくらいの量でしょうか。系列 $N = 20$ 本、$D = H = 100$、$V = 10{,}000$ 語、float32として、レイヤが持っている量を調べ、スコアの量を数えます。

# %%
N, H, V = 20, 100, 10_000
lengths = np.array([1, 10, 100])
states = []
for T in lengths:
    layer = TimeRNN(*(np.zeros(shape, np.float32) for shape in ((H, H), (H, H), (H,))))
    layer.forward(np.zeros((N, T, H), np.float32))
    states.append(sum(a.nbytes for a in (layer.x, layer.hs)))
scores = N * lengths * V * 4

plt.loglog(lengths, np.array(scores) / 1e6, "o-", label="scores of all words")
plt.loglog(lengths, np.array(states) / 1e6, "o-", label="what the RNN keeps")
plt.xlabel("steps T")
plt.ylabel("MB")
plt.legend()
plt.show()

assert states[2] / states[1] > 9  # ten times the steps, about ten times the memory
assert scores[2] > 40 * states[2]

# %% [markdown]
# わかることが2つあります。ひとつは、メモリを占めるのは状態ではなくスコアだということです。ですからこのライブラリの損失レイヤでは、一度に持つスコアの数に上限があります。もうひとつ。200万語のテキストを20人の読み手で読むと、ステップ数は100,000になります。

# %%
steps = 100_000
print(f"states {steps * states[2] / 100 / 1e9:.1f} GB, scores {steps * scores[2] / 100 / 1e9:.0f} GB")
assert steps * scores[2] / 100 == 80e9

# %% [markdown]
# ## 打ち切り（Truncated BPTT）
#
# そこで、テキストを $T$ 語ずつのウィンドウに切り分けます。**状態**はウィンドウから次のウィンドウへ引き継ぐので、順伝播では何も失われません。**勾配**は、そのウィンドウの先頭で止まります。状態を引き継ぐのが `TimeRNN(..., stateful=True)` です。

# %%
N, T, D, H = 1, 200, 8, 20
Wx, b = rng.normal(size=(D, H)) / np.sqrt(D), np.zeros(H)
Wh = np.linalg.qr(rng.normal(size=(H, H)))[0]
text, dhs = rng.normal(size=(N, T, D)) / 2, rng.normal(size=(N, T, H))


def in_windows(size):
    layer = TimeRNN(Wx, Wh, b, stateful=True)
    hs, dWh = [], np.zeros_like(Wh)
    for start in range(0, T, size):
        window = slice(start, start + size)
        hs.append(layer.forward(text[:, window]))
        layer.backward(dhs[:, window])
        dWh += layer.grads[1]  # those of this window alone
    return np.concatenate(hs, axis=1), dWh


# %%
hs_whole, dWh_whole = in_windows(T)
sizes = [1, 2, 5, 10, 20, 50, 100, 200]
differences = []
for size in sizes:
    hs, dWh = in_windows(size)
    assert np.allclose(hs, hs_whole)  # forward: the same, whatever the window
    differences.append(np.linalg.norm(dWh - dWh_whole) / np.linalg.norm(dWh_whole))

plt.semilogx(sizes, differences, "o-")
plt.xlabel("window, in steps")
plt.ylabel("dWh: part that is missing")
plt.show()

assert differences[0] > 0.5  # most of it is missing
assert 0.1 < differences[5] < 0.3  # a window of 50 steps
assert differences[-1] == 0  # the whole text in one window

# %% [markdown]
# ウィンドウが1ステップだけだと、勾配の大部分が失われます。50ステップなら、失われるのは5分の1ほどです。ウィンドウが切り捨てるのは遠くから来る勾配で、それはたいてい小さいのです。なぜでしょうか。
#
# ## 消える勾配、爆発する勾配
#
# 最後のステップだけに損失があるとして、$dh$ を後ろへたどってみます。1ステップごとに $\operatorname{diag}(1 - h^2)$ と $W_h^\top$ が掛かります。しばらくtanhは忘れて、$W_h = s\,Q$ としましょう。$Q$ は長さを変えない回転です。すると $k$ ステップで長さはちょうど $s^k$ 倍になります。$s$ が1でない限り、勾配は消えるか爆発するかで、しかもあっという間です。

# %%
H, K = 50, 40
Q = np.linalg.qr(rng.normal(size=(H, H)))[0]
dh = rng.normal(size=(10, H))
dh_last = dh / np.linalg.norm(dh, axis=1, keepdims=True)


def linear_norms(s):
    dh, norms = dh_last, []
    for _ in range(K):
        norms.append(np.linalg.norm(dh, axis=1).mean())
        dh = dh @ (s * Q).T
    return np.array(norms)


for s in (0.8, 1.0, 2.0):
    assert np.allclose(linear_norms(s), s ** np.arange(K))

# %% [markdown]
# tanhがあると、各ステップで0から1のあいだの数も掛かるので、勾配がこれより長くなることはありません。


# %%
def rnn_norms(s):
    Wx, Wh, b = rng.normal(size=(H, H)) / np.sqrt(H), s * Q, np.zeros(H)
    layers, h = [RNN(Wx, Wh, b) for _ in range(K)], np.zeros((10, H))
    for layer in layers:
        h = layer.forward(0.2 * rng.normal(size=(10, H)), h)
    dh, norms = dh_last, []
    for layer in reversed(layers):
        norms.append(np.linalg.norm(dh, axis=1).mean())
        _, dh = layer.backward(dh)
    return np.array(norms)


# %%
for s, colour in ((0.8, "tab:blue"), (1.0, "tab:orange"), (2.0, "tab:green")):
    norms = rnn_norms(s)
    plt.semilogy(linear_norms(s), "--", color=colour)
    plt.semilogy(norms, color=colour, label=f"s = {s}")
    assert (norms <= s ** np.arange(K) * (1 + 1e-9)).all()
plt.xlabel("k, steps back")
plt.ylabel("‖dh‖ (dashed: without tanh)")
plt.legend()
plt.show()

assert rnn_norms(0.8)[-1] < 1e-3 and norms[-1] > 100  # the one fades, the other explodes

# %% [markdown]
# - **勾配消失**：40ステップ前の出来事の勾配は、いまの出来事の勾配の数千分の1しかありません。ネットワークは近くのことを学び、遠くのことには耳を貸しません。学習率を変えても直りません。直すのはゲートです（ノートブック5）。
# - **勾配爆発**：勾配がふだんの何百倍も長くなり、勾配降下法の一歩で重みが吹き飛んでしまいます。こちらは、乱暴ですが直せます。
#
# ## 勾配クリッピング
#
# すべての重みをまとめた勾配 $g$ が、信用できる長さを超えていたら、向きはそのままで短くします。
#
# $$g \leftarrow g \cdot \min\left(1, \frac{\mathrm{max\_norm}}{\lVert g \rVert}\right)$$


# %%
def clipped(grads, max_norm):
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    return [g * min(1, max_norm / norm) for g in grads]


grads = [rng.normal(size=(3, 4)), 10 * rng.normal(size=5)]
ours = clipped(grads, 1.0)
assert np.isclose(np.sqrt(sum((g**2).sum() for g in ours)), 1.0)
assert np.allclose(clipped(grads, 1e9)[0], grads[0])  # a short gradient stays as it is

theirs = [g.copy() for g in grads]
norm = clip_grads(theirs, 1.0)  # the library's, in place
print(f"length before {norm:.1f}, after {np.sqrt(sum((g**2).sum() for g in theirs)):.4f}")
assert all(np.allclose(a, b, rtol=1e-5) for a, b in zip(ours, theirs))

# %% [markdown]
# ## まとめ
#
# - $T$ ステップのRNNは、重みを共有する $T$ 個の層です。BPTTはそれを通る連鎖律で、共有された重みの勾配は足し合わされます。
# - 順伝播は逆伝播のために全ステップを取っておくので、メモリは $T$ に比例します。その大部分は単語のスコアです。
# - Truncated BPTTは、テキストをウィンドウに切り分けます。状態は引き継ぎ、勾配は止めます。
# - 1ステップ戻るたびに、勾配には $W_h^\top$ と $1 - h^2$ が掛かり、何ステップも戻るうちに消えるか爆発します。勾配クリッピングは爆発を抑えますが、消えたものを取り戻すことはできません。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。
#
# **1.** $W_h = 0.9\,Q$ でtanhがないとき、勾配の長さが初めて1 %を下回るのは何ステップ戻ったときですか。

# %%
answer_1 = None  # a whole number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    assert 0.9**answer_1 < 0.01 <= 0.9 ** (answer_1 - 1), "0.9 to the power of k: solve for k, and round up"
    print("Exercise 1: right")

# %% [markdown]
# **2.** ウィンドウが1ステップのとき、最後のステップの勾配はそのステップより前には戻りません。最後のステップの前の状態、最後の状態、その勾配から、この打ち切られた $dW_h$ を返す関数を書いてください。

# %%
answer_2 = None  # a function: def answer_2(h_prev, h, dh): ...

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    layer = TimeRNN(Wx, Wh, b, stateful=True)
    before = layer.forward(text[:, :-1])[:, -1]
    last = layer.forward(text[:, -1:])
    layer.backward(dhs[:, -1:])
    found = answer_2(before, last[:, 0], dhs[:, -1])
    assert np.allclose(found, layer.grads[1]), "da = dh (1 - h²), and dWh is a product with the state before"
    print("Exercise 2: right")

# %% [markdown]
# **3.** 読み手 $N = 20$ 人、$T = 35$ ステップ、WikiText-2の33,278語とすると、1ウィンドウ分のスコアはfloat32で何バイトですか。

# %%
answer_3 = None  # a whole number

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    assert answer_3 == np.empty((20, 35, 33_278), np.float32).nbytes, "a float32 number takes 4 bytes"
    print("Exercise 3: right")
