"""What CONTRIBUTING.md shows works, and what it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_cell_and_its_gradient_check_run():
    examples = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert len(examples) == 2
    names: dict = {}
    for example in examples:
        exec(example, names)
    assert names["errors"].keys() == {"Wx", "Wh", "b", "xs"}


def test_what_it_names_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", GUIDE)
    files = re.findall(r"(?:python|pytest) ((?:tests|ch0|benchmarks|notebooks)\S+?\.py)(?<!NAME\.py)", GUIDE)
    assert links
    assert files
    for name in links + files:
        assert (ROOT / name).exists(), name
