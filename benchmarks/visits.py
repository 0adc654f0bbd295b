"""First visits to a page, as a browser makes them: recorded once in Chromium, then made again by programs, many at once.

Eight browsers on one machine would measure themselves, so each visitor is a program that asks for what the browser asked
for, over six connections, and no sooner than the browser did: it waits for the same answers, then for as long as the browser
was at work on them (`paced`), or not at all.
"""

import http.client
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

CONNECTIONS = 6  # of a browser to one server
# All that is in the window, as Chromium's own clock tells it.
SHOWN = """() => {
  const all = [...document.querySelectorAll('#text-results img')].filter((one) => one.getBoundingClientRect().top < innerHeight);
  return all.length && all.every((one) => one.complete && one.naturalWidth) && performance.timeOrigin + performance.now();
}"""
_STREAMS = ("/heartbeat/", "/queue/data")  # answers that do not end


@dataclass(frozen=True)
class Request:
    """One request of a visit, asked `pause` seconds after the answer to number `after` (None: after the start)."""

    method: str
    address: str
    body: bytes | None
    after: int | None
    pause: float

    @property
    def endless(self) -> bool:
        """Whether the answer is a stream that stays open."""
        return any(part in self.address for part in _STREAMS)


@dataclass(frozen=True)
class Visit:
    """A recorded visit: its requests in order, and what the browser did after the last answer until all was shown."""

    server: str
    session: str
    requests: tuple[Request, ...]
    after: int
    pause: float
    seconds: float

    @classmethod
    def recorded(cls, url: str) -> "Visit":
        """A first visit in Chromium, nothing in its cache, until the images are shown."""
        from playwright.sync_api import sync_playwright
        from zoo.demos.screenshot import CHROMIUM_FLAGS, find_chromium

        seen, ended = [], {}
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
            tab = browser.new_page()
            tab.on("request", lambda request: seen.append(request) if request.url.startswith(url) else None)
            tab.on("requestfinished", lambda request: ended.update({request: _end(request)}))
            began = time.time()
            tab.goto(url)
            shown = tab.wait_for_function(SHOWN, timeout=120_000).json_value() / 1000
            tab.wait_for_timeout(500)  # answers that are on their way
            asked = list(seen)  # more may come meanwhile
            starts = {request: request.timing["startTime"] / 1000 for request in asked}
            bodies = {request: request.post_data_buffer for request in asked}
            browser.close()
        # What was answered before the end belongs to the visit; a stream has begun by then.
        asked = [one for one in asked if 0 < starts[one] < shown and (one in ended or _is_stream(one.url))]
        asked.sort(key=starts.__getitem__)
        ends = [ended.get(one, float("inf")) for one in asked]
        session = next(one.url.rsplit("/", 1)[1] for one in asked if "/heartbeat/" in one.url)
        requests = []
        for one in asked:
            after = _last_before(ends, starts[one])
            pause = starts[one] - (began if after is None else ends[after])
            requests.append(Request(one.method, one.url.removeprefix(url.rstrip("/")), bodies[one], after, pause))
        last = _last_before(ends, shown)
        return cls(url, session, tuple(requests), last, shown - ends[last], shown - began)

    def made(self, *, paced: bool) -> float:
        """Seconds of one more visitor, from the first request until all is there, and shown if `paced`."""
        return _Visitor(self, paced).seconds()


class _Visitor:
    """One visitor on his way."""

    def __init__(self, visit: Visit, paced: bool) -> None:
        self.visit, self.paced = visit, paced
        self.session = secrets.token_hex(8)[: len(visit.session)]
        self.answered = [threading.Event() for _ in visit.requests]
        self.streams: list[http.client.HTTPConnection] = []
        self.mine = threading.local()

    def seconds(self) -> float:
        """Makes the visit."""
        began = time.perf_counter()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            asked = [pool.submit(self._ask, number) for number in range(len(self.visit.requests))]
            if self.paced:
                self.answered[self.visit.after].wait()
                time.sleep(self.visit.pause)
            else:
                for one in asked:
                    one.result()
            seconds = time.perf_counter() - began
        for one in asked:
            one.result()  # raises what went wrong
        for stream in self.streams:
            stream.close()
        return seconds

    def _ask(self, number: int) -> None:
        request = self.visit.requests[number]
        if self.paced:
            if request.after is not None:
                self.answered[request.after].wait()
            time.sleep(request.pause)
        connection = getattr(self.mine, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(urlsplit(self.visit.server).netloc, timeout=120)
        mine, theirs = self.session, self.visit.session
        body = request.body and request.body.replace(theirs.encode(), mine.encode())
        headers = {"Accept-Encoding": "gzip, deflate, br"} | ({"Content-Type": "application/json"} if body else {})
        connection.request(request.method, request.address.replace(theirs, mine), body, headers)
        answer = connection.getresponse()
        if request.endless:
            self.streams.append(connection)
            connection = None
        else:
            answer.read()
        self.mine.connection = connection
        if answer.status != 200:
            raise RuntimeError(f"{request.address}: status {answer.status}")
        self.answered[number].set()


def together(visit: Visit, visitors: int, *, paced: bool) -> list[float]:
    """Seconds of each of some visitors who come at the same moment."""
    with ThreadPoolExecutor(visitors) as pool:
        return list(pool.map(lambda _: visit.made(paced=paced), range(visitors)))


def _is_stream(address: str) -> bool:
    return any(part in address for part in _STREAMS)


def _end(request: object) -> float:
    return (request.timing["startTime"] + request.timing["responseEnd"]) / 1000


def _last_before(ends: Sequence[float], moment: float) -> int | None:
    """The answer that came last before a moment."""
    before = [number for number, end in enumerate(ends) if end <= moment]
    return max(before, key=ends.__getitem__, default=None)
