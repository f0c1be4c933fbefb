# SPDX-License-Identifier: Apache-2.0
"""The server on loopback: answers, limits, many clients at once, those who mean it ill."""

import base64
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("multipart", reason="the extra `serve` is not installed")

from src.base.errors import UserError
from src.serving.limits import Limits
from src.serving.page import upload_page
from src.serving.server import address_of, bound_socket, is_loopback
from tests.helpers.web import WAIT, ByRed, served

FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}
JSON = {"Content-Type": "application/json"}


def png(red=255, size=(60, 40), kind="PNG", **options):
    """The bytes of a picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(file, kind, **options)
    return file.getvalue()


def form(**fields):
    """A form's body; bytes are files."""
    parts = []
    for name, value in fields.items():
        extra = '; filename="../../a.png"' if isinstance(value, bytes) else ""
        head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
        parts.append(head.encode() + (value if isinstance(value, bytes) else value.encode()))
    return b"\r\n".join([*parts, b"--xyz--\r\n"])


@pytest.fixture(scope="module")
def site():
    limits = Limits(max_bytes=50_000, read_timeout=2.0)
    with served(ByRed(), limits=limits) as running:
        yield running


def as_json(data, **more):
    return json.dumps({"image": base64.b64encode(data).decode(), **more})


@pytest.mark.parametrize(
    "body, headers, query",
    [
        (form(file=png()), FORM, ""),
        (form(file=png(), min_score="0.25"), FORM, ""),
        (as_json(png()), JSON, ""),
        (as_json(png(), min_score=0.25), {"Content-Type": "application/json; charset=utf-8"}, ""),
        (as_json(png()).replace('"image": "', '"image": "data:image/png;base64,'), JSON, ""),
        (png(), {"Content-Type": "image/png"}, "?min_score=0.25"),
        (png(), {"Content-Type": "application/octet-stream"}, ""),
    ],
)
def test_a_picture_in_every_form(site, body, headers, query):
    status, answer = site.ask("POST", f"/predict{query}", body, headers)
    assert status == 200
    assert (answer["width"], answer["height"]) == (60, 40)
    assert answer["detections"] == [{"class": "cat", "score": 1.0, "box": [1.0, 2.0, 30.0, 40.0]}]
    assert answer["seconds"] >= 0


def test_scores_below_the_lowest_are_left_out(site):
    assert site.predict(png(100))[1]["detections"] == []  # 0.39; the default is 0.5
    assert len(site.predict(png(100), "?min_score=0.3")[1]["detections"]) == 1
    assert (
        site.ask("POST", "/predict", form(file=png(200), min_score="0.9"), FORM)[1]["detections"]
        == []
    )


def test_pictures_are_turned_as_a_viewer_shows_them(site):
    turned = Image.Exif()
    turned[0x0112] = 6
    _, answer = site.predict(png(kind="JPEG", exif=turned))
    assert (answer["width"], answer["height"]) == (40, 60)


@pytest.mark.parametrize(
    "body, headers, status, detail",
    [
        (b"no picture", {"Content-Type": "image/png"}, 422, "no picture of a known kind"),
        (png()[:60], {"Content-Type": "image/png"}, 422, "it ends before its picture does"),
        (b"", {"Content-Type": "image/png"}, 400, "the picture is empty"),
        (png(size=(101, 100)), {"Content-Type": "image/png"}, 413, "101x100 pixels, more than"),
        (bytes(70_000), {"Content-Type": "image/png"}, 413, "at most 50000 bytes"),
        (bytes(55_000), {"Content-Type": "image/png"}, 413, "at most 50000 bytes"),
        (form(file=bytes(51_000)), FORM, 413, "at most 50000 bytes"),
        (as_json(bytes(51_000)), JSON, 413, "at most 50000 bytes"),
        (png(), {}, 415, "send multipart/form-data"),
        (png(), {"Content-Type": "text/html"}, 415, "send multipart/form-data"),
        (form(other=png()), FORM, 400, "no picture in the field file"),
        (form(file="text"), FORM, 400, "no picture in the field file"),
        (form(file=png(), more=png()), FORM, 400, "Too many files"),
        (png(), FORM, 400, "the form cannot be read"),
        (png(), {"Content-Type": "multipart/form-data"}, 400, "the form cannot be read"),
        (form(file=png(), min_score="nan"), FORM, 400, "min_score is a number from 0 to 1"),
        (as_json(png(), min_score=[1]), JSON, 400, "min_score is a number from 0 to 1"),
        (as_json(png(), min_score=10**400), JSON, 400, "min_score is a number from 0 to 1"),
        ("{", JSON, 400, "the body is not JSON"),
        ("[" * 30_000, JSON, 400, "more than 100 of { [ and ,"),
        ("[" + "{}," * 10_000 + "{}]", JSON, 400, "more than 100 of { [ and ,"),
        (('{"a":' * 6_000).encode("utf-16"), JSON, 400, "more than 100 of { [ and ,"),
        ('["image"]', JSON, 400, 'give {"image"'),
        ('{"image": 5}', JSON, 400, 'give {"image"'),
        ('{"image": "/etc/passwd"}', JSON, 400, "no path and no address"),
        ('{"image": "file:///etc/passwd"}', JSON, 400, "no path and no address"),
        ('{"image": "http://127.0.0.1/a.png"}', JSON, 400, "no path and no address"),
        ('{"image": "L2V0Yy9wYXNzd2Q="}', JSON, 422, "no picture of a known kind"),
    ],
)
def test_what_is_wrong_is_said(site, body, headers, status, detail):
    got, answer = site.ask("POST", "/predict", body, headers)
    assert got == status and detail in answer["detail"]
    assert site.predict(png())[0] == 200  # and the server goes on


