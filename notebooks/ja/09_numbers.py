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
# # 9. 数：ひとつの波と、2つの数列
#
# **やること**：小さなLSTMにサイン波を教え、自分の声だけを聞いて続けさせます。もうひとつのLSTMには、記憶だけが区別できる2つの数列を暗唱させます。
#
# **学ぶこと**：単語ではなく数を予測するにはどうするか。1ステップ先の予測は、なぜ自走よりずっと易しいのか。そして、ネットワークが記憶を見つける瞬間は、曲線の上でどう見えるか。
#
# **必要なもの**：ノートブック[5](05_gates.ipynb)。10分ほどで読めます。

# %%
import matplotlib.pyplot as plt
import numpy as np

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.lstm_lm import LstmLm
from ch06_gated.train_sequences import recite
from ch06_gated.train_sine import free_run, make_network, sine
from common.batching import OffsetBatches
from common.gradient_check import numerical_gradient
from common.optimizer import Adam
from common.packing import pack
from common.time_layers import TimeMeanSquaredError

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})

# %% [markdown]
# ## 数を入れて、数を出す
#
# 波は $\sin(2 \pi t / 50)$ です。ネットワークは各ステップで数をひとつ聞き、次の数を言います。埋め込みはありません。数そのものがLSTMに入ります。ソフトマックスもありません。数がそのまま出てきます。損失は**平均2乗誤差**です。
#
# $$L = \frac{1}{n} \sum_i (y_i - t_i)^2 \qquad\Longrightarrow\qquad dy_i = \frac{2}{n} (y_i - t_i)$$
#
# 勾配はここでも「言ったこと − 正解」です。

# %%
rng = np.random.default_rng(0)
y, t = rng.normal(size=(2, 3, 1)), rng.normal(size=(2, 3, 1))
layer = TimeMeanSquaredError()

assert np.isclose(layer.forward(y, t), ((y - t) ** 2).mean())
dy = layer.backward()
assert np.allclose(dy, 2 * (y - t) / y.size)
assert np.allclose(dy, numerical_gradient(lambda: ((y - t) ** 2).mean(), y), atol=1e-9)

# %% [markdown]
# ネットワーク1-5-1は、入力が数ひとつ、ユニットが5個、出力が数ひとつです。ノートブック4と同じように、10人の読み手が1周期ずつのウィンドウで波を読み、状態を引き継ぎます。

# %%
wave = sine(100)
model = make_network(5, init_range=0.1, rng=np.random.default_rng(0))
print(f"{len(wave):,} steps, {sum(p.size for p in model.params)} parameters")
assert np.allclose(wave[:3, 0], np.sin(2 * np.pi * np.arange(3) / 50))

# %% [markdown]
# ## 1ステップ先の予測と、自走
#
# どれだけよいかを測る方法は2つあります。**1ステップ先**：ずっと本物の波を聞きます。学習はこの方法で行います。**自走**：1周期だけ聞き、その後は自分の言ったことだけを聞きます。`free_run` は、このループです。


# %%
def my_run_free(model, heard, steps):
    said = []
    with model.evaluating():
        x = heard[None]  # (1, T, 1)
        for _ in range(steps):
            x = model.predict(x)[:, -1:]  # the last number that it says is the next that it hears
            said.append(x[0, 0])
    return np.array(said)


truth = sine(6)
heard, to_say = truth[:50], truth[50:]
assert np.allclose(my_run_free(model, heard, 20), free_run(model, heard, 20))

# %% [markdown]
# 学習させながら、途中と最後の2回、自走で言ったことを取っておきます。重みが落ち着くように、学習率は0まで下げていきます。


# %%
def train(model, epochs=300, early=10):
    batches = OffsetBatches(wave[:-1], wave[1:], 10, 50, restart=True)
    optimizer, ahead, free, said = Adam(), [], [], {}
    for epoch in range(1, epochs + 1):
        optimizer.lr = 0.02 * (1 - (epoch - 1) / epochs)
        model.reset_state()
        total = 0.0
        for xs, ts in batches:
            total += float(model.forward(xs, ts))
            model.backward()
            optimizer.update(model.params, model.grads)
        if epoch % 10 == 0:
            said[epoch] = free_run(model, heard, len(to_say))
            ahead.append(total / len(batches))
            free.append(((said[epoch] - to_say) ** 2).mean())
    return ahead, free, said[early], said[epochs]


