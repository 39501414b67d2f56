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
# # 4. 1,000語で学ぶ言語モデル
#
# **やること**：レイヤを組み立て、小さなテキストをバッチにして読ませ、ほとんど暗記するまで学習させます。それから添字をひとつ壊して、何が起きるかを見ます。
#
# **学ぶこと**：状態を引き継ぐネットワークのために、長いテキストをどうバッチにするか。学習のループは何をするのか。そして、損失が下がっていても正しいことを学んでいるとは限らない、ということ。
#
# **必要なもの**：ノートブック[2](02_through_time.ipynb)と[3](03_layers_of_a_language_model.ipynb)。15分ほどで読めます。

# %%
import matplotlib.pyplot as plt
import numpy as np

import dataset
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.batching import OffsetBatches
from common.evaluation import evaluate, perplexity
from common.optimizer import SGD
from common.time_layers import TimeAffine, TimeEmbedding, TimeRNN, TimeSoftmaxWithLoss
from common.trainer import RnnlmTrainer

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})

# %% [markdown]
# ## テキスト
#
# インストールと一緒に入った、アメリカ大統領の年頭教書から、最初の1,000語を使います。単語は番号で表します。各単語の正解ラベルは、その次に来る単語です。

# %%
book = dataset.load("sotu")
numbers, corpus = np.unique(book.train[:1000], return_inverse=True)  # the words that occur, from 0
words = [book.id_to_word[i] for i in numbers]
V = len(words)
xs, ts = corpus[:-1], corpus[1:]

print(" ".join(words[i] for i in corpus[:30]))
print(f"{len(corpus)} words, {V} different ones")
assert xs[1] == ts[0]  # what follows word 0 is word 1

# %% [markdown]
# ## 長いテキストのミニバッチ
#
# Truncated BPTT（ノートブック2）は、テキストをウィンドウごとに読み、状態を引き継ぎます。複数のウィンドウを同時に読むために、$N$ 人の読み手が $N$ か所から読み始めます。読み手 $i$ の開始位置は $i \cdot n / N$ です。各バッチは、全員の次の $T$ 語です。するとバッチの $i$ 行目は、ひとつ前のバッチの $i$ 行目の続きになり、引き継いだ状態と合います。
#
# 24文字を3人で、4文字ずつのウィンドウで読む例です。色がひとつのバッチを表します。

