"""The simple RNN: language models, a classifier, the barest form."""

import sys
from importlib.util import find_spec
from pathlib import Path

# The textbook has packages of these names, too, and so has PyPI. Found in place of ours, they fail in odd ways.
_ROOT = Path(__file__).resolve().parents[1]
for _name in ("common", "dataset"):
    _spec = find_spec(_name)
    _found = Path(_spec.origin).resolve() if _spec and _spec.origin else None
    if _found != _ROOT / _name / "__init__.py":
        _script = Path(sys.argv[0]).resolve()
        _message = (
            f"expected the package {_name} of {_ROOT}, but Python finds {_found or 'none'}: "
            f"set PYTHONPATH={_ROOT}, or run in an environment and a folder without the other"
        )
        if _script.parent.name not in ("ch05_rnn", "ch06_gated"):
            raise ImportError(_message)
        print(f"{_script.name}: error: {_message}", file=sys.stderr)
        sys.exit(2)
