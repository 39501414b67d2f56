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
# # 7. 文：サブワード、パディング、パッキング
#
# **やること**：日本語をサブワードに区切り、長さのまちまちな文をひとつのバッチにまとめます。まずパディングで、次にパディングなしで。そして学習させます。
#
# **学ぶこと**：空白のない言語でトークナイザは何をするのか。ラベルを使うとなぜパディングが無害になるのか。パッキングは、同じ数を出しながら、どうやってパディングの無駄な仕事を省くのか。
#
# **必要なもの**：ノートブック[3](03_layers_of_a_language_model.ipynb)と[4](04_a_language_model.ipynb)。15分ほどで読めます。

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb

from ch06_gated.lstm_lm import LstmLm
from common.generation import generate
from common.optimizer import Adam, clip_grads
from common.packing import pack, unpack
from dataset import bungo
from dataset.tokenizer import CharTokenizer, SentencePieceTokenizer

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})

# %% [markdown]
# ## 空白のない言語
#
# テキストは、明治・大正時代の文語訳聖書です。`pip` で一緒に入りました。1節をひとつの文書とします。

# %%
documents = bungo.load().train[:5000]
print(documents[0], documents[1], sep="\n")

# %% [markdown]
# 単語はどこで終わるのでしょうか。文字の並びだけではわかりません。1文字ずつに分けることもできますが、このテキストには2,000種類以上の文字があり、文は長くなります。その中間が**サブワード**です。SentencePieceは、たくさんの文字列の候補から始めて、テキスト全体を最も高い確率で書き表せるものを残します。よく出てくる文字列はひとつのトークンになり、まれな文字列は1文字ずつのままです。

# %%
subwords = SentencePieceTokenizer.train(documents, vocab_size=4000)
characters = CharTokenizer.train(documents, vocab_size=4000)

ids = subwords.encode(documents[0])
print([subwords.decode([i]) for i in ids])
print(ids)
assert subwords.decode(ids) == documents[0]


# %%
def tokens_a_verse(tokenizer):
    return np.mean([len(tokenizer.encode(document)) for document in documents])


print(f"characters: {characters.vocab_size:,} tokens, {tokens_a_verse(characters):.1f} a verse")
print(f"subwords:   {subwords.vocab_size:,} tokens, {tokens_a_verse(subwords):.1f} a verse")
assert tokens_a_verse(subwords) < 0.6 * tokens_a_verse(characters)

# %% [markdown]
# ネットワークの読むステップ数は半分になり、勾配はテキストの中を2倍遠くまで届きます。特別なトークンが4つあり、どのトークナイザでも番号は同じです。語彙にない文字を表す `<unk>`、文書の始まりと終わりの `<s>` と `</s>`、埋め草の `<pad>` です。

# %%
print(subwords.encode("神は笑う😀"), subwords.decode(subwords.encode("神は笑う😀")))
assert subwords.unk_id in subwords.encode("😀")
assert (subwords.unk_id, subwords.bos_id, subwords.eos_id, subwords.pad_id) == (0, 1, 2, 3)

# %% [markdown]
# ## 長さのまちまちな文
#
# 文は `<s>` から読み、最後に予測するのは `</s>` です。こうしてモデルは、文がどこで終わるかも学びます。入力は最後を除いたすべてのid、ラベルは最初を除いたすべてのidです。

# %%
bos, eos = subwords.bos_id, subwords.eos_id
sentences = [np.array([bos, *subwords.encode(document), eos], dtype=np.int32) for document in documents]
lengths = np.array([len(sentence) - 1 for sentence in sentences])

plt.hist(lengths, bins=range(0, 70, 3))
plt.xlabel("tokens to predict")
plt.ylabel("verses")
plt.show()

# %% [markdown]
# ところが、バッチは長方形です。短い文は、いちばん長い文に合わせて埋めなければなりません。


# %%
def pad(sequences, value):
    padded = np.full((len(sequences), max(len(s) for s in sequences)), value, dtype=np.int32)
    for row, s in zip(padded, sequences):
        row[: len(s)] = s
    return padded


