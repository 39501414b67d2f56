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
# # 5. ゲート
#
# **やること**：ゲートを作り、ゲートがひとつのネットワーク、GRU、LSTMへと進みます。重みを手で決めて、思いどおりに動かしてみます。最後に、単純なRNNが失敗する課題を学習させます。
#
# **学ぶこと**：それぞれのゲートは何のためにあるか。ゲート付きのネットワークでは、なぜ勾配が遠くまで届くのか。それは何によって決まるのか。
#
# **必要なもの**：ノートブック[1](01_one_step.ipynb)と[2](02_through_time.ipynb)。20分ほどで読めます。

# %%
import matplotlib.pyplot as plt
import numpy as np

from common.functions import sigmoid
from common.layers import GRU, LSTM, Gate, OneGateGRU, split
from common.optimizer import Adam, clip_grads
from common.time_layers import TimeAffine, TimeGRU, TimeLSTM, TimeRNN, TimeSoftmaxWithLoss

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)
N, D, H = 2, 3, 4
x, h_prev, c_prev = rng.normal(size=(N, D)), rng.normal(size=(N, H)), rng.normal(size=(N, H))

# %% [markdown]
# ## ゲート
#
# ゲートとは、何かに掛ける0から1までの数です。0なら止め、1なら通します。ネットワークは、見ているものからこの数をシグモイド関数 $\sigma(a) = 1 / (1 + e^{-a})$ で計算します。ですから、いつ開くかを学習できます。
#
# $$y = \sigma(x W + b) \odot x$$

# %%
a = np.linspace(-8, 8, 201)
plt.plot(a, sigmoid(a))
plt.xlabel("a")
plt.ylabel("σ(a)")
plt.grid(alpha=0.3)
plt.show()

W, b = rng.normal(size=(D, D)), rng.normal(size=D)
assert np.allclose(sigmoid(a), 1 / (1 + np.exp(-a)))
assert np.allclose(sigmoid(x @ W + b) * x, Gate(W, b).forward(x))
assert sigmoid(np.float64(-8)) < 0.001 < 0.999 < sigmoid(np.float64(8))  # a large |a| shuts or opens it for good

# %% [markdown]
# ## ゲートがひとつ：保つか、置き換えるか
#
# 単純なRNNは、ステップごとに状態をまるごと置き換えます。そこで、前の状態をどれだけ保つかをユニットごとに決めるゲート $z$ を付けます。
#
# $$z = \sigma(x W_x^z + h_{\mathrm{prev}} W_h^z + b^z) \qquad \tilde h = \tanh(x W_x^h + h_{\mathrm{prev}} W_h^h + b^h)$$
#
# $$h = (1 - z) \odot \tilde h + z \odot h_{\mathrm{prev}}$$
#
# $z$ と $\tilde h$ の重みは横に並べて持ちます。1回の積で両方が計算できます。


# %%
def one_gate_step(x, h_prev, Wx, Wh, b):
    a_z, a_h = split(x @ Wx + h_prev @ Wh + b, 2)
    z, h_tilde = sigmoid(a_z), np.tanh(a_h)
    return (1 - z) * h_tilde + z * h_prev


Wx, Wh, b = rng.normal(size=(D, 2 * H)), rng.normal(size=(H, 2 * H)), rng.normal(size=2 * H)
assert np.allclose(one_gate_step(x, h_prev, Wx, Wh, b), OneGateGRU(Wx, Wh, b).forward(x, h_prev))

# %% [markdown]
# これで何ができるでしょうか。各入力を、値と「書き込み」の合図の2つにします。重みを手で決めれば、たった1個のユニットのネットワークが、合図のときの値をしまい、その後何が通り過ぎても保ち続けます。
#
# - $z = \sigma(10 - 20 \cdot \mathrm{write})$：合図がなければほぼ1で、保つ。
# - $\tilde h = \tanh(\mathrm{value})$。

# %%
values, write = rng.normal(size=25), np.zeros(25)
write[[3, 12]] = 1
Wx, Wh, b = np.array([[0.0, 1.0], [-20.0, 0.0]]), np.zeros((1, 2)), np.array([10.0, 0.0])
h, hs = np.zeros((1, 1)), []
for value, flag in zip(values, write):
    h = one_gate_step(np.array([[value, flag]]), h, Wx, Wh, b)
    hs.append(h[0, 0])

