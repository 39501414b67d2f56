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
# # 8. 分類：たくさんの状態から、ひとつの答えへ
#
# **やること**：段落を読んで、どの時代の大統領の言葉かをRNNに当てさせます。最後の状態が知っていることと、全状態の平均が知っていることを比べ、両端から読ませ、何と何を取り違えるかを見ます。
#
# **学ぶこと**：系列はどうやって1本のベクトルになるか。そこにパディングがどう影響するか。そして、ごまかされずにモデルを比べる方法。
#
# **必要なもの**：ノートブック[5](05_gates.ipynb)と[7](07_sentences.ipynb)。15分ほどで読めます。

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from ch05_rnn.rnn_classifier import RnnClassifier
from ch06_gated.lstm_classifier import LstmClassifier
from common.gradient_check import numerical_gradient
from common.layers import Affine, SoftmaxWithLoss
from common.optimizer import Adam, clip_grads
from common.packing import from_rows, pack, to_rows, unpack
from common.time_layers import TimeEmbedding, TimeLast, TimeMean, TimeRNN
from dataset import sotu
from dataset.tokenizer import WordTokenizer

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)

# %% [markdown]
# ## 段落と時代
#
# 2世紀分の年頭教書を段落ごとに分けました。クラスは時代です。検証用には教書をまるごと取っておきます。学習した段落のすぐ隣の段落で評価しないためです。手早く済ませるため、段落は4つにひとつ、それぞれ最初の60語だけを使います。

# %%
data = sotu.load_eras()
train, valid = data.train[::4], data.valid[::2]
tokenizer = WordTokenizer.train([text for text, _ in train], vocab_size=5000)


def encode(part):
    texts = [np.array(tokenizer.encode(text)[:60], dtype=np.int32) for text, _ in part]
    return texts, np.array([label for _, label in part])


texts, labels = encode(train)
valid_texts, valid_labels = encode(valid)
counts = np.bincount(valid_labels)
majority = counts.max() / counts.sum()
print(f"{len(texts)} paragraphs to train on, {len(valid_texts)} to choose on")
print(dict(zip(data.classes, counts.tolist())), f"always the most frequent class: {majority:.0%} right")

# %%
example = next(text for text, label in train if label == 0)
print(example[:300], "...")

# %% [markdown]
# 100件中44件を当てるモデルは、何も学んでいません。最も多いクラスが、ちょうどそれだけあるからです。正解率は、この数と並べて初めて意味を持ちます。
#
# ## T個の状態から1本のベクトルへ
#
# RNNレイヤは、単語ごとに状態を出します。分類には、テキスト全体に対して1本のベクトルが必要です。いちばん簡単なのは次の2つです。
#
# $$y = h_{T} \quad\text{（最後）} \qquad\qquad y = \frac{1}{T} \sum_{t=1}^{T} h_t \quad\text{（平均）}$$
#
# **最後**の状態はすべてを見ていますが、それを最後まで運んでこなければなりません。**平均**なら、どのステップも答えへ直接つながり、勾配も直接戻ってきます。各 $t$ で $dh_t = dy / T$ です。
#
# パディングがあると、落とし穴があります。パディングしたバッチの `hs[:, -1]` が本当に最後の状態なのは、いちばん長いテキストだけです。ほかのテキストでは、パディングを何ステップも読んだ後の状態になっています。全ステップの平均にも、パディングが混ざります。パックした系列なら、どこで終わるかを知っています。

# %%
sequences = [rng.normal(size=(n, 3)) for n in (2, 5, 3)]
layer = TimeRNN(rng.normal(size=(3, 4)), rng.normal(size=(4, 4)), rng.normal(size=4))
hs = layer.forward(pack(sequences))
each = unpack(hs)  # the states of each sequence, in the order in which they were packed

assert np.allclose(TimeLast().forward(hs), [h[-1] for h in each])
assert np.allclose(TimeMean().forward(hs), [h.mean(axis=0) for h in each])

padded = np.zeros((3, 5, 3))
for row, sequence in zip(padded, sequences):
    row[: len(sequence)] = sequence
wrong = layer.forward(padded)[:, -1]
print("distance of hs[:, -1] from the last real state:", np.linalg.norm(wrong - [h[-1] for h in each], axis=1).round(2))
assert np.allclose(wrong[1], each[1][-1])  # right for the longest alone
assert not np.allclose(wrong[0], each[0][-1])

# %% [markdown]
# 平均の勾配を、手とレイヤの両方で求めます。

