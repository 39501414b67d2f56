"""A stand-in for ``cupy.ElementwiseKernel``: a C++ compiler makes a loop of its operation, which runs on the CPU."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from oracles import strict_cupy

COMPILER = shutil.which("c++") or shutil.which("g++")

SOURCE = """
#include <cmath>
#define __device__
using std::exp; using std::tanh;
typedef int int32;
%(preamble)s
template <typename T> void loop(long size, %(arguments)s) {
    for (long i = 0; i < size; i++) {
        %(elements)s
        %(operation)s;
    }
}
extern "C" void loop_float32(long size, %(float)s) { loop<float>(size, %(names)s); }
extern "C" void loop_float64(long size, %(double)s) { loop<double>(size, %(names)s); }
"""


class ElementwiseKernel:
    """``in_params`` and ``out_params`` as CuPy has them: ``T x``, ``raw T x`` or ``int32 n``, with commas between."""

    def __init__(self, in_params: str, out_params: str, operation: str, name: str, preamble: str = "") -> None:
        parameters = [(p.split(), side) for side in ("const", "") for p in (in_params, out_params)[not side].split(",")]
        arguments, elements, names = [], [], []
        self.raw = []
        for (*kind, name_), const in parameters:
            names.append(name_)
            array = kind[-1] == "T"
            self.raw.append(kind != ["T"])
            element = array and kind == ["T"]
            arguments.append(f"{const} T* {name_}{'_' * element}" if array else f"int {name_}")
            if element:
                elements.append(f"{const} T& {name_} = {name_}_[i];")
        joined = ", ".join(arguments)
        source = SOURCE % {
            "preamble": preamble,
            "arguments": joined,
            "elements": " ".join(elements),
            "operation": operation,
            "float": joined.replace(" T*", " float*"),
            "double": joined.replace(" T*", " double*"),
            "names": ", ".join(a.split()[-1] for a in arguments),
        }
        folder = Path(tempfile.gettempdir(), "rnn-from-scratch-kernels")
        folder.mkdir(exist_ok=True)
        library = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.so"
        command = [COMPILER, "-O1", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
        subprocess.run(command, input=source, text=True, check=True)
        self.library = ctypes.CDLL(str(library))

    def __call__(self, *arguments: strict_cupy.ndarray | int) -> None:
        arrays = [x._hidden for x in arguments if isinstance(x, strict_cupy.ndarray)]
        assert all(x.flags.c_contiguous for x in arrays)
        assert len({x.dtype for x in arrays}) == 1
        sizes = {x.size for x, raw in zip(arguments, self.raw, strict=True) if not raw}
        assert len(sizes) == 1  # of all that are not raw
        function = getattr(self.library, f"loop_{arrays[0].dtype.name}")
        pointers = [
            ctypes.c_void_p(x._hidden.ctypes.data) if isinstance(x, strict_cupy.ndarray) else ctypes.c_int(x)
            for x in arguments
        ]
        function(ctypes.c_long(sizes.pop()), *pointers)
