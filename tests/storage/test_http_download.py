# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server on loopback that breaks, hangs, lies and leads elsewhere."""

import datetime
import hashlib
import io
import ipaddress
import json
import os
import shutil
import socket
import ssl
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.base.progress import Display
from src.storage import http_download, https_client, transfer
from src.storage.http_download import Digest, Wanted, download_file
from src.storage.https_client import require_safe
from tests.helpers.file_server import Served, file_server

CONTENT = bytes(range(256)) * 8000  # 2 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def quick(monkeypatch):
    """Waits of tests, not of lines over the sea."""
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(transfer, "LONGEST_PAUSE", 0.02)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def site(quick):
    with file_server() as running:
        yield running


def fetch(site, folder, served=None, *, path="/a.pth", digest=SHA256[:8], most=10**7):
    """Download a file; return its content."""
    if served:
        site.files[path] = served
    digest = Digest("sha256", digest) if digest else None
    target = folder / "a.pth"
    download_file(Wanted("pub/a", site.url + path, most, digest), target, Display(io.StringIO()))
    return target.read_bytes()


def test_a_whole_file(site, tmp_path):
    assert fetch(site, tmp_path, Served(CONTENT)) == CONTENT
    assert os.listdir(tmp_path) == ["a.pth"] and site.ranges() == [None]


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_digests(algorithm, tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    whole = hashlib.new(algorithm, CONTENT).hexdigest()
    assert Digest(algorithm, whole).fits(tmp_path / "a")
    assert Digest(algorithm, whole[:6]).fits(tmp_path / "a")
    assert not Digest(algorithm, whole[1:]).fits(tmp_path / "a")


def test_progress_is_in_megabytes_and_ends(site, tmp_path):
    stream = io.StringIO()
    site.files["/a"] = Served(CONTENT)
    shown = Display(stream)
    shown.terminal = True
    download_file(Wanted("pub/a", f"{site.url}/a", 10**7), tmp_path / "a", shown)
    assert "downloading pub/a, MB 2/2" in stream.getvalue()


# ------------------------------------------------------------------ going on


def test_a_line_that_breaks_goes_on_where_it_was(site, tmp_path):
    assert fetch(site, tmp_path, Served(CONTENT, breaks=[500_000, 700_000])) == CONTENT
    assert site.ranges() == [None, "bytes=500000-", "bytes=1200000-"]
    assert [h.get("If-Range") for _, h in site.requests] == [None, '"one"', '"one"']


def test_the_next_call_goes_on_too(site, tmp_path):
    with pytest.raises(UserError, match="500000 of 2048000 bytes came"):
        fetch(site, tmp_path, Served(CONTENT, breaks=[500_000, 0]))
    assert not (tmp_path / "a.pth").exists() and (tmp_path / ".a.pth.part").exists()
    site.requests.clear()
    assert fetch(site, tmp_path) == CONTENT
    assert site.ranges() == ["bytes=500000-"] and os.listdir(tmp_path) == ["a.pth"]


@given(
    breaks=st.lists(st.integers(1, 9000), max_size=5),
    size=st.integers(1, 20_000),
    ranges=st.booleans(),
    tag=st.sampled_from(["", '"one"', 'W/"one"']),
    has_digest=st.booleans(),
)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_wherever_it_breaks(site, breaks, size, ranges, tag, has_digest):
    content = CONTENT[:size]
    served = Served(content, breaks=breaks, ranges=ranges, tag=tag)
    digest = hashlib.sha256(content).hexdigest()[:8] if has_digest else ""
    with tempfile.TemporaryDirectory() as folder:
        assert fetch(site, Path(folder), served, digest=digest) == content


def test_a_file_that_changes_meanwhile(site, tmp_path):
    with pytest.raises(UserError):
        fetch(site, tmp_path, Served(b"x" * 10**6, tag='"old"', breaks=[10**5, 0]))
    assert fetch(site, tmp_path, Served(CONTENT, tag='"new"')) == CONTENT


def test_a_rest_that_does_not_belong_to_the_file_is_fetched_again(site, tmp_path):
    """Without a tag nobody notices before the digest does."""
    with pytest.raises(UserError):
        fetch(site, tmp_path, Served(b"x" * len(CONTENT), tag="", breaks=[10**5, 0]))
    site.requests.clear()
    assert fetch(site, tmp_path, Served(CONTENT, tag="")) == CONTENT
    assert site.ranges() == ["bytes=100000-", None]


def test_without_a_digest_and_a_tag_it_begins_anew(site, tmp_path):
    with pytest.raises(UserError):
        fetch(site, tmp_path, Served(CONTENT, tag="", breaks=[10**5, 0]), digest="")
    site.requests.clear()
    assert fetch(site, tmp_path, digest="") == CONTENT
    assert site.ranges() == [None]


def test_what_came_whole_is_not_fetched_again(site, tmp_path):
    with pytest.raises(UserError):
        fetch(site, tmp_path, Served(CONTENT, breaks=[10**5, 0]))
    (tmp_path / ".a.pth.part").write_bytes(CONTENT)
    site.requests.clear()
    assert fetch(site, tmp_path) == CONTENT and not site.requests


def test_a_part_that_is_longer_than_the_file(site, tmp_path):
    with pytest.raises(UserError):
        fetch(site, tmp_path, Served(CONTENT, breaks=[10**5, 0]))
    (tmp_path / ".a.pth.part").write_bytes(CONTENT + b"more")
    site.files["/a.pth"].statuses = [416]
    assert fetch(site, tmp_path) == CONTENT


def test_a_link_in_the_place_of_the_part_is_not_followed(site, tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError):
        fetch(site, tmp_path / "folder", Served(CONTENT, breaks=[10**5, 0]))
    part = tmp_path / "folder" / ".a.pth.part"
    part.unlink()
    part.symlink_to(tmp_path / "theirs")
    assert fetch(site, tmp_path / "folder") == CONTENT
    assert (tmp_path / "theirs").read_text() == "theirs"


def note_of(site, validator):
    note = {"url": f"{site.url}/a.pth", "validator": validator, "total": len(CONTENT)}
    return json.dumps(note)


def test_a_pipe_in_the_place_of_the_part_is_not_waited_for(site, tmp_path):
    (tmp_path / ".a.pth.part.json").write_text(note_of(site, '"one"'))
    os.mkfifo(tmp_path / ".a.pth.part")
    assert fetch(site, tmp_path, Served(CONTENT)) == CONTENT


@pytest.mark.parametrize("name", [".a.pth.part", ".a.pth.part.json"])
def test_what_cannot_be_written_is_no_trouble_of_the_network(site, tmp_path, name):
    (tmp_path / name).mkdir()
    text = refused(site, tmp_path, Served(CONTENT))
    assert "cannot be written" in text and "network" not in text


@pytest.mark.parametrize("validator", ["a\nX: b", "\u20ac", "x" * 2000, [1], None])
def test_a_note_with_anything_in_it(site, tmp_path, validator):
    (tmp_path / ".a.pth.part.json").write_text(note_of(site, validator))
    (tmp_path / ".a.pth.part").write_bytes(CONTENT[:1000])
    assert fetch(site, tmp_path, Served(CONTENT)) == CONTENT


def test_a_server_that_sends_the_rest_of_another_file(site, tmp_path):
    """It looks at Range and not at If-Range; there is no digest that would tell."""
    (tmp_path / ".a.pth.part.json").write_text(note_of(site, '"old"'))
    (tmp_path / ".a.pth.part").write_bytes(b"x" * 1000)
    site.ignores_conditions = True
    assert fetch(site, tmp_path, Served(CONTENT), digest="") == CONTENT
    assert site.ranges() == ["bytes=1000-", None]


# ------------------------------------------------------------------ answers that are not the file


def refused(site, folder, served=None, **options):
    """Return what a download that fails says; it leaves no file."""
    with pytest.raises(UserError) as raised:
        fetch(site, folder, served, **options)
    text = str(raised.value)
    assert text.startswith("pub/a: ") and len(text) < 400
    assert not (folder / "a.pth").exists()
    return text


def test_another_digest(site, tmp_path):
    text = refused(site, tmp_path, Served(CONTENT[1:]))
    assert f"does not have the sha256 that its publisher states ({SHA256[:8]}...)" in text
    assert not os.listdir(tmp_path) and len(site.requests) == 1


@pytest.mark.parametrize("length", [True, False])
def test_more_than_there_may_be(site, tmp_path, length):
    text = refused(site, tmp_path, Served(CONTENT, length=length), most=10**6)
    assert "at most 1000000 are expected" in text
    assert not (tmp_path / ".a.pth.part").exists()


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_gone(site, tmp_path, status):
    text = refused(site, tmp_path, Served(CONTENT, statuses=[status] * 9))
    assert f"answers {status}" in text and len(site.requests) == 1


def test_a_server_that_is_busy(site, tmp_path):
    assert fetch(site, tmp_path, Served(CONTENT, statuses=[503, 429])) == CONTENT
    (tmp_path / "a.pth").unlink()
    text = refused(site, tmp_path, Served(CONTENT, statuses=[503] * 99))
    assert "503" in text and f"after {transfer.ATTEMPTS} attempts" in text


def test_an_answer_with_nothing_in_it(site, tmp_path):
    assert "0 of some bytes came" in refused(site, tmp_path, Served(b""), digest="")


def test_compressed_answers(site, tmp_path):
    served = Served(CONTENT, headers={"Content-Encoding": "gzip"})
    assert "sent compressed" in refused(site, tmp_path, served)


def test_a_server_that_does_not_answer(site, tmp_path, monkeypatch):
    monkeypatch.setattr(https_client, "ANSWER_SECONDS", 0.3)
    text = refused(site, tmp_path, Served(CONTENT, head_seconds=60))
    assert "cannot be reached (it does not answer)" in text


def test_a_server_that_falls_silent(site, tmp_path, monkeypatch):
    monkeypatch.setattr(https_client, "SILENCE", 0.3)
    served = Served(CONTENT, piece=10, piece_seconds=60)
    assert "timed out" in refused(site, tmp_path, served)


def test_a_server_that_is_far_too_slow(site, tmp_path, monkeypatch):
    monkeypatch.setattr(http_download, "WINDOW", 0.2)
    served = Served(CONTENT, piece=2, piece_seconds=0.05)
    assert "less than 1024 bytes a second" in refused(site, tmp_path, served)


@pytest.mark.parametrize(
    "content",
    [b"5;" + b"x" * 1000, b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 1000],
    ids=["the length of a chunk", "what comes behind the last one"],
)
def test_chunks_that_never_end(site, tmp_path, monkeypatch, content):
    monkeypatch.setattr(https_client, "ANSWER_SECONDS", 0.3)
    chunked = {"Transfer-Encoding": "chunked"}
    sent = {"ranges": False, "length": False, "headers": chunked}
    served = Served(content, **sent, piece=6, piece_seconds=0.05)
    assert "does not answer" in refused(site, tmp_path, served)


def test_chunks(site, tmp_path):
    content = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONTENT), CONTENT)
    served = Served(content, length=False, headers={"Transfer-Encoding": "chunked"})
    assert fetch(site, tmp_path, served) == CONTENT


