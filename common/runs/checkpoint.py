"""Checkpoints: where a training stands, in one file, so that it can go on as if it had never stopped.

    checkpoint = Checkpoint(folder, rng)
    if checkpoint.path.exists():
        checkpoint.restore(trainer, batches)
    trainer.fit_batches(batches, max_epoch - trainer.epoch, best_path=checkpoint.best_path, checkpoint=checkpoint)

After that, the weights are the same, byte for byte, as those of a training that nothing has stopped.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np

from common.backend import Array, to_cpu
from common.model import LanguageModel
from common.npz import NpzReader, write_npz
from common.trainer import Batches, Trainer

_FORMAT = 2  # 1: the gates of an LSTM in another order, and what the optimizer remembers in one array


class Checkpoint:
    """The file ``checkpoint.npz`` in the folder of a run. It is always whole: it is replaced in one move.

        model/NAME          weights
        best/NAME           the weights with the lowest valid perplexity, if it has been measured
        optimizer/NAME/k    what the optimizer remembers: for Adam, m and v
        state/k/j           the state that recurrent layer k carries to the next window
        training            JSON: numbers of the optimizer and the trainer, its history, the position in the text,
                            the random generator, and the options of the run

    ``rng``, made by ``default_rng``, is the source of all random numbers of the training, such as dropout masks;
    ``options`` is whatever else must be known to go on, as far as JSON can hold it; ``seconds`` is the time from one
    checkpoint to the next inside an epoch, 0 for one after each step. The trainer must save its best weights to
    ``best_path``.
    """

    def __init__(
        self,
        folder: str | Path,
        rng: np.random.Generator,
        options: dict[str, object] | None = None,
        seconds: float = 300.0,
    ) -> None:
        self.path = Path(folder) / "checkpoint.npz"
        self.best_path = Path(folder) / "best_weights.npz"
        self.rng = rng
        self.options = options or {}
        self.seconds = seconds
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether ``seconds`` have passed since the last checkpoint."""
        return time.monotonic() - self._saved >= self.seconds

    def save(self, trainer: Trainer, batches: Batches) -> None:
        """Write a checkpoint, between two steps.

        If a number in it is not finite, the training has gone wrong, and the last checkpoint stays; as it does if this
        one cannot be written, which raises OSError.
        """
        model, optimizer = trainer.model, trainer.optimizer
        arrays = {f"model/{p.name}": p.data for p in model.parameters}
        for name in optimizer.memories if optimizer.t else ():
            arrays |= {f"optimizer/{name}/{k}": x for k, x in enumerate(getattr(optimizer, name))}
        for k, (layer, state) in enumerate(zip(model.recurrent_layers, model.state)):
            whole = [trainer.parallel.gather(x, layer.Wh.data) for x in state]
            arrays |= {f"state/{k}/{j}": x for j, x in enumerate(whole) if x is not None}
        self._saved = time.monotonic()
        if not trainer.parallel.is_main:
            return
        arrays = {name: to_cpu(x) for name, x in arrays.items()}
        if not all(np.isfinite(x).all() for x in arrays.values()):
            return
        if trainer.best < math.inf:
            with NpzReader(self.best_path, "a weight file") as file:
                arrays |= {f"best/{name}": file.read(name) for name in file.headers}
        training = {"format": _FORMAT, **_numbers(trainer, batches, self.rng)}
        training |= {"history": trainer.history, "options": self.options}
        write_npz(self.path, {**arrays, "training": np.frombuffer(json.dumps(training).encode(), np.uint8)})

    def restore(self, trainer: Trainer, batches: Batches) -> None:
        """Bring model, optimizer, trainer, batches, random generator and best weights to where they were.

        They must have been made as they were for the training that was stopped. All is checked before the first is
        changed. No more memory is needed than a small multiple of the size of the file; see ``NpzReader``. Raises
        OSError if the checkpoint cannot be read, ValueError if it is damaged, or not one of such a training.
        """
        if trainer.parallel.is_main:
            for unfinished in self.path.parent.glob("*.tmp"):  # of a process that was killed while it wrote
                unfinished.unlink()
        model, optimizer = trainer.model, trainer.optimizer
        weights = {p.name: p.data for p in model.parameters}
        with NpzReader(self.path, "a checkpoint") as file:
            training = _read_training(file, self.path)
            if training.get("format") != _FORMAT:
                raise ValueError(f"{self.path} is damaged, or of another version, with which it must be finished")
            try:
                for name, expected in _numbers(trainer, batches, self.rng).items():
                    _check(training[name], expected, name)
                for record in training["history"]:
                    _check_record(record, trainer.metric.fields)
                # All that is assigned without an error to a generator like this one can be assigned to it below.
                type(self.rng.bit_generator)(0).state = training["rng"]
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{self.path} is damaged, or of another training: {error}") from error
            measured = training["trainer"]["best"] < math.inf
            best = self._read(file, "best", weights) if measured else None
            like = {str(k): x for k, x in enumerate(model.params)}
            began = training["optimizer"]["t"] > 0
            memories = {m: self._read(file, f"optimizer/{m}", like) for m in optimizer.memories if began}
            weights = self._read(file, "model", weights)
            state = self._read_state(file, model, trainer.parallel.shard)

        for p in model.parameters:
            p.data[...] = p.like(weights[p.name])
        model.set_state(state)
        vars(optimizer).update(training["optimizer"])
        optimizer.begin(model.params)
        for name, arrays in memories.items():
            for x, array in zip(getattr(optimizer, name), model.asarrays(*arrays.values())):
                x[...] = array
        trainer.load_state_dict(training["trainer"])
        trainer.history[:] = training["history"]
        vars(batches).update(training["batches"])
        self.rng.bit_generator.state = training["rng"]
        if best is not None and trainer.parallel.is_main:
            write_npz(self.best_path, best | model.marks)

    def _read(self, file: NpzReader, group: str, like: dict[str, Array]) -> dict[str, np.ndarray]:
        """Read the arrays of a group, which must have the shapes and dtypes of those of ``like``."""
        arrays = {}
        for name, x in like.items():
            key = f"{group}/{name}"
            shape, dtype = file.headers.get(key, (None, None))
            if (shape, dtype) != (x.shape, x.dtype):
                raise ValueError(f"{self.path}: {key} must be {x.dtype} {x.shape}, got {dtype} {shape}")
            arrays[name] = self._read_finite(file, key)
        return arrays

    def _read_finite(self, file: NpzReader, key: str) -> np.ndarray:
        array = file.read(key)
        if not np.isfinite(array).all():
            raise ValueError(f"{self.path}: {key} holds values that are not finite numbers")
        return array

    def _read_state(self, file: NpzReader, model: LanguageModel, shard: slice) -> list[tuple[Array | None, ...]]:
        """Read the rows of this process of each layer's carried state: arrays (N, H), or None if there is none yet."""
        states = []
        for k, (layer, state) in enumerate(zip(model.recurrent_layers, model.state)):
            keys = [key for j in range(len(state)) if (key := f"state/{k}/{j}") in file.headers]
            H, dtype = len(layer.Wh.data), layer.Wh.data.dtype
            N = file.headers[keys[0]].shape[:1] if keys else ()
            if 0 < len(keys) < len(state) or any(file.headers[key] != ((*N, H), dtype) for key in keys):
                raise ValueError(f"{self.path}: state/{k} must be {len(state)} arrays of {dtype} (N, {H})")
            rows = [self._read_finite(file, key)[shard] for key in keys]
            states.append(model.asarrays(*rows) if rows and len(rows[0]) else tuple(None for _ in state))
        return states