# %%
ahead, free, said_early, said = train(model)
plt.semilogy(range(10, 301, 10), free, label="running free, 5 cycles")
plt.semilogy(range(10, 301, 10), ahead, label="one step ahead")
plt.xlabel("epoch")
plt.ylabel("mean squared error")
plt.legend()
plt.show()

assert free[0] > 10 * ahead[0]  # after 10 epochs
assert ahead[-1] < 1e-4
assert free[-1] < 0.01

# %% [markdown]
# 1ステップ先の誤差は、ほとんどすぐに小さくなります。不思議ではありません。50分の1周期では波はほとんど動かないので、直前の数を繰り返すだけでも悪くない予測になるのです。自走では、小さな誤差も自分の耳に入り、次の誤差の一部になって、250ステップのあいだに積み重なっていきます。

# %%
repeat = ((wave[1:] - wave[:-1]) ** 2).mean()
print(f"one step ahead: repeating the last number {repeat:.1e}, the network {ahead[-1]:.1e}")
assert ahead[-1] < repeat / 100

figure, axes = plt.subplots(2, 1, figsize=(6, 4), sharex=True)
for ax, values, title in zip(axes, (said_early, said), ("after 10 epochs", "after 300 epochs")):
    ax.plot(truth, color="tab:gray", lw=3, alpha=0.5, label="truth")
    ax.plot(range(50, 300), values, color="tab:red", lw=1, label="network, running free")
    ax.axvline(50, color="black", lw=0.8, ls=":")
    ax.set_title(title, fontsize=10)
    ax.set_ylim(-1.2, 1.8)
axes[0].legend(fontsize=8, loc="upper right", ncols=2)
axes[1].set_xlabel("step (the truth is heard up to the dotted line)")
plt.show()

# %% [markdown]
# 途中では、揺れていて周期もほぼ合っていますが、形と高さが合っていません。波とはどんなものかは学びましたが、まだこの波ではないのです。同じ隔たりは言語モデルにも生じます。学習では本物のテキストを読み、書くときには自分のテキストを読むからです。
#
# ## 記憶だけが区別できる2つの数列
#
# ```text
# 9 0 1 2 3 4 5 6 7 9
# 8 0 1 2 3 4 5 6 7 8
# ```
#
# 最初の数を聞いたら、残りを言わせます。途中で聞く数は、どちらの数列でも同じです。最後の数を知るには、最初の数を、誰にも尋ねられない8ステップのあいだ覚えていなければなりません。ここでは数は単語です。埋め込み、ソフトマックス、交差エントロピー誤差を使います。

# %%
sequences = np.array([[9, 0, 1, 2, 3, 4, 5, 6, 7, 9], [8, 0, 1, 2, 3, 4, 5, 6, 7, 8]])
xs, ts = pack(list(sequences[:, :-1])), pack(list(sequences[:, 1:]))
best_without_memory = np.log(2) / 9  # eight of nine are certain, the last is a guess between two


def learn(model, steps=1000):
    optimizer, losses, last = Adam(lr=0.01), [], []
    for step in range(steps):
        model.reset_state()
        losses.append(float(model.forward(xs, ts)))
        model.backward()
        optimizer.update(model.params, model.grads)
        if step % 10 == 0:
            _, ps = recite(model, 9, 9)  # nine numbers, after a 9 at the beginning
            last.append(ps[-1, 9])  # the probability of a 9 at the end
    return losses, last


# %%
steps = range(0, 1000, 10)
for seed in range(3):
    lstm = LstmLm(10, 8, 16, init_range=0.5, forget_bias=3.0, rng=np.random.default_rng(seed))
    rnn = SimpleRnnlm(10, 8, 16, init_range=0.5, rng=np.random.default_rng(seed))
    (lstm_losses, lstm_last), (rnn_losses, rnn_last) = learn(lstm), learn(rnn)
    plt.plot(steps, lstm_last, color="tab:blue", lw=1, label="LSTM" if seed == 0 else None)
    plt.plot(steps, rnn_last, color="tab:orange", lw=1, label="RNN" if seed == 0 else None)
    assert lstm_last[40] > 0.9  # after 400 steps
    assert abs(rnn_last[40] - 0.5) < 0.1
plt.axhline(0.5, color="black", ls=":", label="guessing")
plt.xlabel("step of training")
plt.ylabel("p(the last is 9), after a 9")
plt.legend()
plt.show()