assert np.allclose(hs[:3], 0, atol=0.01)  # nothing was written yet
assert np.allclose(hs[3:12], np.tanh(values[3]), atol=0.01)
assert np.allclose(hs[12:], np.tanh(values[12]), atol=0.01)

# %%
plt.plot(np.tanh(values), ".", color="tab:gray", label="tanh(value) that goes by")
plt.plot([3, 12], np.tanh(values[[3, 12]]), "o", color="tab:orange", label="with the flag up")
plt.step(range(25), hs, where="post", color="tab:blue", label="hidden state h")
plt.xlabel("step")
plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# 単純なRNNにはできません。読むものがなければ、状態はステップごとに $h \leftarrow \tanh(w h)$ を通ります。すると0へ、あるいは $w$ が大きければ $w$ で決まる値へと少しずつ近づき、書き込まれた値は失われてしまいます。

# %%
for w in (0.5, 1.0, 2.0):
    written = np.array([0.3, 0.7])
    for _ in range(1000):
        written = np.tanh(w * written)
    print(f"w = {w}: 0.3 and 0.7 have become {written.round(3)}")
    assert np.ptp(written) < 0.01  # nobody can tell them apart

# %% [markdown]
# ## GRU：新しい状態は、古い状態をどれだけ見てよいか
#
# GRU（Gated Recurrent Unit）には、もうひとつ $r$（リセットゲート）があります。新しい状態の候補 $\tilde h$ が、前の状態をどれだけ見てよいかを決めます。
#
# $$\tilde h = \tanh(x W_x^h + (r \odot h_{\mathrm{prev}}) W_h^h + b^h) \qquad h = (1 - z) \odot \tilde h + z \odot h_{\mathrm{prev}}$$
#
# PyTorchやGPUで使われる別の形では、$r$ を積の**後**に掛けます。$h_{\mathrm{prev}}$ との積を一度にまとめて計算できるからです。バイアスがひとつ増えます。
#
# $$\tilde h = \tanh(x W_x^h + b^h + r \odot (h_{\mathrm{prev}} W_h^h + b^{rh}))$$


# %%
def gru_step(x, h_prev, Wx, Wh, b, reset_after=False):
    a_z, a_r, a_h = split(x @ Wx + b[: 3 * H], 3)
    Wh_z, Wh_r, Wh_h = split(Wh, 3)
    z = sigmoid(a_z + h_prev @ Wh_z)
    r = sigmoid(a_r + h_prev @ Wh_r)
    if reset_after:
        h_tilde = np.tanh(a_h + r * (h_prev @ Wh_h + b[3 * H :]))
    else:
        h_tilde = np.tanh(a_h + (r * h_prev) @ Wh_h)
    return (1 - z) * h_tilde + z * h_prev


# %%
Wx, Wh, b = rng.normal(size=(D, 3 * H)), rng.normal(size=(H, 3 * H)), rng.normal(size=3 * H)
b4 = np.concatenate([b, np.zeros(H)])
before, after = gru_step(x, h_prev, Wx, Wh, b), gru_step(x, h_prev, Wx, Wh, b4, reset_after=True)
assert np.allclose(before, GRU(Wx, Wh, b).forward(x, h_prev))
assert np.allclose(after, GRU(Wx, Wh, b4, reset_after=True).forward(x, h_prev))
assert not np.allclose(before, after)  # two different networks, with weights that do not fit each other

Wh[:, 2 * H :] = np.diag(rng.normal(size=H))  # but where no unit looks at another, the order does not matter
assert np.allclose(gru_step(x, h_prev, Wx, Wh, b), gru_step(x, h_prev, Wx, Wh, b4, reset_after=True))

# %% [markdown]
# $r$ は何の役に立つのでしょうか。$r = 0$ なら、ネットワークは最初からやり直せます。それまで何もなかったかのように候補を書くのです。しかも、残りを忘れる必要はありません。バイアスを下げて確かめましょう。

