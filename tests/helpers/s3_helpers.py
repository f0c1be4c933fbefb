# SPDX-License-Identifier: Apache-2.0
"""An S3 server on loopback as a process of its own, and a client of it."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


class Server:
    """The S3 server's process, and a client of it."""

    def __init__(self, folder):
        boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
        pytest.importorskip("moto.moto_server", reason="moto[server] is not installed")
        port = folder / "port"
        script = Path(__file__).with_name("s3_server.py")
        self.log = open(folder / "log.txt", "w")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(port)], stdout=self.log, stderr=self.log
        )
        until = time.monotonic() + 60
        while not port.exists():
            assert self.process.poll() is None and time.monotonic() < until, "no S3 server"
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{port.read_text()}"
        try:
            self._connect(boto3)
        except Exception:
            self.stop()
            raise

    def _connect(self, boto3):
        self.environment = {**KEYS, "AWS_ENDPOINT_URL": self.url, "NO_PROXY": "127.0.0.1"}
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        self.client.create_bucket(Bucket="bucket")

    def stop(self):
        """End the server."""
        self.process.kill()
        self.process.wait()
        self.log.close()

    def fail_every(self, number):
        """Let each so-many-th request fail; return (requests, failures) up to now."""
        counts = urllib.request.urlopen(f"{self.url}/__faults__")
        request = urllib.request.Request(f"{self.url}/__faults__?every={number}", method="PUT")
        urllib.request.urlopen(request).read()
        return json.loads(counts.read())

    def put(self, key, content):
        self.client.put_object(Bucket="bucket", Key=key, Body=content)

    def put_folder(self, prefix, folder):
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())

    def keys(self, prefix):
        listed = self.client.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])
        return {entry["Key"].removeprefix(prefix): entry["Size"] for entry in listed}