# %%
mean, dy = TimeMean(), rng.normal(size=(3, 4))
hs = layer.forward(pack(sequences))
mean.forward(hs)
for d, n, grad in zip(dy, (2, 5, 3), unpack(mean.backward(dy))):
    assert np.allclose(grad, d / n)  # at each of the n steps

rows, layout = to_rows(hs)
rows = rows.copy()  # what a layer returned cannot be changed; a copy can
measured = numerical_gradient(lambda: (mean.forward(from_rows(rows, layout)) * dy).sum(), rows)
mean.forward(hs)
assert np.allclose(to_rows(mean.backward(dy))[0], measured, atol=1e-8)

# %% [markdown]
# ## モデル
#
# 埋め込み、RNNレイヤ、最後または平均、Affine、損失つきのソフトマックスの順です。パックしたテキストと、テキストごとのクラスを受け取ります。

# %%
V, C = tokenizer.vocab_size, len(data.classes)
model = RnnClassifier(V, 32, 32, C, pool="mean", rng=np.random.default_rng(0))
batch = model.batch(texts[:8])
loss = model.forward(batch, labels[:8])

embed_W, Wx, Wh, b, affine_W, affine_b = model.params
hs = TimeRNN(Wx, Wh, b).forward(TimeEmbedding(embed_W).forward(batch))
scores = Affine(affine_W, affine_b).forward(TimeMean().forward(hs))
assert scores.shape == (8, C)
assert np.isclose(SoftmaxWithLoss().forward(scores, labels[:8]), loss)
print(f"loss {loss:.3f}, and log {C} = {np.log(C):.3f}")

# %% [markdown]
# ## 5つのネットワーク
#
# 最後の状態を使う単純なRNN、平均を使う単純なRNN、最後の状態を使うLSTM、両端から読んでそれぞれの最後の状態を使うLSTM、そして2層のLSTMです。大きさもバッチもシードも、すべて同じにします。


# %%
def accuracy(model):
    return (model.probabilities(valid_texts).argmax(axis=1) == valid_labels).mean()


def fit(model, epochs=2):
    optimizer, rng = Adam(lr=0.005), np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(texts))
        for first in range(0, len(texts), 32):
            chosen = order[first : first + 32]
            model.forward(model.batch([texts[n] for n in chosen]), labels[chosen])
            model.backward()
            clip_grads(model.grads, 1.0)
            optimizer.update(model.params, model.grads)


# %%
networks = {
    "RNN, last": (RnnClassifier, {"pool": "last"}),
    "RNN, mean": (RnnClassifier, {"pool": "mean"}),
    "LSTM, last": (LstmClassifier, {"pool": "last"}),
    "LSTM, both ends": (LstmClassifier, {"pool": "last", "bidirectional": True}),
    "2 LSTMs, last": (LstmClassifier, {"pool": "last", "layers": 2}),
}
models, accuracies = {}, {}
for name, (model_class, options) in networks.items():
    start = time.perf_counter()
    models[name] = model_class(V, 32, 32, C, rng=np.random.default_rng(0), **options)
    fit(models[name])
    accuracies[name] = accuracy(models[name])
    print(f"{name:16} {accuracies[name]:.1%}   {time.perf_counter() - start:4.1f} s")

# %% [markdown]
# このうち、どこまでが偶然でしょうか。テキストが $n$ 件、正解率が $p$ のとき、別のテキストを選べば数字は $\sqrt{p (1 - p) / n}$ ほど動きます。シードを変えれば、さらに動きます。

# %%
n = len(valid_texts)
errors = {name: np.sqrt(p * (1 - p) / n) for name, p in accuracies.items()}
bars = [2 * error for error in errors.values()]
plt.barh(list(accuracies), list(accuracies.values()), xerr=bars, alpha=0.7)
plt.axvline(majority, color="black", ls=":", label="most frequent class")
plt.xlim(0.4, 0.8)
plt.gca().invert_yaxis()
plt.xlabel("accuracy (bars: two standard errors)")
plt.legend(fontsize=8, loc="lower right")
plt.show()

assert min(accuracies.values()) > majority + 0.1  # all of them have learnt something
assert max(errors.values()) > 0.013  # a difference of a point or two says nothing
assert accuracies["RNN, mean"] > accuracies["RNN, last"] + 0.02