# %%
b_shut = b.copy()
b_shut[:H], b_shut[H : 2 * H] = -20, -20  # z = 0: replace everything; r = 0: look at nothing old
fresh = np.tanh(x @ Wx[:, 2 * H :] + b[2 * H :])
assert np.allclose(gru_step(x, h_prev, Wx, Wh, b_shut), fresh)
assert np.allclose(gru_step(x, 100 * np.ones((N, H)), Wx, 0 * Wh, b_shut), fresh, atol=1e-6)

# %% [markdown]
# ## LSTM：隠れ状態のほかに、記憶セルを持つ
#
# LSTM（Long Short-Term Memory）は、**保つ**もの、つまり記憶セル $c$ と、**見せる**もの、つまり隠れ状態 $h$ とを分けます。ゲートは3つです。忘却ゲート $f$ は記憶セルの値をどれだけ保つか、入力ゲート $i$ は候補 $g$ をどれだけ取り込むか、出力ゲート $o$ は記憶セルの値をどれだけ見せるかを決めます。
#
# $$c = f \odot c_{\mathrm{prev}} + i \odot g \qquad h = o \odot \tanh(c)$$
#
# ゲート $f, i, o$ と候補 $g$ は、これまでと同じように $x$ と $h_{\mathrm{prev}}$ から計算します。ゲートは $\sigma$ を、$g$ はtanhを通ります。重みは、教科書と同じ $f, g, i, o$ の順に横に並べて持ちます。


# %%
def lstm_step(x, h_prev, c_prev, Wx, Wh, b):
    a_f, a_g, a_i, a_o = split(x @ Wx + h_prev @ Wh + b, 4)
    f, g, i, o = sigmoid(a_f), np.tanh(a_g), sigmoid(a_i), sigmoid(a_o)
    c = f * c_prev + i * g
    return o * np.tanh(c), c


Wx, Wh, b = rng.normal(size=(D, 4 * H)), rng.normal(size=(H, 4 * H)), rng.normal(size=4 * H)
for ours, theirs in zip(lstm_step(x, h_prev, c_prev, Wx, Wh, b), LSTM(Wx, Wh, b).forward(x, h_prev, c_prev)):
    assert np.allclose(ours, theirs)

# %% [markdown]
# 記憶セルはステップのあいだでtanhに押し縮められないので、大きくなれます。つまり、LSTMは数を数えられます。また重みを手で決めて、1個のユニットに出来事を数えさせ、合図があったら0からやり直させましょう。
#
# - 出来事があると $i$ が開き、$g = 1$ を足す。
# - リセットの合図があると $f$ が閉じ、忘れる。
# - $o = 1$ で、いつも見せる。

# %%
event, reset = (rng.random(30) < 0.4).astype(float), np.zeros(30)
event[17], reset[17] = 0, 1
#                f    g     i     o
Wx = np.array([[0.0, 0.0, 20.0, 0.0], [-40.0, 0.0, 0.0, 0.0]])  # of event, and of reset
b = np.array([20.0, 20.0, -10.0, 20.0])
h, c, cs, hs, count, counts = np.zeros((1, 1)), np.zeros((1, 1)), [], [], 0, []
for e, r in zip(event, reset):
    h, c = lstm_step(np.array([[e, r]]), h, c, Wx, np.zeros((1, 4)), b)
    count = 0 if r else count + e
    cs.append(c[0, 0]), hs.append(h[0, 0]), counts.append(count)

assert np.allclose(cs, counts, atol=0.01)
assert max(cs) > 3  # far beyond what tanh allows

# %%
plt.step(range(30), cs, where="post", label="cell state c")
plt.step(range(30), hs, where="post", label="hidden state h = tanh(c)")
plt.plot(np.flatnonzero(event), np.zeros(int(event.sum())), "|", color="black", label="event")
plt.plot([17], [0], "x", color="tab:red", label="reset")
plt.xlabel("step")
plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 勾配はどこまで届くか
#
# 1ステップを戻る道を、2つ比べてみましょう。単純なRNNでは $dh_{\mathrm{prev}} = (dh \odot (1 - h^2)) W_h^\top$ で、毎ステップ、行列とtanhの傾きが掛かります（ノートブック2）。LSTMの記憶セルには、専用の道があります。
#
# $$dc_{\mathrm{prev}} = dc \odot f \quad + \quad \text{ゲートを通る分}$$
#
# 行列もtanhもありません。$k$ ステップ戻ると、勾配には $k$ 個の $f$ の値が掛かります。ですから、どこまで届くかはひとつの数で決まります。$0.5^{20}$ は百万分の1ですが、$0.95^{20}$ は3分の1です。GRUの $z$ も同じで、$dh_{\mathrm{prev}} = dh \odot z + \dots$ となります。