rng = np.random.default_rng(0)
batch = [sentences[n] for n in rng.choice(len(sentences), 64, replace=False)]
inputs, labels = [s[:-1] for s in batch], [s[1:] for s in batch]
xs, ts = pad(inputs, subwords.pad_id), pad(labels, -1)
real = (ts != -1).mean()
print(f"a batch of {xs.shape}: {real:.0%} real, {1 - real:.0%} padding")
assert 0.3 < real < 0.7

# %% [markdown]
# ## 数えないパディング
#
# パディングからモデルは何を学ぶでしょうか。`<pad>` の次は `<pad>`、これは簡単で、損失は見かけの上でよくなってしまいます。そこでパディングのラベルは $-1$ にして、損失からはずします（ノートブック3）。損失は本物の単語だけの平均になります。パディングは文の**後ろ**にあるので、それより前の状態を乱すこともありません。

# %%
V = subwords.vocab_size
model = LstmLm(V, 96, 96, rng=np.random.default_rng(0))
loss = model.forward(xs, ts)

total = 0.0
for x, t in zip(inputs, labels):  # each sentence alone
    model.reset_state()
    total += model.forward(x[None], t[None]) * len(t)
print(f"batch with padding {loss:.5f}, sentences one by one {total / sum(map(len, labels)):.5f}")
assert np.isclose(loss, total / sum(map(len, labels)), rtol=1e-5)

# %% [markdown]
# パディングは無害です。しかし、ただではありません。このバッチでは、仕事の半分が捨てられています。
#
# ## パッキング
#
# 文を長い順に並べ、**ステップごと**に進みます。ステップ0ではすべての文に単語があり、その後はだんだん減っていきます。その行を次々に後ろへ並べれば、余りはありません。

# %%
colour = {"a": "lightsalmon", "b": "lightblue", "c": "lightgreen", ".": "lightgray", " ": "white"}


def grid(ax, rows, title):
    cells = [row + [" "] * (max(map(len, rows)) - len(row)) for row in rows]
    ax.imshow([[to_rgb(colour[cell[0]]) for cell in row] for row in cells])
    for i, row in enumerate(cells):
        for k, cell in enumerate(row):
            ax.text(k, i, cell, ha="center", va="center")
    ax.set_title(title, fontsize=10)
    ax.axis("off")


# %%
toy = [["a0", "a1", "a2"], ["b0", "b1", "b2", "b3", "b4"], ["c0"]]
figure, axes = plt.subplots(3, 1, figsize=(5, 4), height_ratios=(3, 3, 1))
grid(axes[0], [row + ["."] * (5 - len(row)) for row in toy], "padded: 15 cells")
grid(axes[1], sorted(toy, key=len, reverse=True), "sorted: column t is step t")
grid(axes[2], [["b0", "a0", "c0", "b1", "a1", "b2", "a2", "b3", "b4"]], "packed: 9 cells, step by step")
plt.show()


# %%
def my_pack(sequences):
    ordered = sorted(sequences, key=len, reverse=True)
    steps = [[s[t] for s in ordered if len(s) > t] for t in range(len(ordered[0]))]
    return np.concatenate(steps), [len(step) for step in steps]


packed = pack(inputs)
data, batch_sizes = my_pack(inputs)
assert np.array_equal(packed.data, data)
assert packed.layout.batch_sizes == batch_sizes
assert all(np.array_equal(a, b) for a, b in zip(unpack(packed), inputs))  # and back, in the order they came
print(f"sentences at each step: {batch_sizes[:3]} ... {batch_sizes[-3:]}")

# %% [markdown]
# RNNレイヤのループは、これまでと変わりません。ステップ $t$ では、ステップ $t$ の行と、前の状態の先頭の行を使います。文が終わるにつれて、バッチは縮んでいきます。ほかのレイヤには、ただの行にしか見えません。ですからモデルは、配列と同じようにパックした系列を受け取れます。

# %%
model.reset_state()
packed_loss = model.forward(pack(inputs), pack(labels))
model.backward()
packed_grads = [g.copy() for g in model.grads]

model.reset_state()
padded_loss = model.forward(xs, ts)
model.backward()

print(f"loss packed {packed_loss:.6f}, padded {padded_loss:.6f}")
assert np.isclose(packed_loss, padded_loss, rtol=1e-5)
for p, ours, theirs in zip(model.parameters, packed_grads, model.grads):
    assert np.allclose(ours, theirs, atol=1e-6), p.name

# %% [markdown]
# 損失も勾配も同じです。では、時間はどうでしょうか。


