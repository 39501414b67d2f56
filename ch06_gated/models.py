"""The language models that the scripts of this chapter read from the folders of runs."""

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.better_lstm_lm import BetterLstmLm
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_lm import LstmLm

MODELS = {model.__name__: model for model in (SimpleRnnlm, LstmLm, GruLm, BetterLstmLm)}