def test_no_room(site, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    assert "has room for 0 MB" in refused(site, tmp_path, Served(CONTENT))


# ------------------------------------------------------------------ addresses


def test_a_redirection(site, tmp_path):
    site.files["/old"] = Served(location="/a.pth")
    site.files["/a.pth"] = Served(CONTENT, breaks=[10**5])
    assert fetch(site, tmp_path, path="/old") == CONTENT
    assert "bytes=100000-" in site.ranges()


@pytest.mark.parametrize("to", ["http://example.org/a", "file:///etc/passwd", "ftp://127.0.0.1/a"])
def test_redirections_that_are_not_followed(site, tmp_path, to):
    text = refused(site, tmp_path, Served(location=to))
    assert ("it is not followed" in text or "is not allowed" in text) and to in text


def test_from_https_nothing_leads_to_http():
    handler = https_client._SafeRedirects("https://example.org/a", "pub/a")
    request = https_client.urllib.request.Request("https://example.org/a")
    with pytest.raises(UserError, match="no https address"):
        handler.redirect_request(request, None, 302, "", {}, "http://127.0.0.1/a")
    new = handler.redirect_request(request, None, 302, "", {}, "https://example.com/b")
    assert new.full_url == "https://example.com/b"


def test_a_circle_of_redirections(site, tmp_path):
    assert "answers 302" in refused(site, tmp_path, Served(location="/a.pth"))
    assert len(site.requests) < 20


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.pth",
        "http://127.0.0.1.example.org/a.pth",
        "ftp://127.0.0.1/a.pth",
        "file:///etc/passwd",
        "/etc/passwd",
        "https:///a.pth",
        "https://[/a.pth",
        "",
    ],
)
def test_addresses_that_are_not_safe(url):
    with pytest.raises(UserError, match="no https address"):
        require_safe(url, "pub/a")


