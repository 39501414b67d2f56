"""Show what a language model has learned of words: the nearest ones, and a map of their vectors.

    python ch06_gated/word_map.py runs/lstm-sotu                       # a map of the most frequent words
    python ch06_gated/word_map.py runs/lstm-sotu war peace million     # these, and their neighbours

Words that stand in like places of a text get like vectors. The map shows the two directions in which the vectors differ
most (principal components), so words that are near in it may be far apart in others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ch06_gated.models import load_run
from common.runs.cli import OneLineParser, positive_int, run, use_utf8, utf8_text
from common.runs.plotting import new_figure, save_figure
from common.util import most_similar


def nearest(vectors: np.ndarray, word: int, count: int) -> list[int]:
    """The words whose vectors, rows of (V, D), have the largest cosine with that of a word, without itself."""
    unit = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-8)
    likeness = unit @ unit[word]
    likeness[word] = -np.inf
    return np.argsort(-likeness, kind="stable")[:count].tolist()


def project(vectors: np.ndarray) -> np.ndarray:
    """Coordinates along the two principal components, (n, 2), of n vectors, (n, D)."""
    centred = vectors - vectors.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    return centred @ components[:2].T


def main(argv: list[str] | None = None) -> dict[str, list[str]]:
    """Print the nearest words, write the map, and return the former."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("folder", help="of a training: runs/NAME")
    parser.add_argument("words", nargs="*", type=utf8_text, help="words to look at [the most frequent ones]")
    parser.add_argument("--top", type=positive_int, default=5, help="neighbours of each word")
    parser.add_argument("--output", help="file to write the picture to [FOLDER/word_map.png]")
    args = parser.parse_args(argv)

    found: dict[str, list[str]] = {}
    with parser.reporting_errors():
        trained = load_run(args.folder)
        vectors = trained.model.layers[0].W.data
        V = len(vectors)
        id_to_word = {i: trained.word(i) for i in range(V)}
        word_to_id = {word: i for i, word in id_to_word.items()}
        shown = [i for i in range(min(V, 80)) if trained.word(i).strip("<>") == trained.word(i)]  # but markers
        if args.words:
            if missing := [word for word in args.words if word not in word_to_id]:
                raise ValueError(f"not in the vocabulary: {' '.join(missing)}")
            near = {word: nearest(vectors, word_to_id[word], args.top) for word in args.words}
            found = {word: [id_to_word[i] for i in ids] for word, ids in near.items()}
            for word in args.words:
                most_similar(word, word_to_id, id_to_word, vectors, args.top)
            shown = list(dict.fromkeys([*map(word_to_id.get, args.words), *(i for ids in near.values() for i in ids)]))
        if len(shown) < 3:
            raise ValueError(f"a map needs at least three words, got {len(shown)}")
        points = project(vectors[shown].astype(np.float64))
        figure = new_figure(9, 7)
        axes = figure.add_subplot()
        axes.scatter(*points.T, s=6, color="tab:gray")
        for i, (x, y) in zip(shown, points):
            bold = "bold" if id_to_word[i] in args.words else "normal"
            axes.annotate(id_to_word[i], (x, y), xytext=(3, 2), textcoords="offset points", fontsize=9, weight=bold)
        axes.set(xlabel="first principal component", ylabel="second principal component")
        axes.set_title(f"{len(shown)} word vectors of {Path(args.folder).name}, of {vectors.shape[1]} numbers each")
        path = Path(args.output or Path(args.folder) / "word_map.png")
        save_figure(figure, path)
    print(f"picture in {path}")
    return found


if __name__ == "__main__":
    run(main)