# %% [markdown]
# 初期値を変えて、3つずつ学習させました。どれも途中の数はすぐに覚え、最後は当てずっぽう、つまり2分の1になります。最初から保つLSTM（ノートブック5と同じく、バイアスは3）は、100ステップほどで、最初の数を取っておけることを見つけます。RNNは何百ステップも当てずっぽうを続け、それから、突然見つけるものが出てきます。8ステップは、RNNに届かない距離ではありません。ただ、いつ見つけるかは誰にもわからず、それまでは、記憶がないときの最良の損失にとどまります。

# %%
print(f"loss: LSTM {lstm_losses[-1]:.4f}, RNN {rnn_losses[-1]:.4f}, best without memory {best_without_memory:.4f}")
assert lstm_losses[-1] < best_without_memory / 5
assert abs(rnn_losses[-1] - best_without_memory) < 0.02

for model, name in ((lstm, "LSTM"), (rnn, "RNN")):
    for sequence in sequences:
        said, ps = recite(model, int(sequence[0]), 9)
        print(f"{name:5}{said}   last number with probability {ps[-1].max():.2f}")
        if name == "LSTM":
            assert said == sequence.tolist()

# %% [markdown]
# 6つのうち、最後の2つの答えです。このRNNが最後に正しい数を言ったとしても、それは偶然です。確率は2分の1なのですから。答えだけを見るのは、甘すぎる評価です。
#
# LSTMはどこに覚えているのでしょうか。途中で聞く数はどちらも同じなので、2つの数列で値の違う記憶セルのユニットがその場所です。

# %%
cell_states = []
for first in (9, 8):
    with lstm.evaluating():
        lstm.predict(np.array([[first, 0, 1, 2, 3, 4, 5, 6, 7]]))
        cell_states.append(lstm.layers[1].cs_next)
difference = cell_states[0] - cell_states[1]  # (9 steps, 16 units)
limit = np.abs(difference).max()
plt.imshow(difference.T, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
plt.xticks(range(9), ["9 or 8", *range(8)])
plt.xlabel("number that is heard")
plt.ylabel("unit")
plt.colorbar(label="difference of the cell states")
plt.show()

assert np.abs(difference[-1]).max() > 0.2 * np.abs(difference[0]).max()  # still there after eight steps

# %% [markdown]
# ## まとめ
#
# - 数を予測するときの損失は、2乗誤差の平均です。勾配はここでも「言ったこと − 正解」です。
# - 1ステップ先は易しく、自走では誤差が誤差を養います。必要なほうを測りましょう。
# - 記憶は突然に学習されます。最初から保つものがなければ、それは遅くなります。記憶がないときの最良の損失で平らになっていたら、その兆候です。
# - 知っているのか、当てずっぽうなのかは、確率でわかります。答えだけではわかりません。
#
# 同じことをするスクリプトが `python ch06_gated/train_sine.py` と `python ch06_gated/train_sequences.py` です。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。
#
# **1.** ネットワーク1-5-1（数をひとつ聞く5ユニットのLSTMと、1個の数を出すAffineレイヤ）のパラメータは、全部でいくつですか。

# %%
answer_1 = None  # a whole number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    network = make_network(5, init_range=0.1, rng=np.random.default_rng(0))
    assert answer_1 == sum(p.size for p in network.params), "Wx, Wh and b have four parts each; then W and b"
    print("Exercise 1: right")

# %% [markdown]
# **2.** 21個の数の数列で、19個の予測は確実にでき、最後は3つからの当てずっぽうだとします。記憶のないモデルの、数ひとつあたりの平均損失は、最低で何ナットですか。

# %%
answer_2 = None  # a number

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    surprises = -np.log([1.0] * 19 + [1 / 3])  # of each of the twenty predictions
    assert np.isclose(answer_2, surprises.mean()), "a guess among three costs log 3; take the mean over 20"
    print("Exercise 2: right")

# %% [markdown]
# **3.** 損失が $|y_i - t_i|$ の平均だとします。$dy$ を返す関数を書いてください。

# %%
answer_3 = None  # a function: def answer_3(y, t): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = numerical_gradient(lambda: np.abs(y - t).mean(), y)
    assert np.allclose(answer_3(y, t), expected, atol=1e-9), "the slope of |x| is the sign of x"
    print("Exercise 3: right")