def test_no_server(quick, tmp_path):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/a.pth"
        with pytest.raises(UserError, match="cannot be reached.*look at the network"):
            download_file(Wanted("pub/a", url, 10), tmp_path / "a", Display(io.StringIO()))


def test_no_network(quick, tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    wanted = Wanted("pub/a", "https://nowhere.example/a.pth", 10)
    with pytest.raises(UserError, match="no address of nowhere.example is known here"):
        download_file(wanted, tmp_path / "a", Display(io.StringIO()))
    assert not os.listdir(tmp_path)


def test_the_proxy_of_the_environment(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", site.url)
    wanted = Wanted("pub/a", "https://nowhere.example/a.pth", 10)
    with pytest.raises(UserError, match="502"):
        download_file(wanted, tmp_path / "a", Display(io.StringIO()))
    assert site.methods == ["CONNECT nowhere.example:443"]
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert fetch(site, tmp_path, Served(CONTENT)) == CONTENT  # loopback goes by none


def _certificate(folder):
    """A certificate for 127.0.0.1 that nobody has signed; returns the paths of it and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, plain))
    return folder / "cert.pem", folder / "key.pem"


def test_certificates_are_checked(quick, tmp_path, monkeypatch):
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    (tmp_path / "to").mkdir()
    with file_server(context) as site:
        text = refused(site, tmp_path / "to", Served(CONTENT))
        assert "its certificate is refused: self" in text
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(site, tmp_path / "to") == CONTENT
