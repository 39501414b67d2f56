"""Arrays in ``.npz`` files: written atomically, and read without trusting the file.

An ``.npz`` file is a zip archive of arrays, ``NAME.npy`` each: a header in text, which states dtype and shape, and
then the numbers. ``np.load`` believes the header and allocates what it claims. Here sizes are checked first.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

# What np.save writes for numbers and text. Python objects, whose descr is '|O', do not match.
_HEADER = re.compile(
    rb"\{'descr': '([<>|][biufcSU]\d{1,9})', 'fortran_order': (?:False|True), "
    rb"'shape': \((?:(\d{1,18}(?:, \d{1,18}){0,31}),?)?\), \} *\n"
)
_ERRORS = (OSError, ValueError, TypeError, EOFError, RuntimeError, MemoryError, OverflowError, KeyError)
_ERRORS += (struct.error, zipfile.BadZipFile, zlib.error)


class Header(NamedTuple):
    """What the file says of an array that has not been read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype


def write_npz(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays, by name, to an ``.npz`` file; see ``atomic_write``, also for what is raised."""
    with atomic_write(path) as file:
        np.savez(file, **arrays)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a new file that replaces the one at ``path`` once it is complete and on the disk.

    Whatever happens meanwhile, there is a complete file at ``path``: the old one or the new one.

    Raises
    ------
    OSError
        If the file cannot be written. The old file is still there.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # on the disk, before the old file goes
        os.replace(unfinished, path)
    except OSError as error:
        kept = "; the file that was there is unchanged" if path.exists() else ""
        raise OSError(f"cannot write {path}: {error.strerror or error}{kept}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_weights(path: str | Path, like: dict[str, np.ndarray], marks: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Read finite floats of the names and shapes of ``like`` from a file that also has ``marks``, and nothing else.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not such a file, or is damaged.
    """
    arrays = []
    with NpzReader(path, "a weight file") as file:
        for name, x in like.items():
            if name not in file.headers:
                raise ValueError(f"{path} has no {name}; it has {', '.join(sorted(file.headers)) or 'nothing'}")
            shape = file.headers[name].shape
            if shape != x.shape:
                raise ValueError(f"{path}: {name} has shape {shape}, but this model's has {x.shape}")
            array = file.read(name)
            with np.errstate(over="ignore"):  # a number too large for this model's dtype becomes infinite
                finite = array.dtype.kind == "f" and np.isfinite(array.astype(x.dtype)).all()
            if not finite:
                raise ValueError(f"{path}: {name} holds values that are not finite numbers")
            arrays.append(array)
        if marks.keys() - file.headers:
            raise ValueError(
                f"{path} does not say the order of its LSTM's gates, so it is of an earlier version, which had "
                "another order than f, g, i, o: train again"
            )
        if unknown := sorted(file.headers.keys() - like.keys() - marks.keys()):
            raise ValueError(f"{path} has parameters that this model has not: {', '.join(unknown)}")
    return arrays


class NpzReader:
    """An ``.npz`` file that is open for reading: ``with NpzReader(path, "a weight file") as file``.

    It needs no more memory than a small multiple of the size of the file, whatever the file claims: arrays must be
    uncompressed, as ``np.savez`` writes them, each of the length that its header says, and no two may share bytes.

    ``kind`` is what the file should be, for the error. ``headers`` has the shape and dtype of each array, by name.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not an ``.npz`` file of numbers or text, or is damaged.
    """

    def __init__(self, path: str | Path, kind: str) -> None:
        self._problem = ValueError(f"{path} is not {kind}, or is damaged")
        self._file = open(path, "rb")  # noqa: SIM115
        try:
            self._zip = zipfile.ZipFile(self._file)
            members = self._zip.infolist()
            self.headers = {info.filename.removesuffix(".npy"): self._header(info) for info in members}
            size = os.fstat(self._file.fileno()).st_size
            if len(self.headers) < len(members) or sum(info.file_size for info in members) > size:
                raise self._problem
        except _ERRORS as error:
            self._file.close()
            raise self._problem from error

    def __enter__(self) -> NpzReader:
        return self

    def __exit__(self, *args: object) -> None:
        self._file.close()

    def read(self, name: str) -> np.ndarray:
        """Read the array of that name; raise ValueError if there is none, or its checksum is wrong."""
        try:
            with self._zip.open(f"{name}.npy") as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
                if member.read(1):  # and at the end, the checksum is compared
                    raise self._problem
            return array
        except _ERRORS as error:
            raise self._problem from error

    def _header(self, info: zipfile.ZipInfo) -> Header:
        """Read the header of an array, and check that it and the archive's table of contents say the same."""
        if not info.filename.endswith(".npy") or info.compress_type != zipfile.ZIP_STORED:
            raise self._problem
        with self._zip.open(info) as member:
            magic, length = struct.unpack("<8sH", member.read(10))
            found = _HEADER.fullmatch(member.read(length))
        if magic != b"\x93NUMPY\x01\x00" or found is None:
            raise self._problem
        descr, sizes = found.groups()
        dtype = np.dtype(descr.decode())
        shape = tuple(int(size) for size in sizes.split(b", ")) if sizes else ()
        if 10 + length + math.prod(shape) * dtype.itemsize != info.file_size:
            raise self._problem
        return Header(shape, dtype)
