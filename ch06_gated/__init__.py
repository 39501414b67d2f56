"""GRU and LSTM: language models, classifiers, numbers, text generation, a look at gates and gradients."""

import ch05_rnn  # noqa: F401 - it makes sure of the packages that all chapters use