# %%
layer = LSTM(np.zeros((D, 4 * H)), np.zeros((H, 4 * H)), np.repeat([3.0, 0.0, 0.0, 0.0], H))
layer.forward(x, h_prev, c_prev)
dc = rng.normal(size=(N, H))
_, _, dc_prev = layer.backward(np.zeros((N, H)), dc)
assert np.allclose(dc_prev, dc * sigmoid(np.float64(3)))  # a bias of 3 keeps 95 % at each step
assert abs(sigmoid(np.float64(3)) - 0.95) < 0.005
assert 0.5**20 < 1e-6 < 0.3 < 0.95**20

# %% [markdown]
# 今度は重みを乱数にします。損失は100ステップの最後にあります。$k$ ステップ前の入力に関する勾配は、どれくらいの大きさでしょうか。生まれたてのネットワークのゲートは、バイアスで決めておかない限り半開きです。


# %%
def make(cell, gates, D, H, rng, bias=0):
    b = np.zeros(gates * H)
    b[:H] = bias  # of the gate that keeps the old, z or f: it comes first
    return cell(rng.normal(size=(D, gates * H)) / np.sqrt(D), rng.normal(size=(H, gates * H)) / np.sqrt(H), b)


cells = {
    "RNN": (TimeRNN, 1),
    "LSTM": (TimeLSTM, 4),
    "GRU, bias of z 3": (TimeGRU, 3, 3),
    "LSTM, bias of f 3": (TimeLSTM, 4, 3),
}


# %%
def reach(cell, gates, bias=0, H=50, T=100):
    rng = np.random.default_rng(0)
    layer = make(cell, gates, H, H, rng, bias)
    dhs = np.zeros_like(layer.forward(rng.normal(size=(10, T, H))))
    dhs[:, -1] = rng.normal(size=(10, H))
    norms = np.linalg.norm(layer.backward(dhs), axis=2).mean(axis=0)[::-1]
    return norms / norms[0]


norms = {name: reach(*cell) for name, cell in cells.items()}
for name, values in norms.items():
    plt.semilogy(values, label=name)
plt.xlabel("k, steps back")
plt.ylabel("‖dx‖, relative to k = 0")
plt.legend(fontsize=8)
plt.show()

# %%
assert norms["RNN"][50] < 1e-6
assert norms["LSTM"][50] < 1e-6  # a forget gate that stands half open forgets as fast
assert norms["GRU, bias of z 3"][50] > 1e-3
assert norms["LSTM, bias of f 3"][50] > 1e-2

# %% [markdown]
# ゲート付きのネットワークが優れているのは、ゲートがあるからではありません。保つことが**できる**からです。そして最初から保っていなければ、学習はうまく始まりません。
#
# ## それで何が変わるのか
#
# 記憶力を試す課題です。40個の入力の最初が $+1$ か $-1$ で、残りは雑音です。最後まで読んだら、どちらだったかを答えます。ラベル $-1$ は無視されるので、損失は最後のステップだけにあります。


# %%
def batch(rng, N=32, T=40):
    t = rng.integers(0, 2, N)
    xs, ts = rng.normal(size=(N, T, 2)), np.full((N, T), -1)
    xs[:, :, 1] = 0
    xs[:, 0] = np.stack([2 * t - 1, np.ones(N)], axis=1)  # the answer, and a mark that says so
    ts[:, -1] = t
    return xs, ts


