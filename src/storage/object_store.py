# SPDX-License-Identifier: Apache-2.0
"""Object storage: an OBS or S3 folder, reached by moxing or boto3; and a plain folder in its place.

A store has three verbs, `list`, `get` and `put`; each may fail at any time, and `transfer` repeats
them. Nothing in a bucket is ever deleted.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from ..base.errors import UserError
from ..base.files import replacing

SCHEMES = ("s3", "obs")
_AT_ONCE = 8 * 2**20  # files up to this size are sent as the bytes they have at one moment
MOST_OBJECTS = 5_000_000  # below one URL
_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")
_NON_RETRYABLE = {
    "403",
    "404",
    "AccessDenied",
    "AllAccessDisabled",
    "InvalidAccessKeyId",
    "NoSuchBucket",
    "NoSuchKey",
    "SignatureDoesNotMatch",
}


class NonRetryableError(Exception):
    """Trying again would not help."""


@dataclass(frozen=True, slots=True)
class Item:
    """An object: its size in bytes, and what changes with its content ("" where unknown)."""

    size: int
    tag: str


class Store(Protocol):
    """A folder of objects. Each verb may fail at any time."""

    def list(self) -> dict[str, Item]:
        """Return name in the folder -> item."""

    def get(self, name: str, path: Path) -> None:
        """Write an object's content to the file `path`.

        Args:
            name: of the object, in the folder.
            path: the file to write.
        """

    def put(self, path: Path, name: str) -> None:
        """Send a file and make sure that all of it is there.

        Args:
            path: the file to send.
            name: of the object, in the folder.
        """


def open_store(url: str, key: str, environment: Mapping[str, str] = os.environ) -> Store:
    """Return the store of a URL: obs://bucket/folder, s3://bucket/folder, or a local folder.

    Args:
        url: of the folder.
        key: of the configuration, for errors.
        environment: has the endpoint and the credentials, see docs/modelarts.md.

    Raises:
        UserError: another kind of URL, or nothing that can reach it is installed.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # one bracket
        parts = None
    if parts and not parts.scheme:
        return FolderStore(os.path.expanduser(url))
    if not parts or parts.scheme not in SCHEMES or not parts.netloc:
        raise UserError(
            f"{key}: {url!r} is no obs://bucket/folder or s3://bucket/folder; correct {key}"
        )
    with contextlib.suppress(ImportError):
        import moxing

        return MoxingStore(url, moxing)
    try:
        import boto3  # noqa: F401
    except ImportError:
        raise UserError(
            f"{key}: {url!r} cannot be reached: neither moxing nor boto3 is installed; "
            "pip install boto3"
        ) from None
    return S3Store(parts.netloc, parts.path.strip("/"), environment)


