"""The page of `zgs view`: what its server answers and refuses, and what a browser makes of it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium import Page, chromium

from zgs_ros.drawing.palette import colour_of
from zgs_ros.segmentation import Label, Placement, Roi, Segment, Segmentation
from zgs_ros.tools.web import server as web_server
from zgs_ros.tools.web.board import KEPT_FRAMES, Board, Health, Picture
from zgs_ros.tools.web.server import AddressError, QueryFailed, ViewServer, is_own_host, read_query

Eventually = Callable[..., None]
EVIL = "<img src=x onerror=\"document.title='owned'\">"
SIZE = (48, 64)


def jpeg(grey: int) -> bytes:
    return cv2.imencode(".jpg", np.full((*SIZE, 3), grey, np.uint8))[1].tobytes()


def segment(
    number: int, label: str, score: float = 0.5, place: Placement | None = None, track: int = 0
) -> Segment:
    return Segment(
        id=number,
        labels=(Label(label, score), Label("alternative", 0.25)),
        roi=Roi(8 * number, 4, 16, 16),
        area=100 * number,
        centroid=(12.0, 12.0),
        embedding=np.array([1.0, 0.0], np.float32),
        track_id=track,
        placement=place,
    )


def picture(*segments: Segment, grey: int = 90) -> Picture:
    segmentation = Segmentation(np.zeros(SIZE, np.uint16), segments, "model")
    return Picture(segmentation, jpeg(grey), 1_700_000_000_000_000_000, 0.25, 0.125)


class TestBoard:
    def test_begins_empty(self) -> None:
        state = Board("/zgs").state()
        assert (state["node"], state["frame"], state["health"]) == ("/zgs", None, None)

    def test_shows_the_newest_frame_with_the_largest_segments_first(self) -> None:
        board = Board("/zgs")
        board.show_picture("", picture())
        board.show_picture(
            "", picture(segment(1, "mug", track=7), segment(2, "table", place=PLACE))
        )
        frame = board.state()["frame"]
        assert (frame["number"], frame["width"], frame["height"]) == (2, 64, 48)
        table, mug = frame["segments"]
        assert (table["label"], table["position"]) == ("table", [0.5, -0.25, 2.0])
        assert (mug["track"], mug["score"], mug["position"]) == (7, 0.5, None)
        assert mug["others"] == ["alternative"]
        assert mug["share"] == pytest.approx(100 / (48 * 64))
        assert mug["colour"] == "#{:02x}{:02x}{:02x}".format(*colour_of("mug"))

    def test_can_be_written_as_json_whatever_came_from_the_network(self) -> None:
        board = Board("/zgs")
        place = Placement((np.nan, np.inf, 1.0), (0.0, 0.0, 0.0))
        board.show_picture("", picture(segment(1, "\ud800", np.nan, place)))
        [seen] = json.loads(json.dumps(board.state(), allow_nan=False))["frame"]["segments"]
        assert (seen["score"], seen["position"]) == (None, [None, None, 1.0])

    def test_keeps_the_overlays_of_the_last_frames_only(self) -> None:
        board = Board("/zgs")
        assert board.overlay() is None
        for grey in range(20):
            board.show_picture("", picture(grey=grey))
        kept = [number for number in range(1, 21) if board.overlay("", number)]
        assert kept == list(range(21 - KEPT_FRAMES, 21))
        assert board.overlay() == board.overlay("", 20) == jpeg(19)

    def test_a_viewer_waits_for_news_of_its_camera_or_the_node(self) -> None:
        board = Board("/zgs")
        board.show_health(GOOD, {"front": GOOD, "left": GOOD})
        news: list[dict[str, Any]] = []

        def follow() -> None:
            state = board.state("front")
            while len(news) < 2:
                state = board.state("front", state["version"], 10.0)
                news.append(state)

        viewer = threading.Thread(target=follow)
        viewer.start()
        board.show_picture("left", picture())
        time.sleep(0.05)
        assert news == []
        board.show_picture("front", picture())
        while not news:
            time.sleep(0.01)
        board.show_notice("the node has gone")
        viewer.join(10)
        assert [state["notice"] for state in news] == ["", "the node has gone"]
        assert news[0]["frame"]["number"] == 1

    def test_cameras_are_those_that_the_node_has(self) -> None:
        board = Board("/zgs")
        board.show_health(GOOD, {"front": GOOD, "left": BAD})
        state = board.state("left")
        assert (state["cameras"], state["camera"]) == (["front", "left"], "left")
        assert state["camera_health"]["message"] == BAD.message
        assert board.state("rear")["camera"] == "front"
        board.show_health(GOOD, {})
        assert (board.state("left")["cameras"], board.state("left")["camera"]) == ([], "")

    def test_the_rate_is_that_of_the_frames(self) -> None:
        board = Board("/zgs")
        for _ in range(4):
            board.show_picture("", picture())
            time.sleep(0.05)
        assert 8 < board.state()["frame"]["rate"] < 20.5


PLACE = Placement((0.5, -0.25, 2.0), (1.0, 1.0, 1.0))
GOOD = Health(
    0,
    "4.9 results/s",
    {
        "results per second": "4.90",
        "received": "120",
        "latency p50 [ms]": "180.5",
        "latency p95 [ms]": "2500.0",
        "stage dino [ms]": "60.1",
        "stage clip [ms]": "90.0",
        "device": "cpu",
        "profile": "mini",
    },
)
BAD = Health(2, "no image for 31 s", {"received": "120", "last error": EVIL})


class Site:
    """A board and its server."""

    def __init__(self) -> None:
        self.board = Board("/zgs")
        self.asked: list[tuple[str, str]] = []
        self.server = ViewServer(self.board, self.ask, "127.0.0.1", 0)
        self.port = self.server.server_address[1]

    def ask(self, text: str, camera: str) -> dict[str, Any]:
        self.asked.append((text, camera))
        if text == "nothing":
            raise QueryFailed("there is no result yet")
        return {"camera": "", "segments": self.board.state()["frame"]["segments"]}

    def request(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        response = connection.getresponse()
        answer = response.status, response.headers, response.read()
        connection.close()
        return answer


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with made.server as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


OWN = ["localhost", "localhost:8088", "127.0.0.1:8088", "[::1]:8088", "192.168.1.20", "[fe80::1]"]
FOREIGN = ["", "example.com", "example.com:8088", "127.0.0.1.example.com", "localhost.example.com"]


@pytest.mark.parametrize(
    ("host", "own"), [*((h, True) for h in OWN), *((h, False) for h in FOREIGN)]
)
def test_only_addresses_and_own_names_are_own_hosts(host: str, own: bool) -> None:
    assert is_own_host(host) is own
    assert is_own_host(socket.gethostname())


QUERIES = [
    (b'{"text": "  a\\n mug "}', ("a mug", "")),
    (b'{"text": "mug", "camera": "front"}', ("mug", "front")),
    (b"", "must be JSON"),
    (b"[" * 4000, "must be JSON"),
    (b'"mug"', "must be JSON"),
    (b'{"text": 3}', "must be JSON"),
    (b'{"text": "mug", "camera": null}', "must be JSON"),
    (b'{"text": "\\ud800"}', "halves of characters"),
    (b'{"text": "mug", "camera": "\\udfff"}', "halves of characters"),
    (b'{"text": " "}', "1 to 200 characters, got 0"),
    (json.dumps({"text": "x" * 201}).encode(), "1 to 200 characters, got 201"),
]


@pytest.mark.parametrize(("body", "expected"), QUERIES)
def test_queries_are_read_or_refused(body: bytes, expected: Any) -> None:
    if isinstance(expected, tuple):
        assert read_query(body) == expected
    else:
        with pytest.raises(ValueError, match=expected):
            read_query(body)


class TestServer:
    def test_serves_the_page_which_can_run_nothing_but_its_own_script(self, site: Site) -> None:
        status, headers, body = site.request("/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"<title>zgs</title>" in body
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert b"http" not in body.replace(b"http-equiv", b"")

    @pytest.mark.parametrize(
        "path",
        ["/page.html", "/../setup.py", "/..%2fsetup.py", "//etc/passwd", "/etc/passwd", "/state/x"],
    )
    def test_there_are_no_files(self, site: Site, path: str) -> None:
        status, _, body = site.request(path)
        assert (status, "nothing here" in json.loads(body)["error"]) == (404, True)

    def test_an_address_that_is_none_is_refused(self, site: Site) -> None:
        status, _, body = site.request("HTTP://[/")  # in capitals http.client lets it pass
        assert (status, "can't be read" in json.loads(body)["error"]) == (400, True)

    def test_overlays_are_those_of_the_frames(self, site: Site) -> None:
        assert site.request("/overlay.jpg")[0] == 404
        for grey in (10, 200):
            site.board.show_picture("", picture(grey=grey))
        status, headers, body = site.request("/overlay.jpg")
        assert (status, headers["Content-Type"], body) == (200, "image/jpeg", jpeg(200))
        assert site.request("/overlay.jpg?frame=1")[2] == jpeg(10)
        for query in ("frame=99", "camera=rear"):
            assert site.request(f"/overlay.jpg?{query}")[0] == 404

    @pytest.mark.parametrize("after", ["", "-1", "x", "9" * 400])
    def test_odd_versions_get_the_state_at_once(self, site: Site, after: str) -> None:
        status, _, body = site.request(f"/state?after={after}&camera=%00")
        assert (status, json.loads(body)["node"]) == (200, "/zgs")

    def test_queries_are_answered(self, site: Site) -> None:
        site.board.show_picture("", picture(segment(1, "mug")))
        body = json.dumps({"text": "mug", "camera": "front"}).encode()
        status, _, answer = site.request("/query", "POST", body, Content_Type="application/json")
        assert (status, site.asked) == (200, [("mug", "front")])
        assert json.loads(answer)["segments"][0]["label"] == "mug"
        status, _, answer = site.request(
            "/query", "POST", b'{"text": "nothing"}', Content_Type="application/json"
        )
        assert (status, json.loads(answer)["error"]) == (503, "there is no result yet")

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Content_Type": "text/plain"}, 415),
            ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
            ({}, 415),
            ({"Content_Type": "application/json", "Origin": "http://example.com"}, 403),
            ({"Content_Type": "application/json", "Origin": "null"}, 403),
            ({"Content_Type": "application/json", "Host": "example.com"}, 403),
            ({"Content_Type": "application/json", "Content_Length": "99999999"}, 413),
            ({"Content_Type": "application/json", "Content_Length": "-1"}, 413),
        ],
    )
    def test_other_sites_can_not_ask(
        self, site: Site, headers: dict[str, str], status: int
    ) -> None:
        assert site.request("/query", "POST", b'{"text": "mug"}', **headers)[0] == status
        assert site.asked == []

    @pytest.mark.parametrize("path", ["/", "/state", "/overlay.jpg"])
    def test_other_sites_can_not_look(self, site: Site, path: str) -> None:
        assert site.request(path, Host="example.com")[0] == 403

    def test_viewers_that_do_not_read_hold_up_nobody(self, site: Site) -> None:
        site.board.show_picture("", picture())
        idle = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(20)]
        for connection in idle:
            connection.sendall(b"GET /overlay.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        began = time.monotonic()
        for _ in range(5):
            site.board.show_picture("", picture())
            assert site.request("/state")[0] == 200
        assert time.monotonic() - began < 5
        for connection in idle:
            connection.close()

    @pytest.mark.parametrize(
        "begun", [b"", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 9]
    )
    def test_slow_viewers_make_room(self, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
        monkeypatch.setattr(web_server, "MAX_CONNECTIONS", 3)
        site = Site()
        with site.server as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            for _ in range(10):
                held = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(3)]
                for connection in held:
                    connection.sendall(begun)
                began = time.monotonic()
                assert site.request("/state")[0] == 200
                assert time.monotonic() - began < 2
            server.shutdown()
            thread.join()

    def test_connections_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(web_server, "MAX_CONNECTIONS", 3)
        monkeypatch.setattr(web_server, "POLL_SECONDS", 1.0)
        site = Site()
        with site.server as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            version = site.board.state()["version"]
            poll = f"GET /state?after={version} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            held = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(3)]
            for connection in held:
                connection.sendall(poll)
            time.sleep(0.3)  # all of them are being answered
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                site.request("/state")
            end = time.monotonic() + 10
            while True:
                try:
                    assert site.request("/state")[0] == 200
                    break
                except (http.client.HTTPException, ConnectionError):
                    assert time.monotonic() < end
                    time.sleep(0.02)
            server.shutdown()
            thread.join()

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/state", {"Sec-Fetch-Site": "same-origin"}, 200),
            ("/state", {"Sec-Fetch-Site": "none"}, 200),
            ("/overlay.jpg", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, 403),
            ("/overlay.jpg", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "image"}, 403),
            ("/state", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 403),
            ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),
            ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}, 403),
        ],
    )
    def test_other_sites_can_not_embed_what_is_seen(
        self, site: Site, path: str, headers: dict[str, str], status: int
    ) -> None:
        site.board.show_picture("", picture())
        assert site.request(path, **headers)[0] == status

    def test_a_port_that_is_taken_is_told(self, site: Site) -> None:
        for address, port in (("127.0.0.1", site.port), ("203.0.113.1", 0)):
            with pytest.raises(AddressError, match=f"can't listen at {address} port {port}: "):
                ViewServer(site.board, site.ask, address, port)


CONTRAST = """(() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = rgb => { const [r, g, b] = rgb.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join("")
      || element.placeholder;
    if (!text || !element.offsetParent || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    let place = element;
    while (parse(getComputedStyle(place).backgroundColor)[3] < .7) place = place.parentElement;
    const front = light(parse(getComputedStyle(element).color).slice(0, 3));
    const back = light(parse(getComputedStyle(place).backgroundColor).slice(0, 3));
    found.push([text, (Math.max(front, back) + .05) / (Math.min(front, back) + .05)]);
  }
  return found;
})()"""
"""Texts that are seen, with the contrast to what they stand on (WCAG 2)."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


