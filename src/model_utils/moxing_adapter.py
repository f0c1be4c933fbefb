# SPDX-License-Identifier: Apache-2.0
"""ModelArts: data and checkpoints come from object storage, results go back to it.

Any entry script can be put into `modelarts`. Without `enable_modelarts` nothing happens.
"""

import contextlib
import dataclasses
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..base.errors import UserError
from ..base.files import make_folder, write_json
from ..base.messages import counted
from ..base.one_at_a_time import Task, exclusive, report_failure, say
from ..storage.safe_zip import unzip
from ..storage.transfer import UNPACKED, Uploader, download, read_marker
from . import local_adapter
from .config import Config

_COPYING = Task("copy what is for", "copying", "transfer_timeout", "data_path")
CHECKPOINT_KEYS = ("pre_trained", "checkpoint_path", "ckpt_file")
_MOST_DIGITS = 9
_COCO_KINDS, _TXT_KINDS = ("auto", "coco"), ("other", "txt")  # of `dataset`
_TOPO_TIMEOUT = 600  # seconds; what msrun sets by default


class Outputs:
    """What a run hands back: nothing, unless there is somewhere to upload to.

    Args:
        config: as the script is to use it.
        uploader: None where nothing is uploaded.
    """

    def __init__(self, config: Config, uploader: Uploader | None = None) -> None:
        self.config = config
        self._uploader = uploader
        self._rank = local_adapter.get_rank()

    def after_epoch(self, epoch: int) -> None:
        """Upload when it is due; a failure is said and not more, the next time may do better.

        Args:
            epoch: the one that has ended, from 1.
        """
        interval = self.config.upload_interval
        if interval and epoch % interval == 0:
            self.try_upload()

    def try_upload(self, *, everything: bool = False) -> bool:
        """Upload what has changed; say whether that worked.

        Args:
            everything: as in `upload`.
        """
        try:
            self.upload(everything=everything)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr, flush=True)
            return False
        return True

    def upload(self, *, everything: bool = False) -> None:
        """Upload what has changed: rank 0 everything, the others their loss logs.

        Args:
            everything: whatever the rank. For one that leaves because of an error: rank 0 may have
                no time left to do it.

        Raises:
            UserError: it could not be done.
        """
        if self._uploader is None:
            return
        names = [f"loss_{self._rank}.log"] if self._rank and not everything else None
        count = self._uploader.upload(names)
        if count and not self._rank:
            say(f"uploaded {counted(count, 'file')} to {self._uploader.url}")


@contextlib.contextmanager
def modelarts(config: Config, checkpoint_key: str = "") -> Iterator[Outputs]:
    """Bring everything here, yield the `Outputs` whose `config` is to be used, upload at the end.

    Results are uploaded when the work fails, too. Does not import MindSpore.

    Args:
        config: of the script.
        checkpoint_key: the key that takes the only checkpoint of `checkpoint_url`, if it is empty.

    Raises:
        UserError: a transfer that failed, an archive that cannot be unpacked, a folder without
            data.
    """
    if config.enable_modelarts and os.environ.get("MS_ROLE"):
        _wait_longer(config.transfer_timeout)
    if not config.enable_modelarts or os.environ.get("MS_ROLE") == "MS_SCHED":
        yield Outputs(config)
        return
    config = _fetch(config, checkpoint_key)
    uploader = None
    if config.train_url:
        uploader = Uploader(Path(config.output_path), config.train_url, "train_url")
        if local_adapter.get_rank():  # earlier results, of which rank 0 may have newer ones
            uploader.take_as_sent()
    outputs = Outputs(config, uploader)
    try:
        yield outputs
    except BaseException:
        outputs.try_upload(everything=True)  # what went wrong first is what counts
        raise
    outputs.upload()


def _wait_longer(seconds: float) -> None:
    """Let msrun's processes wait for each other as long as copying may take, and as long as they
    would have: the scheduler copies nothing and waits from the beginning. MindSpore reads this
    when it is set up."""
    given = os.environ.get("MS_TOPO_TIMEOUT", "")
    limit = int(given[:_MOST_DIGITS]) if given.isdecimal() else _TOPO_TIMEOUT
    os.environ["MS_TOPO_TIMEOUT"] = str(limit + math.ceil(seconds))


