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
# # 10. 速さとGPU
#
# **やること**：大きな行列の積ひとつが、小さな積たくさんに勝つ理由を測ります。学習の1ステップが時間をどこで使っているかを調べ、同じコードをGPUで動かすと何が変わるかを見ます。
#
# **学ぶこと**：このライブラリがNumPyだけで速い理由。呼び出しは少なく、積は大きく、同じ計算は二度しない。
#
# **必要なもの**：ノートブック[2](02_through_time.ipynb)と[6](06_an_lstm_that_writes.ipynb)。15分ほどで読めます。
#
# 時間はマシンによっても、実行するたびにも変わります。ですからこのノートブックでは時間は表示するだけにして、速い方法と遅い方法が同じ数を出すことだけをassertします。

# %%
import math
import time
from collections import Counter
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np

import dataset
from ch06_gated.lstm_lm import LstmLm
from common.backend import GpuUnavailable, get_array_module, require_gpu
from common.batching import OffsetBatches
from common.layers import RNN
from common.optimizer import SGD, clip_grads
from common.time_layers import TimeRNN

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)


# %%
def seconds(function, rounds=5):
    """The fastest of some rounds: the others were disturbed."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def normal(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


# %% [markdown]
# ## 積ひとつか、積たくさんか
#
# $T$ ステップの入力に、同じ $W_x$ を掛けます。1ステップずつ掛けても、全ステップを縦に積んで一度に掛けてもかまいません。結果の数は同じです。

# %%
T, N, D, H = 35, 20, 256, 1024
xs, Wx = normal(T, N, D), normal(D, H)


def step_by_step():
    return np.stack([x @ Wx for x in xs])


def at_once():
    return (xs.reshape(T * N, D) @ Wx).reshape(T, N, H)


assert np.allclose(step_by_step(), at_once(), atol=1e-3)
print(f"step by step {1e3 * seconds(step_by_step):.1f} ms, at once {1e3 * seconds(at_once):.1f} ms")

# %% [markdown]
# 掛け算の回数はどちらも $T N D H$ 回です。どれだけ速く進むかは、一度に何行を掛けるかで決まります。

# %%
rows = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
speeds = []
for n in rows:
    x, y = normal(n, D), np.empty((n, H), np.float32)
    repeats = 512 // n

    def products(x=x, y=y, repeats=repeats):
        for _ in range(repeats):
            np.matmul(x, Wx, out=y)

    speeds.append(repeats * n * D * H / seconds(products) / 1e9)

plt.semilogx(rows, speeds, "o-", base=2)
plt.xlabel("rows multiplied at a time")
plt.ylabel("multiplications, 10⁹ a second")
plt.ylim(0)
plt.show()

# %% [markdown]
# 理由はメモリにあります。1行だけを掛けるときも、$W_x$ 全体を読んでこなければならず、その数はどれも1回しか使われません。64行なら、手元にあるあいだに64回使われます。プロセッサの掛け算は、メモリが数を届けるよりずっと速いのです。大きな積なら、その速さを生かせます。
#
# ## RNNレイヤが一度にできること
#
# 再帰そのものは待つしかありません。$h_t$ には $h_{t-1}$ が必要です。しかし、残りはすべてループの外に出せます。全ステップの $x_t W_x$ はループの前に、$dW_x$、$dW_h$、$db$、$dx$ はループの後に計算します。`RNN` を $T$ 回呼ぶのと、`TimeRNN` との違いはそこにあります。

# %%
N, T, D, H = 20, 35, 100, 100
Wx, Wh, b = normal(D, H) / 10, normal(H, H) / 10, np.zeros(H, np.float32)
xs, dhs = normal(N, T, D), normal(N, T, H)
slow, fast = [RNN(Wx, Wh, b) for _ in range(T)], TimeRNN(Wx, Wh, b)


def loop():
    h, dh, dxs = np.zeros((N, H), np.float32), np.zeros((N, H), np.float32), np.empty_like(xs)
    for t in range(T):
        h = slow[t].forward(xs[:, t], h)
    for t in reversed(range(T)):
        dxs[:, t], dh = slow[t].backward(dhs[:, t] + dh)
    return dxs


# %%
def time_layer():
    fast.forward(xs)
    return fast.backward(dhs)


assert np.allclose(loop(), time_layer(), atol=1e-4)
print(f"T times RNN {1e3 * seconds(loop):.2f} ms, TimeRNN {1e3 * seconds(time_layer):.2f} ms")

# %% [markdown]
# ループに残るのは $N$ 行の積です。これを大きくするには、同時に読む系列を増やすしかありません。
#
# ## 学習の1ステップは、どこで時間を使うか
#
# LSTMの言語モデルの学習の1ステップです。ノートブック6で何百回も行ったものですが、今度は語彙が10,000語です。レイヤを順に呼び、そのあいだに時計を見ます。

# %%
book = dataset.load("sotu")
V, H = len(book.id_to_word), 100
model, optimizer = LstmLm(V, H, H, rng=np.random.default_rng(0)), SGD(lr=1.0)
embedding, lstm, _ = model.layers
output = model.loss_layer  # the last product, softmax and loss
batches = iter(OffsetBatches(book.train[:-1], book.train[1:], N, T))

# %%
x, t = next(batches)
loss = output.forward(lstm.forward(embedding.forward(x)), t)
model.reset_state()
assert loss == model.forward(x, t)  # this is all that model.forward does
spent = Counter()


@contextmanager
def clock(part):
    start = time.perf_counter()
    yield
    spent[part] += time.perf_counter() - start


# %%
def step():
    x, t = next(batches)
    with clock("embedding"):
        vectors = embedding.forward(x)
    with clock("LSTM forward"):
        hs = lstm.forward(vectors)
    with clock("output and loss"):
        output.forward(hs, t)
        dhs = output.backward()
    with clock("LSTM backward"):
        dvectors = lstm.backward(dhs)
    with clock("embedding"):
        embedding.backward(dvectors)
    with clock("clip, update"):
        clip_grads(model.grads, 0.25)
        optimizer.update(model.params, model.grads)


# %%
for k in range(12):
    if k == 2:
        spent.clear()  # the first steps are slower: memory is fetched
    step()
ms = {part: 1e3 * seconds_ / 10 for part, seconds_ in spent.items()}

plt.barh(list(ms), list(ms.values()))
plt.gca().invert_yaxis()
plt.xlabel("ms of one step")
plt.show()
print(f"{sum(ms.values()):.0f} ms a step, {1000 * N * T / sum(ms.values()):,.0f} words per second")

# %% [markdown]
# 5分の4ほどが最後のレイヤに使われています。1語あたりの掛け算の回数を数えれば、不思議ではありません。LSTMは $D + H$ 個の数の行に $4H$ 列、出力レイヤは $H$ 個の数の行に $V$ 列です。どちらも3回ずつ行います。順伝播と、重みの勾配と、入力の勾配です。

# %%
in_lstm, in_output = 3 * (H + H) * 4 * H, 3 * H * V
print(f"LSTM {in_lstm:,} a word, output {in_output:,}: {in_output / in_lstm:.1f} times as many")
assert in_output > 10 * in_lstm

# %% [markdown]
# ですから、このライブラリはこのレイヤにいちばん手をかけています。何行分かのスコアずつ処理し、その場で勾配に書き換え、必要のない配列は決して作りません。そしてテストでは、ノートブック3の素朴なレイヤと一致することを確かめています。
#
# ## 同じ計算は二度しない
#
# バッチの700語には、同じ単語がたくさんあります。同じ単語なら、$W_x$ との積も同じです。ライブラリは異なる単語だけを1回ずつ掛け、残りは表引きで済ませます。

# %%
x, _ = next(batches)
unique, index = np.unique(x.ravel(), return_inverse=True)
W_in, Wx = embedding.W.data, lstm.Wx.data
each, distinct = W_in[x.ravel()] @ Wx, (W_in[unique] @ Wx)[index]
assert np.allclose(each, distinct, atol=1e-6)
print(f"{x.size} words, {len(unique)} distinct")
assert len(unique) < 0.7 * x.size

# %% [markdown]
# ## バイト数は半分
#
# 学習にはfloat32を使います。メモリはfloat64の半分で、1命令で扱える数は2倍です。ところが、うっかりしたスカラーひとつで、黙って元に戻ってしまいます。NumPy 2では、NumPyの数は結果の型を決めてしまいますが、Pythonの数はそうではありません。

# %%
x = normal(4)
print("times np.sqrt(2.0):", (x * np.sqrt(2.0)).dtype, "  times math.sqrt(2.0):", (x * math.sqrt(2.0)).dtype)
assert (x * math.sqrt(2.0)).dtype == np.float32
assert all(p.dtype == np.float32 for p in model.params)

single = normal(500, 500)
double = single.astype(np.float64)
print(f"a product of 500 x 500: float32 {1e3 * seconds(lambda: single @ single):.2f} ms,", end=" ")
print(f"float64 {1e3 * seconds(lambda: double @ double):.2f} ms")

# %% [markdown]
# ## GPUの上で
#
# GPUが得意なことも同じです。しかも、もっと極端です。大きなかたまりで渡せば、何千もの掛け算を一度にこなします。CuPyは、NVIDIA GPUのメモリにある配列のために、NumPyと同じ関数を用意しています。レイヤのコードは、どちらの配列を持っているかを気にしません。新しい配列を作るところでは、手元の配列に尋ねます。


# %%
def tanh_of(x):
    xp = get_array_module(x)  # numpy here, cupy for an array on the GPU
    return xp.tanh(x)


assert get_array_module(np.zeros(1)) is np
assert np.array_equal(tanh_of(x), np.tanh(x))

# %% [markdown]
# `--gpu` を付けたとき、プログラムの中なら `model.to_gpu()` を呼んだときに変わるのは、次の点です。
#
# | | CPU | GPU |
# | --- | --- | --- |
# | 重み、勾配、オプティマイザの状態 | NumPyの配列 | CuPyの配列。オプティマイザは移した後に作る |
# | テキスト | NumPyの配列 | 一度だけ移し、バッチはGPU上で切り出す |
# | 同じ単語 | 1回だけ掛ける | すべて掛ける。GPUでは、掛けるのは安く、同じ単語を探すのは高い |
# | 埋め込みの勾配 | 同じ単語の行の和 | `cupy.add.at` |
# | オプティマイザ、ソフトマックス | キャッシュに入る分ずつ | 全体を一度に |
# | クリッピングするかどうか | その場で調べる | GPU上で計算する。尋ねるとCPUが待たされる |
# | 損失 | 数 | 表示するときまでGPUに置いておく |
# | 重みの保存 | `.npz` | 同じファイル |
# | 乱数 | NumPyの乱数生成器 | 同じもの。シードが同じなら初期値も同じ。ドロップアウトのマスクは、これが引くシードからGPUの上で作る |
#
# それでもLSTMは、1ステップに10回ほどの呼び出しを、ステップごとに順に行います。GPUでは、どんなに小さな仕事でも、始めるまでに1回あたり数マイクロ秒かかります。$H = 100$ ならGPUにあまり期待はできません。$H = 1000$ でバッチが大きければ、大いに期待できます。
#
# **このうち、本物のGPUで動くことを確かめたもの：まだ何もありません**。テストでは、すべてのレイヤ、モデル、スクリプトを、CuPyの代役で動かしています。代役は、CuPyと同じように、NumPyの配列と混ぜることを拒みます。名前がすべて本物のパッケージにあることも調べています。これで誤った呼び出しは見つかりますが、速さについては何もわかりません。GPUをお持ちなら、次のセルがその最初のテストになります。

# %%
xs_, ts_ = book.valid[None, :50], book.valid[None, 1:51]
small = LstmLm(V, 16, 16, rng=np.random.default_rng(0))
loss = float(small.forward(xs_, ts_))
try:
    require_gpu()
except GpuUnavailable as error:
    print(f"No GPU here: {error}")
else:
    small.to_gpu()
    on_gpu = float(small.forward(*small.asarrays(xs_, ts_)))
    assert abs(on_gpu - loss) < 1e-4, (on_gpu, loss)
    print(f"The GPU agrees: {on_gpu:.6f} and {loss:.6f}")

# %% [markdown]
# ## まとめ
#
# - 同じ掛け算でも、大きな積ひとつは、小さな積たくさんより数倍速くなります。
# - RNNレイヤは、前の状態との積のほかは、すべてループの外に出します。
# - 語彙が10,000語なら、仕事のほとんどは出力レイヤです。まずそこを見ましょう。
# - float32を使う、異なる単語は1回だけ掛ける、キャッシュに入る分ずつ処理する。どれも少しずつ、結果を変えずに効きます。
# - GPUでは、同じ行がCuPyの配列で動きます。ただし、そう言っているのは代役で、本物のGPUはまだです。
#
# `python benchmarks/step_time.py` は、1ステップをPyTorchや行列の積だけの時間と比べます。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。
#
# **1.** $N = 20$、$T = 35$、$H = 100$、$V = 10{,}000$ のとき、順伝播でバッチのスコアを求めるには、何回の掛け算が必要ですか。

# %%
answer_1 = None  # a whole number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    assert answer_1 == math.prod((20, 35, 100, 10_000)), "each of the N T V scores is a sum of H products"
    print("Exercise 1: right")

# %% [markdown]
# **2.** 形状 $(N, T, D)$ の系列と形状 $(D, H)$ の $W$ との積を、ループを使わず、2つの行列の積ひとつで書いてください。結果の形状は $(N, T, H)$ です。

# %%
answer_2 = None  # a function: def answer_2(xs, W): ...

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    xs_, W = normal(3, 4, 5), normal(5, 6)
    expected = np.stack([np.stack([x @ W for x in sequence]) for sequence in xs_])
    assert np.allclose(answer_2(xs_, W), expected, atol=1e-5), "reshape to N·T rows, multiply, and reshape back"
    print("Exercise 2: right")

# %% [markdown]
# **3.** 出力レイヤが1ステップの80 %を占めています。これを2倍速くすると、1ステップは何倍速くなりますか。

# %%
answer_3 = None  # a number, to two decimals

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    before, after = 80 + 20, 80 / 2 + 20
    assert abs(answer_3 - before / after) < 0.01, "the other 20 % stay as they are"
    print("Exercise 3: right")