class TestInABrowser:
    @pytest.mark.parametrize("dark", [True, False])
    @pytest.mark.parametrize("width", [1280, 360])
    def test_everything_is_there_and_readable(
        self, site: Site, page: Page, width: int, dark: bool
    ) -> None:
        seen = [segment(1, "mug", track=7), segment(2, "x" * 100, place=PLACE)]
        site.board.show_picture("", picture(*seen))
        site.board.show_health(GOOD, {})
        page.problems.clear()
        page.open(site.server.url, width, 800, dark)
        page.wait_for("document.querySelectorAll('#list li').length === 2")
        page.run("document.querySelector('#list button').click()")
        page.run("(byId('text').value = 'a mug', byId('ask').requestSubmit())")
        page.wait_for("document.querySelectorAll('#found li').length === 2")
        page.run("document.querySelector('details').open = true")
        text = page.run("document.body.innerText")
        for part in (
            "2.08 m away (x 0.50, y \u22120.25, z 2.00)",
            "#7",
            "4.9 results/s",
            "Best for",
        ):
            assert part in text
        contrasts = page.run(CONTRAST)
        assert len(contrasts) > 30
        assert [pair for pair in contrasts if pair[1] < 4.5] == []
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.problems == []

    def test_texts_of_the_network_are_only_texts(self, site: Site, page: Page) -> None:
        site.board.show_picture("", picture(segment(1, EVIL)))
        site.board.show_health(BAD, {})
        page.open(site.server.url)
        page.wait_for(f"document.querySelector('#list .name').textContent === {json.dumps(EVIL)}")
        page.wait_for("byId('values').textContent.includes('onerror')")
        assert page.run("document.images.length") == 0
        assert page.run("document.title") == "zgs /zgs"

    def test_it_follows_the_chosen_camera(self, site: Site, page: Page) -> None:
        site.board.show_health(GOOD, {"front": GOOD, "left": GOOD})
        for camera, grey in (("front", 40), ("left", 220)):
            site.board.show_picture(camera, picture(segment(1, f"{camera} thing"), grey=grey))
        page.open(site.server.url)
        corner = "byId('picture').getContext('2d').getImageData(3, 3, 1, 1).data[0]"
        page.wait_for(f"Math.abs({corner} - 40) < 3")
        page.run("document.querySelectorAll('#tabs button')[1].click()")
        page.wait_for(f"Math.abs({corner} - 220) < 3")
        page.wait_for("byId('list').innerText.includes('left thing')")
        site.board.show_health(BAD, {"front": GOOD, "left": BAD})
        page.wait_for("byId('level').innerText === 'error'")


def test_the_page_is_in_one_file_that_needs_no_network() -> None:
    text = Path(web_server.PAGE).read_text("utf-8")
    assert "//" not in text.replace("// ", "")
    assert " src=" not in text