def read_options(folder: str | Path) -> dict[str, object]:
    """The options in the checkpoint of a run. Raises OSError or ValueError if there is none, or it is damaged."""
    path = Path(folder) / "checkpoint.npz"
    with NpzReader(path, "a checkpoint") as file:
        options = _read_training(file, path).get("options")
    if not isinstance(options, dict):
        raise ValueError(f"{path} is damaged: it has no options")
    return options


def _read_training(file: NpzReader, path: Path) -> dict[str, object]:
    header = file.headers.get("training")
    if header is None or header.dtype != np.uint8:
        raise ValueError(f"{path} is not a checkpoint: it has no text named training")
    try:
        training = json.loads(file.read("training").tobytes())
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(training, dict):
        raise ValueError(f"{path} is damaged: training is not an object")
    return training


def _numbers(trainer: Trainer, batches: Batches, rng: np.random.Generator) -> dict[str, object]:
    """All that changes in the course of a training, but arrays and the history."""
    return {
        "optimizer": {name: x for name, x in vars(trainer.optimizer).items() if isinstance(x, (int, float))},
        "trainer": trainer.state_dict(),
        "batches": {name: getattr(batches, name) for name in batches.state_keys},
        "rng": rng.bit_generator.state,
    }


def _check(found: object, expected: object, name: str) -> None:
    """Raise ValueError unless both have the same keys, and values of the same kind in the same places."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or set(found) != set(expected):
            raise ValueError(f"{name} must have {', '.join(expected)}, got {str(found)[:100]}")
        for key in expected:
            _check(found[key], expected[key], f"{name} {key}")
    elif isinstance(expected, list):  # numbers in some order
        if not isinstance(found, list) or {int} != {type(x) for x in found} or sorted(found) != sorted(expected):
            raise ValueError(f"{name} must be an order of {len(expected)}, got {str(found)[:100]}")
    elif isinstance(expected, str):
        if found != expected:
            raise ValueError(f"{name} must be {expected}, got {str(found)[:100]}")
    elif type(found) is not type(expected) and (type(found), type(expected)) != (int, float):
        raise ValueError(f"{name} must be a number like {expected}, got {str(found)[:100]}")
    elif found != found or found < 0 or (type(found) is int and found > 2**53 and not name.startswith("rng")):
        raise ValueError(f"{name} must not be {found}")


def _check_record(record: object, fields: tuple[str, ...]) -> None:
    if not isinstance(record, dict) or tuple(record) != fields:
        raise ValueError(f"a record of the history must have {', '.join(fields)}, got {str(record)[:100]}")
    if not all(x is None or type(x) in (int, float) for x in record.values()):
        raise ValueError(f"a record of the history must hold numbers, got {record}")