# %%
letters, N, T = "abcdefghijklmnopqrstuvwx", 3, 4
stretch = len(letters) // N
figure, ax = plt.subplots(figsize=(5, 1.8))
ax.imshow(np.tile(np.arange(stretch) // T, (N, 1)), cmap="Pastel1", vmin=0, vmax=8)
for i in range(N):
    for k in range(stretch):
        ax.text(k, i, letters[i * stretch + k], ha="center", va="center")
ax.set_xticks([T / 2 - 0.5, 1.5 * T - 0.5], ["batch 0", "batch 1"])
ax.set_yticks(range(N), [f"reader {i}" for i in range(N)])
plt.show()

# %% [markdown]
# 関数にしましょう。全員が `time` 語を読み終えたところから始まるバッチを返します。テキストの終わりまで来た読み手は、先頭に戻って続けます（`% n`）。


# %%
def batch(xs, ts, N, T, time):
    n = len(xs)
    x, t = np.empty((N, T), dtype=int), np.empty((N, T), dtype=int)
    for i in range(N):
        offset = i * (n // N)
        for k in range(T):
            x[i, k] = xs[(offset + time + k) % n]
            t[i, k] = ts[(offset + time + k) % n]
    return x, t


ids = np.arange(24)
print(batch(ids, ids, N, T, time=0)[0], batch(ids, ids, N, T, time=T)[0], sep="\n\n")

# %% [markdown]
# ライブラリは同じことを添字の配列で行い、1エポック分のバッチを順に返します。

# %%
N, T = 10, 5
steps = len(xs) // (N * T)  # batches in an epoch
library = OffsetBatches(xs, ts, N, T)
assert len(library) == steps
for k, (x, t) in enumerate(library):
    ours = batch(xs, ts, N, T, time=k * T)
    assert np.array_equal(x, ours[0])
    assert np.array_equal(t, ours[1])

# %% [markdown]
# ## モデル
#
# ```text
#  単語   (N, T)      w_0   w_1   w_2
#                      |     |     |
#  埋め込み           x_0   x_1   x_2         (N, T, D)
#                      |     |     |
#  RNN           h →  h_0 → h_1 → h_2 →  h    (N, T, H)、バッチからバッチへ引き継ぐ
#                      |     |     |
#  Affine             y_0   y_1   y_2         (N, T, V)、次の単語のスコア
# ```

# %%
D = H = 100
model = SimpleRnnlm(V, D, H, rng=np.random.default_rng(0))
for p in model.parameters:
    print(f"{p.name:9} {p.data.shape}")

embed_W, rnn_Wx, rnn_Wh, rnn_b, affine_W, affine_b = model.params
ys = TimeEmbedding(embed_W).forward(x)
ys = TimeRNN(rnn_Wx, rnn_Wh, rnn_b).forward(ys)
ys = TimeAffine(affine_W, affine_b).forward(ys)
loss = TimeSoftmaxWithLoss().forward(ys, t)

assert np.isclose(loss, model.forward(x, t))
print(f"before training, the perplexity is {perplexity(loss):.0f}, among {V} words")
assert abs(perplexity(loss) / V - 1) < 0.1  # it knows nothing yet

# %% [markdown]
# ## 学習
#
# 順伝播、逆伝播、坂を一歩下る。これを何度も繰り返します。`backward` は前のステップの勾配を置き換えるので、勾配を0に戻す必要はありません（ノートブック2）。テキストを1回通すのが1エポックです。バッチを作る関数を引数にしておきます。後でもうひとつ出てくるからです。


# %%
def train(batch, epochs=100):
    model = SimpleRnnlm(V, D, H, rng=np.random.default_rng(0))
    optimizer, time, perplexities = SGD(lr=0.1), 0, []
    for _ in range(epochs):
        losses = []
        for _ in range(steps):
            losses.append(model.forward(*batch(xs, ts, N, T, time)))
            model.backward()
            optimizer.update(model.params, model.grads)
            time += T
        perplexities.append(perplexity(np.mean(losses)))
    return model, perplexities


model, right = train(batch)
for epoch in (1, 20, 40, 60, 80, 100):
    print(f"epoch {epoch:3}  perplexity {right[epoch - 1]:6.1f}")
assert right[-1] < 10

# %% [markdown]
# 400から1桁まで下がりました。モデルが単語ごとに迷っているのは、4、5語のあいだです。このループは `RnnlmTrainer` にもあり、そのほかに勾配クリッピング、検証データ、学習率の減衰、学習の記録がついています。

# %%
trainer = RnnlmTrainer(SimpleRnnlm(V, D, H, rng=np.random.default_rng(0)), SGD(lr=0.1))
history = trainer.fit(xs, ts, max_epoch=3, batch_size=N, time_size=T)
assert np.allclose([record["train_perplexity"] for record in history], right[:3], rtol=1e-4)

# %% [markdown]
# ## 添字の間違い
#
# `batch` の中で正解ラベルを作っている行を、もう一度見てください。次の関数は、そこから1語、`time` を落としたものです。どのバッチのラベルも、最初のバッチのものになってしまいます。エラーは出ません。形状はすべて合っていて、ラベルもすべてテキストの中の単語です。


# %%
def wrong_batch(xs, ts, N, T, time):
    n = len(xs)
    x, t = np.empty((N, T), dtype=int), np.empty((N, T), dtype=int)
    for i in range(N):
        offset = i * (n // N)
        for k in range(T):
            x[i, k] = xs[(offset + time + k) % n]
            t[i, k] = ts[(offset + k) % n]
    return x, t


wrong_model, wrong = train(wrong_batch)

# %%
plt.semilogy(range(1, 101), right, label="right labels")
plt.semilogy(range(1, 101), wrong, label="labels of the first batch")
plt.xlabel("epoch")
plt.ylabel("perplexity (log scale)")
plt.legend()
plt.show()

assert wrong[4] < right[4] / 3  # after 5 epochs the wrong one looks far better
assert right[-1] < wrong[-1] / 5  # in the end it is far worse

# %% [markdown]
# この間違いが危険なのは、最初の40エポックのあいだ、正しいものより**よく**学んでいるように見えるからです。パープレキシティは数百から40未満まで、速く、なめらかに下がります。そして、それきり何も起こりません。モデルが小さすぎるか、学習率が悪いように見えるので、何日も無駄にしかねません。
#
# この平らな部分は、どこから来るのでしょうか。ラベルは $N \cdot T = 50$ 個しかなく、毎回同じで、読んでいる単語とは関係がありません。学べるのは、それぞれがどれだけ頻繁に現れるかだけです。ですから最良の損失は、この頻度 $p$ のエントロピーになります。
#
# $$L = -\sum_v p_v \log p_v$$

# %%
labels = wrong_batch(xs, ts, N, T, 0)[1]
p = np.bincount(labels.ravel(), minlength=V) / labels.size
entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
print(f"perplexity of the frequencies {np.exp(entropy):.1f}, of the model in the end {wrong[-1]:.1f}")
assert np.isclose(wrong[-1], np.exp(entropy), rtol=0.02)

# %% [markdown]
# ## どう気づくか
#
# 1分でできる確認が2つあります。ひとつは、**バッチを見る**ことです。各単語のラベルは、その次の単語になっているでしょうか。


# %%
def follows(batch):
    x, t = batch(xs, ts, N, T, time=T)
    return np.array_equal(x[:, 1:], t[:, :-1])


assert follows(batch)
assert not follows(wrong_batch)

# %% [markdown]
# もうひとつは、**モデルが何を知っているか見せてもらう**ことです。テキストを読ませて、いちばんありそうだとした単語が、実際に次に来る単語と何回一致するかを数えます。


# %%
def hits(model):
    with model.evaluating():
        scores = model.predict(xs[None])  # one reader, from the first word to the last
    return (scores[0].argmax(axis=1) == ts).mean()


print(f"right {hits(model):.0%}, wrong {hits(wrong_model):.0%}")
assert hits(model) > 0.6
assert hits(wrong_model) < 0.1

# %% [markdown]
# 測るコードのほうに同じ間違いがなければ、パープレキシティを測っても同じことがわかります。

# %%
print(f"right {perplexity(evaluate(model, xs, ts)):.1f}, wrong {perplexity(evaluate(wrong_model, xs, ts)):.0f}")
assert perplexity(evaluate(wrong_model, xs, ts)) > V  # worse than knowing nothing

# %% [markdown]
# ## まとめ
#
# - $N$ 人の読み手が、テキストの $N$ か所から読み始めます。バッチの $i$ 行目は、前のバッチの $i$ 行目の続きです。
# - 学習の1ステップは、順伝播、逆伝播、更新です。ライブラリのトレーナーは、それに機能を足しているだけで、計算は変わりません。
# - 語彙が400語のモデルは、パープレキシティ400から始まります。1,000語なら1桁まで下がるはずです。
# - 平らになったのは、違うことを学んだからかもしれません。バッチを見ること、そして学習とは別のコードで測ることです。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。
#
# **1.** 929,589語のPenn Treebankでは、$N = 20$、$T = 35$ のとき、1エポックは何バッチですか。（最後の単語には、次の単語がありません。）

# %%
answer_1 = None  # a whole number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    text = np.zeros(929_589 - 1)
    assert answer_1 == len(OffsetBatches(text, text, 20, 35)), "a batch has N x T words; only whole batches count"
    print("Exercise 1: right")

# %% [markdown]
# **2.** $n$ 語を読む $N$ 人の読み手の開始位置を返す関数を書いてください。

# %%
answer_2 = None  # a function: def answer_2(n, N): ..., which returns a list

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    x, _ = next(iter(OffsetBatches(np.arange(999), np.arange(999), 7, 1)))
    assert np.array_equal(answer_2(999, 7), x[:, 0]), "all stretches have the same whole number of words"
    print("Exercise 2: right")

# %% [markdown]
# **3.** 1エポックの各バッチの損失から、そのエポックのパープレキシティを返す関数を書いてください。

# %%
answer_3 = None  # a function: def answer_3(losses): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = np.sqrt(np.exp(1.0) * np.exp(3.0))  # the geometric mean of the perplexities of two batches
    assert np.isclose(answer_3([1.0, 3.0]), expected), "first the mean of the losses, then e to the power of it"
    print("Exercise 3: right")
