# Answers to the exercises, a piece for each notebook. Each runs in its notebook, with the names that are defined there.

# %% 01_one_step
answer_1 = 100 * 50 + 50 * 50 + 50


def answer_2(dh, h):
    return dh * (h > 0)


def answer_3(dh, x, h_prev, Wx, Wh, b):
    return dh + step_backward(dh, x, h_prev, step(x, h_prev, Wx, Wh, b), Wx, Wh)[1]


# %% 02_through_time
answer_1 = 44


def answer_2(h_prev, h, dh):
    return h_prev.T @ (dh * (1 - h**2))


answer_3 = 20 * 35 * 33_278 * 4

# %% 03_layers_of_a_language_model
answer_1 = 4


def answer_2(x, dy, V):
    return np.eye(V)[x].T @ dy


def answer_3(x, t, tau):
    return (softmax(x / tau) - np.eye(x.shape[1])[t]) / (len(x) * tau)


# %% 04_a_language_model
answer_1 = 929_588 // (20 * 35)


def answer_2(n, N):
    return [i * (n // N) for i in range(N)]


def answer_3(losses):
    return np.exp(np.mean(losses))


# %% 05_gates
answer_1 = 2.20
answer_2 = 7


def answer_3(x, h_prev, c_prev, Wx, Wh, b):
    a_f, a_g, a_o = split(x @ Wx + h_prev @ Wh + b, 3)
    f = sigmoid(a_f)
    c = f * c_prev + (1 - f) * np.tanh(a_g)
    return sigmoid(a_o) * np.tanh(c), c


# %% 06_an_lstm_that_writes
answer_1 = 6


def answer_2(scores, k):
    p = np.zeros(len(scores))
    likeliest = np.argsort(-scores)[:k]
    p[likeliest] = distribution(scores[likeliest], 1.0)
    return p


def answer_3(losses, words):
    return np.exp(np.average(losses, weights=words))


# %% 10_speed
answer_1 = 20 * 35 * 100 * 10_000


def answer_2(xs, W):
    N, T, D = xs.shape
    return (xs.reshape(N * T, D) @ W).reshape(N, T, -1)


answer_3 = 1.67

# %% 07_sentences
answer_1 = (0 + 2 + 3) / 15


def answer_2(lengths):
    return [sum(length > t for length in lengths) for t in range(max(lengths))]


def answer_3(losses, lengths):
    real = np.arange(losses.shape[1]) < np.array(lengths)[:, None]
    return losses[real].mean()


# %% 08_classification
answer_1 = 0.25


def answer_2(hs, lengths):
    return np.array([h[:n].mean(axis=0) for h, n in zip(hs, lengths)])


def answer_3(confusion):
    return np.diag(confusion) / confusion.sum(axis=1)


# %% 09_numbers
answer_1 = 4 * (1 * 5 + 5 * 5 + 5) + 5 * 1 + 1
answer_2 = np.log(3) / 20


def answer_3(y, t):
    return np.sign(y - t) / y.size
