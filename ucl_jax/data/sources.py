"""Downloads the files that data sets are made from, or finds them in a folder, and checks them.

TFDS has a download manager, too. Without a network it takes three minutes to say so. It waits without end for a server
that falls silent, ignores Ctrl-C while it downloads, and leaves what it could not finish on the disk.
"""

import pathlib
from collections.abc import Mapping
from typing import TypeAlias

import requests
import tensorflow_datasets as tfds
import tqdm

# URL -> size, SHA-256 and name of the file there, as TFDS declares them in the `url_infos` of a builder.
Sources: TypeAlias = Mapping[str, tfds.download.checksums.UrlInfo]

INSTRUCTIONS = "The files that would be downloaded, under their own names."  # what a builder finds in manual_dir
TIMEOUT = 30  # seconds until a server that says nothing is given up
BLOCK = 2**20  # bytes


def download(sources: Sources, folder: pathlib.Path) -> None:
    """Downloads files into a folder, except those that are there already, and checks them.

    A file gets its name once it is whole and checked. The proxies of the environment are used.

    Raises:
        OSError: a server cannot be reached, breaks off or has no such file, or the disk is full.
        ValueError: a server sends something else than the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for url, info in sources.items():
        path = folder / str(info.filename)
        if path.exists() and _difference(path, info) is None:
            continue
        part = path.with_name(f"{path.name}.part")
        try:
            with (
                requests.get(url, stream=True, timeout=TIMEOUT) as response,
                part.open("wb") as file,
                tqdm.tqdm(total=info.size, desc=path.name, unit="B", unit_scale=True, disable=None) as bar,
            ):
                response.raise_for_status()
                for block in response.iter_content(BLOCK):
                    bar.update(file.write(block))
            if difference := _difference(part, info):
                raise ValueError(f"{url} sends {difference}")
            part.replace(path)
        except (requests.ConnectionError, requests.Timeout) as error:  # its message is a dump of objects
            raise OSError(f"{url} cannot be reached, or breaks off") from error
        finally:
            part.unlink(missing_ok=True)


def find(manual_dir: pathlib.Path, sources: Sources) -> dict[str, pathlib.Path]:
    """Returns the path of each file in `manual_dir`, by its name.

    Raises:
        ValueError: a file is missing, or is not the declared one.
    """
    paths = {}
    for url, info in sources.items():
        path = manual_dir / str(info.filename)
        if not path.exists():
            raise ValueError(f"{path} is missing; it comes from {url}")
        if difference := _difference(path, info):
            raise ValueError(f"{path} is not that of {url}: it has {difference}")
        paths[path.name] = path
    return paths


def _difference(path: pathlib.Path, info: tfds.download.checksums.UrlInfo) -> str | None:
    """Says how a file differs from the declared one, in words that follow "it has"; returns None if it does not."""
    found = tfds.download.checksums.compute_url_info(path)
    if found == info:
        return None
    return f"{int(found.size)} bytes of SHA-256 {found.checksum}, officially {int(info.size)} of {info.checksum}"