class S3Store:
    """A folder of a bucket, through boto3.

    Args:
        bucket, prefix: its name, and the folder in it without slashes at the ends.
        environment: see `open_store`.
    """

    def __init__(self, bucket: str, prefix: str, environment: Mapping[str, str]) -> None:
        self.bucket, self.prefix = bucket, prefix
        self.client = _s3_client(environment, attempts=1)  # who calls `get` and `put` has more
        # A large file goes in many requests, of which one that fails must not spoil the others.
        self.for_large = _s3_client(environment, attempts=5)

    def list(self) -> dict[str, Item]:
        """Return name in the folder -> item; an object that is named itself stands alone."""
        found: dict[str, Item] = {}
        token: dict[str, str] = {}
        while len(found) <= MOST_OBJECTS:
            with _errors_sorted():
                page = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, **token)
            for entry in page.get("Contents", ()):
                name = self._name(entry["Key"])
                if name and not name.endswith("/"):
                    found[name] = Item(entry["Size"], entry["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return found
            previous, token = token, {"ContinuationToken": page["NextContinuationToken"]}
            if token == previous:
                raise NonRetryableError("its list goes on with the same page for ever")
        raise NonRetryableError(f"more than {MOST_OBJECTS} objects; put them into zip files")

    def _name(self, key: str) -> str:
        if key == self.prefix:
            return key.rpartition("/")[2]
        start = f"{self.prefix}/" if self.prefix else ""
        return key[len(start) :] if key.startswith(start) else ""  # "a" finds "ab/c" too

    def _key(self, name: str) -> str:
        if self.prefix.rpartition("/")[2] == name and Path(name).suffix:
            return self.prefix
        return f"{self.prefix}/{name}" if self.prefix else name

    def get(self, name: str, path: Path) -> None:
        """Write an object's content to a file and make sure that it is whole.

        Args:
            name: of the object, in the folder.
            path: the file to write.
        """
        digest = hashlib.md5(usedforsecurity=False)
        with _errors_sorted():
            answer = self.client.get_object(Bucket=self.bucket, Key=self._key(name))
            length, came = answer["ContentLength"], 0
            with open(path, "wb") as file:
                for piece in answer["Body"].iter_chunks(2**20):
                    came += len(piece)
                    if came > length:
                        break
                    digest.update(piece)
                    file.write(piece)
        tag = answer["ETag"].strip('"')
        if came != length:
            raise OSError(f"{came} of {length} bytes came")
        if _PLAIN_MD5.fullmatch(tag) and digest.hexdigest() != tag:
            raise OSError("the content does not have the checksum it should have")

    def put(self, path: Path, name: str) -> None:
        """Send a file and make sure that all of it is there.

        Args:
            path: the file to send.
            name: of the object, in the folder.
        """
        key, size = f"{self.prefix}/{name}" if self.prefix else name, path.stat().st_size
        with _errors_sorted():
            if size <= _AT_ONCE:
                content = path.read_bytes()
                size = len(content)
                self.client.put_object(Bucket=self.bucket, Key=key, Body=content)
            else:
                self.for_large.upload_file(str(path), self.bucket, key)
            there = self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
        if there != size:
            raise OSError(f"{there} of {size} bytes arrived")


def _s3_client(environment: Mapping[str, str], attempts: int) -> Any:
    """The endpoint and the credentials are boto3's own variables, or those that ModelArts sets."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    retries = {"total_max_attempts": attempts, "mode": "standard"}
    settings = {"retries": retries, "connect_timeout": 20, "max_pool_connections": 16}
    # Checksums that were new in 2025 are unknown to other stores than Amazon's.
    new = {"request_checksum_calculation": "when_required"}
    new["response_checksum_validation"] = "when_required"
    try:
        config = Config(**settings, **new)
    except TypeError:
        config = Config(**settings)
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if not endpoint and environment.get("S3_ENDPOINT"):
        endpoint = environment["S3_ENDPOINT"]
        if "://" not in endpoint:
            secure = environment.get("S3_USE_HTTPS", "1") != "0"
            endpoint = f"{'https' if secure else 'http'}://{endpoint}"
    names = {
        "aws_access_key_id": ("AWS_ACCESS_KEY_ID", "ACCESS_KEY_ID"),
        "aws_secret_access_key": ("AWS_SECRET_ACCESS_KEY", "SECRET_ACCESS_KEY"),
        "aws_session_token": ("AWS_SESSION_TOKEN", "SECURITY_TOKEN"),
        "region_name": ("AWS_REGION", "AWS_DEFAULT_REGION", "S3_REGION"),
    }
    given = {
        k: next((environment[n] for n in v if environment.get(n)), None) for k, v in names.items()
    }
    try:
        return boto3.session.Session().client("s3", endpoint_url=endpoint, config=config, **given)
    except (ValueError, BotoCoreError) as error:  # half a pair of keys, an unknown profile
        raise UserError(
            f"environment: the S3 endpoint or credentials cannot be used ({error}); correct them"
        ) from None


@contextlib.contextmanager
def _errors_sorted() -> Iterator[None]:
    """Tell an answer that stays the same from one that may be better the next time."""
    from botocore.exceptions import ClientError, NoCredentialsError, ParamValidationError

    try:
        yield
    except (NoCredentialsError, ParamValidationError) as error:
        raise NonRetryableError(str(error)) from error
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _NON_RETRYABLE:
            raise NonRetryableError(str(error)) from error
        raise


class MoxingStore:
    """A folder of a bucket, through ModelArts' own moxing.

    Args:
        url: of the folder.
        moxing: the module.
    """

    def __init__(self, url: str, moxing: Any) -> None:
        self.url, self.files = url.rstrip("/"), moxing.file

    def list(self) -> dict[str, Item]:
        """Return name in the folder -> item."""
        if not self.files.exists(self.url):
            return {}
        if not self.files.is_directory(self.url):
            return {self.url.rpartition("/")[2]: Item(self.files.get_size(self.url), "")}
        names = self.files.list_directory(self.url, recursive=True)
        names = [name for name in names if not self.files.is_directory(f"{self.url}/{name}")]
        return {name: Item(self.files.get_size(f"{self.url}/{name}"), "") for name in names}

    def get(self, name: str, path: Path) -> None:
        """Write an object's content to a file.

        Args:
            name: of the object, in the folder.
            path: the file to write.
        """
        alone = self.url.rpartition("/")[2] == name and not self.files.is_directory(self.url)
        self.files.copy(self.url if alone else f"{self.url}/{name}", str(path))

    def put(self, path: Path, name: str) -> None:
        """Send a file and make sure that all of it is there.

        Args:
            path: the file to send.
            name: of the object, in the folder.
        """
        size = path.stat().st_size
        self.files.copy(str(path), f"{self.url}/{name}")
        there = self.files.get_size(f"{self.url}/{name}")
        if there < size:
            raise OSError(f"{there} of {size} bytes arrived")


class FolderStore:
    """A folder that ModelArts (or anybody) has mounted.

    Args:
        folder: its path.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def list(self) -> dict[str, Item]:
        """Return name in the folder -> item."""
        paths = [self.folder] if self.folder.is_file() else sorted(self.folder.rglob("*"))
        found = {}
        for path in paths:
            if path.is_file():
                status = path.stat()
                name = path.name if path == self.folder else path.relative_to(self.folder)
                found[str(name)] = Item(status.st_size, str(status.st_mtime_ns))
        return found

    def get(self, name: str, path: Path) -> None:
        """Write a file's content to another one.

        Args:
            name: of the file, in the folder.
            path: the file to write.
        """
        shutil.copyfile(self.folder if self.folder.is_file() else self.folder / name, path)

    def put(self, path: Path, name: str) -> None:
        """Write a file into the folder whole or not at all.

        Args:
            path: the file to copy.
            name: of the new file, in the folder.
        """
        with replacing(self.folder / name, sync=False) as part:
            shutil.copyfile(path, part)