def test_a_body_without_a_length_is_cut_off_at_the_limit(site):
    def endless():
        for _ in range(100_000):
            yield bytes(1000)

    try:
        status, _ = site.ask("POST", "/predict", endless(), {"Content-Type": "image/png"})
    except OSError:  # the connection ends before all is sent
        status = 413
    assert status == 413 and site.predict(png())[0] == 200


def test_nothing_but_the_page_and_two_addresses(site):
    assert site.ask("GET", "/")[0] == 200
    assert site.ask("GET", "/openapi.json")[0] == 200
    for path in ("/docs", "/redoc", "/../setup.py", "/%2e%2e/setup.py", "//etc/passwd", "/static"):
        assert site.ask("GET", path)[0] == 404
    assert site.ask("GET", "/predict")[0] == 405
    assert site.ask("PUT", "/predict")[0] == 405


def test_health_says_what_it_looks_for(site):
    status, answer = site.ask("GET", "/health")
    assert status == 200 and answer["status"] == "ok"
    assert answer["classes"] == ["cat", "dog"] and answer["canvases"] == ["64x96"]
    before = answer["pictures"]
    site.predict(png())
    assert site.ask("GET", "/health")[1]["pictures"] == before + 1


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8000"}, 403),
        ({"Host": "[::"}, 403),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_others_make_no_work(site, headers, status):
    """Under a name of their own that leads here, or by a form."""
    assert site.ask("POST", "/predict", form(file=png()), {**FORM, **headers})[0] == status


def test_fifty_clients_at_once_get_their_own_answers():
    sizes = []
    with served(ByRed(sizes.append), size=8) as site:
        sizes.clear()

        def client(number):
            seen = []
            for turn in range(4):
                red = (5 * number + turn) % 256
                status, answer = site.predict(png(red), "?min_score=0")
                seen.append((status, round(255 * answer["detections"][0]["score"]), red))
            return seen

        with ThreadPoolExecutor(50) as pool:
            answers = [one for seen in pool.map(client, range(50)) for one in seen]
        assert all(status == 200 and got == red for status, got, red in answers)
        assert len(answers) == 200 == site.engine.pictures
        assert set(sizes) == {8}  # one static shape
        assert len(sizes) < 200  # and pictures shared batches


class Gate:
    """Holds batches up until it is opened."""

    def __init__(self):
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, _size):
        self.reached.set()
        assert self.open.wait(WAIT)