# %%
def learn(cell, gates, bias=0, steps=200, H=16):
    rng = np.random.default_rng(0)
    layers = [make(cell, gates, 2, H, rng, bias), TimeAffine(rng.normal(size=(H, 2)) / 4, np.zeros(2))]
    loss_layer, optimizer, losses = TimeSoftmaxWithLoss(), Adam(lr=0.01), []
    params = [w for layer in layers for w in layer.params]
    grads = [g for layer in layers for g in layer.grads]  # the same arrays from beginning to end
    for _ in range(steps):
        xs, ts = batch(rng)
        losses.append(loss_layer.forward(layers[1].forward(layers[0].forward(xs)), ts))
        layers[0].backward(layers[1].backward(loss_layer.backward()))
        clip_grads(grads, 1.0)
        optimizer.update(params, grads)
    return losses


# %%
losses = {name: learn(*cell) for name, cell in cells.items()}
for name, values in losses.items():
    plt.plot(values, label=name, lw=1)
plt.axhline(np.log(2), color="black", ls=":", label="guessing, log 2")
plt.xlabel("step of training")
plt.ylabel("loss")
plt.legend(fontsize=8)
plt.show()

for name in ("RNN", "LSTM"):
    assert np.mean(losses[name][-20:]) > 0.6  # still guessing
for name in ("GRU, bias of z 3", "LSTM, bias of f 3"):
    assert np.mean(losses[name][80:100]) < 0.05  # solved

# %% [markdown]
# 最初から保つ2つは、50ステップほどの学習で解きました。ほかの2つは、最後まで当てずっぽうのままです。半開きのゲートのLSTMもその中にいます。最後のステップから最初のステップまで届く勾配が、小さすぎるのです。`LstmLm` には、このためのオプション `forget_bias` があります。
#
# ## まとめ
#
# - ゲートは、掛け算をするシグモイドです。何がゲートを開くかは学習されます。
# - ひとつのゲート $z$ は、保つか、置き換えるかを決めます。GRUはこれに、新しい候補が古い状態をどれだけ見てよいかを決める $r$ を足します。LSTMには、ゲートだけが触れる記憶セルがあります。
# - 逆伝播では、保たれたものの勾配に $f$（または $z$）だけが掛かります。1に近ければ勾配は100ステップでも届き、½なら20ステップでも届きません。
# - 忘却ゲートのバイアスを0より大きくしておくと、生まれたてのネットワークでも覚えていられます。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。
#
# **1.** ほかに何も見ない（重みがすべて0の）忘却ゲートが、毎ステップ90 %を保つには、バイアスをいくつにすればよいですか。

# %%
answer_1 = None  # a number, to two decimals

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    assert abs(sigmoid(np.float64(answer_1)) - 0.9) < 0.001, "solve 1 / (1 + e^-b) = 0.9"
    print("Exercise 1: right")

# %% [markdown]
# **2.** どのステップでも $z = 0.9$ だとすると、前の状態が半分未満になるのは何ステップ後ですか。

# %%
answer_2 = None  # a whole number

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    left, k = 1.0, 0
    while left >= 0.5:
        left, k = left * 0.9, k + 1
    assert answer_2 == k, "each step keeps nine tenths of what is left"
    print("Exercise 2: right")

# %% [markdown]
# **3.** ゲートをひとつ節約するLSTMがあります。忘れた分だけ取り込む、つまり $i = 1 - f$ とするのです。そのステップを書いてください。重みには $f$、$g$、$o$ が横に並んでいます。

# %%
answer_3 = None  # a function: def answer_3(x, h_prev, c_prev, Wx, Wh, b): ..., which returns h and c

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    Wx_, Wh_, b_ = rng.normal(size=(D, 3 * H)), rng.normal(size=(H, 3 * H)), rng.normal(size=3 * H)
    four = [np.concatenate([w[..., : 2 * H], -w[..., :H], w[..., 2 * H :]], axis=-1) for w in (Wx_, Wh_, b_)]
    expected = lstm_step(x, h_prev, c_prev, *four)  # as 1 - σ(a) = σ(-a)
    for ours, theirs in zip(answer_3(x, h_prev, c_prev, Wx_, Wh_, b_), expected):
        assert np.allclose(ours, theirs), "c = f c_prev + (1 - f) g, and h = o tanh(c)"
    print("Exercise 3: right")
