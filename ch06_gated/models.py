"""The language models that the scripts of this chapter read from the folders of runs."""

from __future__ import annotations

from pathlib import Path

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.better_lstm_lm import BetterLstmLm
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_lm import LstmLm
from common.runs import folder
from common.runs.folder import Run, SentenceRun

MODELS = {model.__name__: model for model in (SimpleRnnlm, LstmLm, GruLm, BetterLstmLm)}


def load_run(path: str | Path) -> Run | SentenceRun:
    """Load the language model of a run; see ``common/runs/folder.py``."""
    return folder.load_run(path, MODELS)