def until(condition):
    """Wait for something to become true."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def in_hand(site):
    return site.ask("GET", "/health")[1]["in_hand"]


def test_a_full_queue_refuses_and_others_are_answered():
    gate = Gate()
    with served(ByRed(gate), size=2, limits=Limits(queue=5)) as site:
        gate.open.clear()
        with ThreadPoolExecutor(5) as pool:
            waiting = [pool.submit(site.predict, png()) for _ in range(5)]
            until(lambda: in_hand(site) == 5)
            status, answer = site.predict(png())
            assert status == 503 and answer["detail"] == "too many requests wait; try again"
            gate.open.set()
            assert [job.result(WAIT)[0] for job in waiting] == [200] * 5
        assert site.predict(png())[0] == 200


def test_an_answer_that_takes_too_long():
    gate = Gate()
    with served(ByRed(gate), size=1, limits=Limits(timeout=0.3)) as site:
        gate.open.clear()
        status, answer = site.predict(png())
        assert status == 504 and "no answer within 0.3 s" in answer["detail"]
        assert in_hand(site) == 0
        gate.open.set()


def test_clients_that_leave_cost_no_batch():
    gate = Gate()
    with served(ByRed(gate), size=1) as site:
        gate.open.clear()
        gate.reached.clear()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(site.predict, png())
            assert gate.reached.wait(WAIT)
            body = png()
            head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            head += f"Content-Length: {len(body)}\r\n\r\n"
            leaving = [site.connect() for _ in range(3)]
            for connection in leaving:
                connection.sendall(head.encode() + body)
            until(lambda: in_hand(site) == 4)
            for connection in leaving:
                connection.close()
            until(lambda: in_hand(site) == 1)
            gate.open.set()
            assert first.result(WAIT)[0] == 200
        assert site.predict(png())[0] == 200
        assert site.engine.pictures == 2
        assert site.ask("GET", "/health")[1]["left"] == 3


@pytest.mark.parametrize("kind", ["image/png", "application/json", FORM["Content-Type"]])
def test_a_client_that_leaves_within_its_body_is_counted(kind, capfd, caplog):
    with served(ByRed()) as site:
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        with site.connect() as connection:
            connection.sendall(head.encode() + b"Content-Length: 1000\r\n\r\nabc")
            until(lambda: in_hand(site) == 1)
        until(lambda: site.ask("GET", "/health")[1]["left"] == 1)
        assert in_hand(site) == 0 and site.predict(png())[0] == 200
    assert "Traceback" not in capfd.readouterr().err and not caplog.records


@pytest.mark.parametrize(
    "start, answers",
    [
        (b"", b""),
        (b"POST /pre", b""),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Header: ", b""),
        (
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: 1000\r\n\r\nabc",
            b"408",
        ),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + 20_000 * b"x", b"400"),
    ],
)
def test_who_sends_slowly_or_too_much_is_cut_off(start, answers):
    with served(ByRed(), limits=Limits(read_timeout=0.3)) as site, site.connect() as connection:
        connection.sendall(start)
        got = b""
        try:
            while piece := connection.recv(4096):
                got += piece
        except ConnectionResetError:
            pass
        assert answers in got[:40] and bool(got) == bool(answers)


def test_connections_have_a_limit():
    with served(ByRed(), limits=Limits(connections=3, read_timeout=30.0)) as site:
        held = [site.connect() for _ in range(3)]
        until(lambda: _is_refused(site))
        for connection in held:
            connection.close()
        until(lambda: not _is_refused(site))


def _is_refused(site):
    try:
        return site.ask("GET", "/health")[0] != 200
    except OSError:
        return True


def test_a_detector_that_fails_is_no_answer_and_no_end(capfd):
    def fail(_size):
        if broken:
            raise RuntimeError("secret path /home/user")

    broken = []
    with served(ByRed(fail)) as site:
        broken.append(True)
        status, answer = site.predict(png())
        assert status == 500 and answer == {"detail": "the server failed; its log says why"}
        broken.clear()
        assert site.predict(png())[0] == 200


def test_the_page_holds_names_of_classes_as_text():
    page = upload_page(("<script>alert(1)</script>", "cat"), 1000, 0.5)
    assert "<script>alert" not in page
    assert "connect-src &#39;self&#39;" in page and "http-equiv" in page
    for address in ("https://", 'src="http', "@import"):
        assert address not in page


def test_addresses():
    with bound_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert is_loopback(first) and address_of(first) == f"http://127.0.0.1:{port}/"
        first.listen()
        with pytest.raises(UserError, match=f"--port {port}: Address already in use; choose"):
            bound_socket("127.0.0.1", port)
    with bound_socket("0.0.0.0", 0) as everywhere:
        assert not is_loopback(everywhere)
    for host in ("no such host", "256.1.1.1", "a" * 300):
        with pytest.raises(UserError, match="--host"):
            bound_socket(host, 0)


def test_pictures_of_numbers(site):
    rgb = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "WEBP")
    assert site.predict(file.getvalue())[0] == 200
