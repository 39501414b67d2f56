"""``python -m common.doctor``: what this machine has for a training. See ``common/runs/doctor.py``."""

from common.runs.cli import run
from common.runs.doctor import main

if __name__ == "__main__":
    run(main)