def _fetch(config: Config, checkpoint_key: str) -> Config:
    """Copy what the keys name, once for all processes of this server; return what follows."""
    changes = {
        "output_dir": config.output_path,
        "file_name": os.path.join(config.output_path, config.file_name),
    }
    make_folder(config.output_path, "output_path")
    if config.data_url:
        _copy_once(config, "data_url", config.data_path, "data_path", unpack=True)
        changes |= _data_keys(config)
    if config.checkpoint_url:
        _copy_once(config, "checkpoint_url", config.load_path, "load_path")
        changes |= _checkpoint_keys(config, checkpoint_key)
    if config.train_url and config.resume:
        _copy_once(config, "train_url", config.output_path, "output_path", keep=True)
    return config.replace(**changes)


def _copy_once(
    config: Config, url_key: str, folder: str, key: str, *, unpack: bool = False, keep: bool = False
) -> None:
    started = time.time()
    make_folder(folder, key)
    lock = os.path.join(folder, url_key)  # the files beside it are hidden
    url = getattr(config, url_key)
    work = dataclasses.replace(_COPYING, place=key)
    with exclusive(lock, started, float(config.transfer_timeout), work):
        try:
            count = download(url, Path(folder), url_key, keep=keep)
            if count:
                say(f"copied {counted(count, 'file')} from {url} to {folder}")
            if unpack:
                _unpack(Path(folder))
            if not keep and not _has_files(folder):
                raise UserError(f"{url_key}: {url} holds nothing; correct {url_key}")
        except BaseException as error:
            report_failure(lock, error)
            raise


def _unpack(folder: Path) -> None:
    """Unpack the zip files in a folder, each once."""
    marker = folder / UNPACKED
    known = read_marker(marker)
    for archive in sorted(folder.glob("*.zip")):
        status = archive.stat()
        state = [status.st_size, status.st_mtime_ns]
        if known.get(archive.name) != state:
            say(f"unpacked {counted(unzip(archive, folder), 'file')} of {archive}")
            known[archive.name] = state
            write_json(str(marker), known)


def _data_keys(config: Config) -> dict[str, str]:
    """The data's keys, with relative ones taken from `data_path`."""
    changes = {}
    for key in ("coco_root", "image_dir", "anno_path", "mindrecord_dir"):
        value = getattr(config, key)
        if value and not os.path.isabs(value):
            changes[key] = os.path.join(config.data_path, value)
    if config.dataset not in _TXT_KINDS and not config.coco_root:
        changes["coco_root"] = _coco_root(config)
    return changes


def _coco_root(config: Config) -> str:
    """`data_path`, or its only folder that holds the annotations: archives often have one.

    Of other layouts than COCO's, which are recognised later, an only folder is the data set.
    """
    folder = Path(config.data_path)
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    if config.dataset not in _COCO_KINDS:
        return str(folders[0] if len(folders) == 1 else folder)
    name = (*Path(config.instance_set).parts, "annotations")[0]
    if (folder / name).exists():
        return str(folder)
    found = [path for path in folders if (path / name).exists()]
    if len(found) != 1:
        raise UserError(
            f"data_url: {config.data_url} has {len(found)} folders with {name} in it; name the "
            "right one, relative to data_path, as coco_root"
        )
    return str(found[0])


def _checkpoint_keys(config: Config, only_key: str) -> dict[str, str]:
    """The keys of checkpoints, with relative ones taken from `load_path`."""
    folder, changes = Path(config.load_path), {}
    for key in CHECKPOINT_KEYS:
        value = getattr(config, key, "")
        if value and not os.path.isabs(value) and (folder / value).is_file():
            changes[key] = str(folder / value)
    if only_key and not getattr(config, only_key) and not config.resume:
        found = sorted(folder.rglob("*.ckpt"))
        if len(found) != 1:
            raise UserError(
                f"checkpoint_url: {config.checkpoint_url} holds {len(found)} checkpoints; name "
                f"the right one, relative to load_path, as {only_key}"
            )
        changes[only_key] = str(found[0])
    return changes


def _has_files(folder: str) -> bool:
    return any(path.is_file() and path.name[0] != "." for path in Path(folder).rglob("*"))