# %% [markdown]
# どれも点線をはるかに上回っています。互いの差は、ほとんどが誤差の棒の範囲内で、シードを変えれば順番も入れ替わりかねません。言えるのは次のことです。はじめに読んだことを忘れてしまう単純なRNN（ノートブック2）では、最後の状態より平均のほうがよく、ここでは、よいネットワークの中で最も安上がりです。両端から読むことと、2層にすることには、LSTMひとつの2倍の時間がかかります。
#
# この課題は、かなりの部分が単語だけで決まります。"gentlemen" や "terrorism" は、どこにあっても時代を明かしてしまいます。語順がものを言う課題では、平均はこれほどうまくいかないかもしれません。
#
# ## 何と何を取り違えるか
#
# 行が本当の時代、列がモデルの答えです（混同行列）。

# %%
model = models["RNN, mean"]
said = model.probabilities(valid_texts).argmax(axis=1)
confusion = np.zeros((C, C), dtype=int)
np.add.at(confusion, (valid_labels, said), 1)

plt.figure(figsize=(5, 3.6))
plt.imshow(confusion / confusion.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
for i, j in np.ndindex(C, C):
    share = confusion[i, j] / confusion[i].sum()
    plt.text(j, i, confusion[i, j], ha="center", va="center", color="white" if share > 0.5 else "black")
plt.xticks(range(C), data.classes, fontsize=8)
plt.yticks(range(C), data.classes, fontsize=8)
plt.xlabel("era that the model says")
plt.ylabel("true era")
plt.colorbar(label="share of the row")
plt.show()

# %%
distance = np.abs(np.subtract.outer(np.arange(C), np.arange(C)))
print("paragraphs that are 0, 1, 2, 3 eras off:", [int(confusion[distance == d].sum()) for d in range(C)])
assert np.isclose(confusion.trace() / confusion.sum(), (said == valid_labels).mean())
assert confusion[distance == 1].sum() > confusion[distance >= 2].sum()  # neighbours are confused most

# %% [markdown]
# 間違い方には筋が通っています。時代を、すぐ隣の時代と取り違えるのです。筋の通らない混同行列は、しばしば、ラベルが入れ違っている最初の兆候です。
#
# 自分で考えた文についても聞いてみましょう。


# %%
def ask(text):
    [p] = model.probabilities([np.array(tokenizer.encode(text), dtype=np.int32)])
    print(f"{text}\n   " + ", ".join(f"{era} {p_:.0%}" for era, p_ in zip(data.classes, p)))
    return p


old = ask("the treaty with the indian tribes on our frontier has been laid before the senate")
new = ask("tonight i ask congress to cut taxes and to create new jobs for american families")
assert old[:2].sum() > 0.5
assert new.argmax() == 3

# %% [markdown]
# ## まとめ
#
# - テキストは、最後の状態か、状態の平均によって1本のベクトルになります。平均なら、どのステップの勾配も短い道を通ります。
# - パディングがあるとき、「最後」も「平均」も長さを知らなければなりません。パックした系列は知っています。
# - 正解率は、最も多いクラスの割合と並べ、誤差をつけて初めて意味を持ちます。
# - 混同行列を見ると、間違い方に筋が通っているかどうかがわかります。
#
# `python ch05_rnn/train_classifier.py` と `python ch06_gated/train_classifier.py` は、すべての段落で、またはニュースの話題の分類で学習します。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。
#
# **1.** 4つのクラスに100件ずつ、計400件のテキストがあります。すべてに同じクラスを答えるモデルの正解率はいくつですか。

# %%
answer_1 = None  # a number between 0 and 1

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    truth = np.repeat(np.arange(4), 100)
    assert np.isclose(answer_1, (truth == 2).mean()), "it is right for one class of four"
    print("Exercise 1: right")

# %% [markdown]
# **2.** パディングされた状態 $(N, T, H)$ と長さから、本物のステップだけの平均を返す関数を書いてください。

# %%
answer_2 = None  # a function: def answer_2(hs, lengths): ..., which returns (N, H)

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    states = layer.forward(padded)
    assert np.allclose(answer_2(states, [2, 5, 3]), [h.mean(axis=0) for h in each]), "each row has its own length"
    print("Exercise 2: right")

# %% [markdown]
# **3.** 混同行列から、本当のクラスごとの正解率（再現率）を返す関数を書いてください。

# %%
answer_3 = None  # a function: def answer_3(confusion): ..., which returns (C,)

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    expected = [(said[valid_labels == c] == c).mean() for c in range(C)]
    assert np.allclose(answer_3(confusion), expected), "the diagonal, each number divided by the sum of its row"
    print("Exercise 3: right")