# %%
def seconds(xs, ts, rounds=5):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        model.reset_state()
        model.forward(xs, ts)
        model.backward()
        times.append(time.perf_counter() - start)
    return min(times)


words = sum(map(len, labels))
ms = {"padded": 1e3 * seconds(xs, ts), "packed": 1e3 * seconds(pack(inputs), pack(labels))}
print(", ".join(f"{way} {t:.0f} ms, {1e3 * words / t:,.0f} real words per second" for way, t in ms.items()))
assert packed.data.size == words < 0.7 * xs.size  # the work that is saved

# %% [markdown]
# 無駄を減らす別の方法は、ほぼ同じ長さの文をひとつのバッチに集めることです（バケッティング）。ただし、それぞれのバッチの中の多様さは減ります。パッキングなら、そういう選択をせずに済みます。
#
# ## 聖書の節で学習する

# %%
optimizer, rng, losses = Adam(lr=0.005), np.random.default_rng(0), []
model = LstmLm(V, 96, 96, rng=rng)
for _ in range(200):
    chosen = [sentences[n] for n in rng.choice(len(sentences), 32, replace=False)]
    model.reset_state()  # each verse starts from nothing
    losses.append(float(model.forward(pack([s[:-1] for s in chosen]), pack([s[1:] for s in chosen]))))
    model.backward()
    clip_grads(model.grads, 1.0)
    optimizer.update(model.params, model.grads)

plt.semilogy(np.exp(losses), lw=1)
plt.xlabel("step")
plt.ylabel("perplexity (log scale)")
plt.yticks([400, 1000, 4000], ["400", "1,000", "4,000"])
plt.minorticks_off()
plt.show()
assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 1

# %% [markdown]
# パープレキシティは4,000から数百まで下がりました。まだ詩にはなりませんが、どのトークンがよく出て、何の後に何が続きやすいかは学んでいます。`<s>` から `</s>` まで書かせてみます。

# %%
skip = (subwords.unk_id, bos, subwords.pad_id)
for seed in range(3):
    ids = generate(model, [bos], 40, np.random.default_rng(seed), temperature=0.6, skip_ids=skip, stop_id=eos)
    print(subwords.decode(ids))

# %% [markdown]
# `python ch05_rnn/train_sentence_rnnlm.py` は、これを数秒ではなく何時間もかけて行います。
#
# ## まとめ
#
# - サブワードは文字と単語の中間で、空白がいりません。ステップ数は半分になります。
# - パディングは長方形を作ります。ラベル $-1$ がそれを損失からはずし、文の後ろにあることが状態への影響を防ぎます。
# - パックすると、文は長い順に、ステップごとに並び、終わるにつれてバッチが縮みます。損失も勾配も同じで、パディングの仕事はなくなります。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。
#
# **1.** 5語、3語、2語の文を、パディングしてひとつのバッチにします。パディングの割合はいくつですか。

# %%
answer_1 = None  # a number between 0 and 1

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    padded = pad([np.zeros(5), np.zeros(3), np.zeros(2)], -1)
    assert np.isclose(answer_1, (padded == -1).mean()), "the rectangle has 3 rows of 5"
    print("Exercise 1: right")

# %% [markdown]
# **2.** 文の長さのリストから、ステップ $0, 1, 2, \dots$ のある文の数を返す関数を書いてください。

# %%
answer_2 = None  # a function: def answer_2(lengths): ..., which returns a list

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    expected = pack([np.zeros(n) for n in (4, 1, 6, 4)]).layout.batch_sizes
    assert np.array_equal(answer_2([4, 1, 6, 4]), expected), "step t belongs to those longer than t"
    print("Exercise 2: right")

# %% [markdown]
# **3.** パディングされたバッチの全ステップの損失が、$(N, T)$ の配列で与えられています。本物の単語1語あたりの平均損失を返す関数を書いてください。

# %%
answer_3 = None  # a function: def answer_3(losses, lengths): ...

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    values, n_words = np.random.default_rng(0).random((3, 6)), [6, 2, 3]
    expected = np.concatenate([row[:n] for row, n in zip(values, n_words)]).mean()
    assert np.isclose(answer_3(values, n_words), expected), "np.arange(T) < lengths[:, None] says which steps are real"
    print("Exercise 3: right")
