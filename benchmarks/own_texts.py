"""Write small texts such as users bring: English prose, Japanese, a chat log, and source code, 200 KB each; two tables.

    python benchmarks/own_texts.py texts   # texts/english.txt, japanese.txt, chat.txt, source.txt; spam.csv, sales.csv

They are made from packages that pip installed with this project, from Python's own library, and by a seeded generator,
so that everyone gets the same ones (the source code is that of your version of Python). ``RESULTS.md`` has what our
scripts make of them. The tables are 1,000 messages, spam or not, and the sales of 15 years, month by month.
"""

from __future__ import annotations

import argparse
import csv
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
_SPAM = [
    "free {thing}! claim it {day}, reply YES",
    "you have won {thing}, call before {hour}",
    "urgent: your account at {place} ends {day}",
    "{name}, a cheap loan, {day} only",
    "txt WIN to 80082 and meet {name} {day}",
    "cash for {thing}, no questions, {hour}",
]


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
        lines.append(f"[{minute // 60 % 24:02}:{minute % 60:02}] {names[k]}: {fill(phrase, rng, but=names[k])}")
    return "\n".join(lines)


def fill(phrase: str, rng: np.random.Generator, but: str = "") -> str:
    """A phrase with words in place of {}; not with one name."""
    return phrase.format(**{key: str(rng.choice([x for x in words if x != but])) for key, words in _FILL.items()})


def spam(rng: np.random.Generator) -> list[tuple[object, ...]]:
    """Messages of two phrases; in one of six, the second is spam."""
    labels = ["spam" if rng.random() < 1 / 6 else "ham" for _ in range(1000)]
    seconds = {"spam": _SPAM, "ham": _PHRASES}
    texts = [fill(f"{rng.choice(_PHRASES)} {rng.choice(seconds[label])}", rng) for label in labels]
    return [("label", "text"), *zip(labels, texts)]


def sales(rng: np.random.Generator) -> list[tuple[object, ...]]:
    """What a shop sells, with a trend and a season; of three months, nobody wrote it down."""
    t = np.arange(180)
    season = 40 * np.sin(2 * np.pi * t / 12) + 15 * np.sin(4 * np.pi * t / 12 + 1)
    numbers = np.round(200 + 1.5 * t + season + 8 * rng.standard_normal(180)).astype(int).tolist()
    for month in (30, 31, 77):
        numbers[month] = ""
    months = [f"{2010 + k // 12}-{k % 12 + 1:02}" for k in range(180)]
    return [("month", "sales", "staff"), *zip(months, numbers, (20 + t // 30).tolist())]


def source() -> str:
    """Modules of Python's own library."""
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
    for name, rows in {"spam": spam(np.random.default_rng(0)), "sales": sales(np.random.default_rng(0))}.items():
        path = Path(folder) / f"{name}.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        print(f"{path}: {len(rows) - 1:,} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="to write them to")
    main(parser.parse_args().folder)
