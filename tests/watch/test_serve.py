"""The server: what it shows, what it refuses, and a page that follows a training in another process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import watched

from runtrue.watch.record import FILE, Recorder

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from runtrue.watch.serve.app import Site
from runtrue.watch.serve.guard import Guard, host_of, is_loopback, known_here
from runtrue.watch.serve.runs import Runs
from runtrue.watch.serve.server import url

HERE = "127.0.0.1:8765"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str


def ask(app: Any, target: str, *, hosts: Sequence[str] = (HERE,), method: str = "GET") -> Answer:
    """One request, without a network."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", host.encode()) for host in hosts], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8765),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    headers = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(one.get("body", b"") for one in sent[1:]).decode())


def served(root: Path, token: str | None = None, host: str = "127.0.0.1") -> Guard:
    return Guard(Site(Runs.below(root)).app(), known_here(host), token)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runs, one of them deeper, beside a record that must not be seen."""
    folder = tmp_path / "runs"
    watched.healthy(folder / "well")
    watched.faulty(folder / "deep" / "er" / "ill")
    watched.record(tmp_path / "secret", [1.0], model="TheSecretModel")
    return folder


# What is shown


def test_the_list_holds_every_run_below_the_folder_with_its_verdict(root: Path) -> None:
    answer = ask(served(root), "/")
    assert answer.status == 200 and "TheSecretModel" not in answer.text and "secret" not in answer.text
    assert 'href="run?run=deep%2Fer%2Fill"' in answer.text and "diverging at step 40" in answer.text
    assert 'href="run?run=well"' in answer.text and "No fault so far" in answer.text and "2 runs below" in answer.text


def test_a_run_that_is_the_folder_itself(root: Path) -> None:
    assert 'href="run?run=."' in ask(served(root / "well"), "/").text
    assert ask(served(root / "well"), "/run?run=.").status == 200


def test_no_run_yet(tmp_path: Path) -> None:
    assert "There is no run here yet" in ask(served(tmp_path), "/").text


def test_a_run_and_a_comparison_have_the_blocks_of_the_static_pages(root: Path) -> None:
    page = ask(served(root), "/run?run=deep/er/ill").text
    assert (
        'data-name="loss"' in page
        and "diverging at step 40" in page
        and 'data-follow="events?run=deep%2Fer%2Fill' in page
    )
    both = ask(served(root), "/compare?run=well&run=deep/er/ill").text
    assert "What differs" in both and 'href="run?run=well"' in both


def test_names_do_nothing(root: Path) -> None:
    watched.hostile(root / "<b onclick=alert(3)>&\"'")
    app = served(root)
    for target in (
        "/",
        "/run?run=%3Cb%20onclick%3Dalert(3)%3E%26%22%27",
        "/compare?run=well&run=%3Cb%20onclick%3Dalert(3)%3E%26%22%27",
    ):
        answer = ask(app, target)
        assert answer.status == 200
        assert not any(bad in answer.text for bad in ("<b onclick", "<img", "<script>alert")), target


def test_a_record_that_is_damaged_or_not_yet_written_is_said_to_be(root: Path) -> None:
    (root / "bad").mkdir()
    (root / "bad" / FILE).write_bytes(b"no database" * 100)
    (root / "new").mkdir()
    (root / "new" / FILE).write_bytes(b"")
    app = served(root)
    assert ask(app, "/").text.count("not readable") == 2
    for name in ("bad", "new"):
        answer = ask(app, f"/run?run={name}")
        assert answer.status == 200 and "This record cannot be read (yet)" in answer.text
        assert ask(app, f"/compare?run=well&run={name}").status == 404


def test_a_run_that_is_written_says_so_and_nothing_appears_beside_one_that_ended(root: Path) -> None:
    watched.record(root / "live", [1.0] * 9, close=False)
    text = ask(served(root), "/").text
    assert "going on" in text and "ended" in text
    ask(served(root), "/run?run=well")
    assert [path.name for path in (root / "well").iterdir()] == [FILE]


def test_scripts_are_the_only_files(root: Path) -> None:
    for name in ("page.js", "live.js"):
        answer = ask(served(root), f"/{name}")
        assert answer.status == 200 and answer.headers["content-type"].startswith("text/javascript")
    for path in (
        "/page.py",
        "/templates/live.js",
        "/runs.html.j2",
        "/watch.sqlite",
        "/well/watch.sqlite",
        "/%2e%2e/secret",
        "/favicon.ico",
    ):
        assert ask(served(root), path).status == 404


# What is refused


@pytest.mark.parametrize(
    "name",
    [
        "../secret", "..", "deep/../../secret", "/etc", "./../secret", "%00", "deep/er", "", "well/", "..%2fsecret",
        "\\..\\secret", "linked", "inside/linked",
    ],
)  # fmt: skip
def test_nothing_outside_of_the_folder_can_be_read(name: str, root: Path) -> None:
    (root / "linked").symlink_to(root.parent / "secret")
    (root / "inside").mkdir()
    (root / "inside" / "linked").symlink_to(root.parent / "secret", target_is_directory=True)
    app = served(root)
    if name != "well/":  # a slash at the end names the same folder
        assert ask(app, f"/run?run={name}").status == 404
        assert ask(app, f"/compare?run=well&run={name}").status in (400, 404)
    assert "TheSecretModel" not in ask(app, "/").text + ask(app, f"/run?run={name}").text


def test_an_absolute_path_and_a_linked_record_are_no_runs(root: Path) -> None:
    (root / "file").mkdir()
    (root / "file" / FILE).symlink_to(root.parent / "secret" / FILE)
    app = served(root)
    assert ask(app, f"/run?run={root.parent / 'secret'}").status == 404
    assert ask(app, "/run?run=file").status == 404 and "file" not in Runs.below(root).names()


def test_a_folder_that_is_reached_by_a_link_may_be_served(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    assert ask(served(root.parent / "link"), "/run?run=well").status == 200


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"], ["evil.example:8765"], ["127.0.0.1.evil.example"], ["192.168.1.5:8765"], [""], [],
        [HERE, "evil.example"], ["[::2]:80"],
    ],
)  # fmt: skip
def test_another_name_of_the_host_is_refused(hosts: list[str], root: Path) -> None:
    answer = ask(served(root), "/", hosts=hosts)
    assert answer.status == 421 and "well" not in answer.text


@pytest.mark.parametrize("host", [HERE, "127.0.0.1", "localhost:8765", "LOCALHOST", "[::1]:8765", "[::1]"])
def test_the_names_of_this_machine_are_known(host: str, root: Path) -> None:
    assert ask(served(root), "/", hosts=[host]).status == 200


def test_with_another_address_any_address_is_known_but_no_foreign_name(root: Path) -> None:
    app = served(root, "token", "0.0.0.0")
    assert ask(app, "/token/", hosts=["192.168.1.5:8765"]).status == 200
    assert ask(app, "/token/", hosts=["evil.example"]).status == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_runs_can_only_be_read(method: str, root: Path) -> None:
    assert ask(served(root), "/", method=method).status == 405


def test_without_the_token_nothing_is_answered(root: Path) -> None:
    app = served(root, "s3cret-token", "0.0.0.0")
    for path in (
        "/",
        "/run?run=well",
        "/s3cret-toke/",
        "/s3cret-token2/",
        "/S3CRET-TOKEN/",
        "/vega.js",
        "/x/s3cret-token/",
        "//s3cret-token/",
        "/%F0%9F%98%80/",
    ):
        answer = ask(app, path)
        assert answer.status == 403 and "s3cret" not in answer.text and "well" not in answer.text
    assert ask(app, "/s3cret-token").headers["location"] == "/s3cret-token/"
    assert ask(app, "/s3cret-token/run?run=well").status == 200
    assert ask(app, "/s3cret-token/s3cret-token/").status == 404


def test_every_answer_forbids_other_sites_to_use_it(root: Path) -> None:
    for target in ("/", "/run?run=none", "/run?run=well", "/live.js"):
        headers = ask(served(root), target).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer" and headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] in ("no-store", "no-cache")
        assert "access-control-allow-origin" not in headers


def test_too_few_and_too_many_runs_to_compare(root: Path) -> None:
    app = served(root)
    assert ask(app, "/compare?run=well").status == ask(app, "/compare?run=well&run=well").status == 400
    assert ask(app, "/compare?" + "&".join(f"run={i}" for i in range(13))).status == 400
    assert ask(app, "/run").status == ask(app, "/run?run=well&run=well").status == 404


def test_names_in_a_host_header() -> None:
    assert [host_of(text) for text in ("a:1", "a", "[::1]:2", "[::1]", "A:1")] == ["a", "a", "::1", "::1", "a"]
    assert is_loopback("127.8.9.1") and is_loopback("::1") and not is_loopback("0.0.0.0") and not is_loopback("x")


def test_the_address_that_is_printed() -> None:
    assert url("127.0.0.1", 80, None) == "http://127.0.0.1:80/" and url("::1", 80, "t") == "http://[::1]:80/t/"
    assert "0.0.0.0" not in url("0.0.0.0", 80, "t")


# What has changed


def test_a_change_is_told_once_and_the_stream_ends_with_the_server(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtrue.watch.serve import app as module

    monkeypatch.setattr(module, "LOOK", 0.01)
    looks = iter(range(400))
    site = Site(Runs.below(root), stopping=lambda: next(looks, None) is None)
    recorder = Recorder(root / "well" / FILE)

    class Reader:
        async def is_disconnected(self) -> bool:
            return False

    async def told() -> list[str]:
        found = []
        stream: AsyncIterator[str] = site.changes(Reader(), ("well",), site.mark(("well",)))  # type: ignore[arg-type]
        async for line in stream:
            found.append(line)
            if len(found) == 1:
                recorder.losses(60, [0.01], [0.01])
                recorder.flush()
        return found

    assert asyncio.run(told()) == ["retry: 2000\n\n", "event: changed\ndata: \n\n"]
    recorder.close()


def test_a_page_is_made_anew_only_if_its_record_has_changed(root: Path) -> None:
    site = Site(Runs.below(root))
    app = Guard(site.app(), known_here("127.0.0.1"))
    first = ask(app, "/run?run=well").text
    site.spent = -1.0
    assert ask(app, "/run?run=well").text == first and site.spent == -1.0
    recorder = Recorder(root / "well" / FILE)
    recorder.losses(60, [77.0], [0.01])
    recorder.flush()
    assert "77" in ask(app, "/run?run=well").text != first and site.spent > 0
    recorder.close()


# The whole, in a browser

TRAINING = """
import sys, time, torch, runtrue
from torch import nn
from runtrue.datasets import fashion_mnist
torch.set_num_threads(1)
torch.manual_seed(0)
images, labels = fashion_mnist(flat=True, limit=512)
model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with runtrue.watch(model, optimizer, run=sys.argv[1], every=10) as watching:
    for step in range(100_000):
        rows = torch.randint(512, (32,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        watching.step(loss)
        if step % 100 == 99:
            watching.epoch(train_accuracy=0.5, val_accuracy=0.4)
        time.sleep(0.01)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    (tmp_path / "runs").mkdir()
    command = [sys.executable, "-m", "runtrue", "serve", str(tmp_path / "runs"), "--port", "0"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    assert started.stdout is not None
    line = started.stdout.readline()
    yield line.partition(": ")[2].split(" ")[0], started
    if started.poll() is None:
        started.kill()
        started.communicate()


def environment() -> dict[str, str]:
    import runtrue

    return {**os.environ, "PYTHONPATH": str(Path(runtrue.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_page_follows_a_training_in_another_process(server: Any, tmp_path: Path, open_page: Any) -> None:
    address, started = server
    seen = open_page(address)
    seen.until("document.querySelector('#live').textContent === 'following'")
    training = subprocess.Popen([sys.executable, "-c", TRAINING, str(tmp_path / "runs" / "now")], env=environment())
    try:
        seen.until("document.querySelector('a[href=\"run?run=now\"]') !== null")
        seen.page.evaluate("document.querySelector('input[name=run]').checked = true")
        seen.until("Number((document.querySelector('tr[data-run=now] .number') || {}).textContent) > 30")
        assert seen.page.evaluate("document.querySelector('input[name=run]').checked"), "a choice outlives an update"
        seen.page.click("a[href='run?run=now']")
        seen.until("document.querySelectorAll('.plot svg, .plot canvas').length > 5")
        seen.page.evaluate("window.mark = document.querySelector('[data-name=loss] .plot'); mark.same = true")
        steps = "Number(document.querySelector('.stats dd').textContent.replace(',', ''))"
        before = seen.page.evaluate(steps)
        accuracy = "document.querySelector('[data-name=accuracy-by-epoch] svg') !== null"
        seen.until(f"Number(window.mark.dataset.exchanged || 0) >= 2 && {accuracy}", 180)
        assert seen.page.evaluate(steps) > before
        assert seen.page.evaluate("document.querySelector('[data-name=loss] .plot').same"), "the chart itself stayed"
        drawn = "Math.max(...window.mark.made.view.data('rows').map(row => row.step))"
        assert seen.page.evaluate(drawn) > before
        assert "going on" in seen.page.locator(".subtitle").inner_text()
    finally:
        training.kill()
        training.wait()
    assert seen.complaints == [] and all(url.startswith((address, "data:")) for url in seen.requests)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=15)
    assert (started.returncode, out, err) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1000, 390])
def test_runs_are_chosen_and_compared(server: Any, tmp_path: Path, open_page: Any, width: int) -> None:
    address, _ = server
    for make in watched.ALL:
        make(tmp_path / "runs" / make.__name__)
    watched.healthy(tmp_path / "runs" / watched.HOSTILE.replace("/", "")[:20])
    seen = open_page(address, viewport={"width": width, "height": 800})
    boxes = seen.page.locator("input[name=run]")
    for place in range(boxes.count()):
        boxes.nth(place).check()
    assert seen.page.locator("#chosen").inner_text() == f"{len(watched.ALL) + 1} chosen"
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    seen.page.click("button.act")
    seen.until("document.querySelectorAll('.plot').length > 3")
    seen.until("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg, canvas'))")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.complaints == [] and seen.dialogs == []


@pytest.mark.slow
def test_a_million_steps_are_on_the_screen_within_a_second(server: Any, tmp_path: Path, open_page: Any) -> None:
    address, _ = server
    million(tmp_path / "runs" / "long")
    seen = open_page(f"{address}run?run=long")
    seen.until("performance.getEntriesByName('first-contentful-paint').length > 0")
    painted = seen.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert seen.page.locator(".stats").inner_text().splitlines()[1] == "1,000,000"
    sys.stderr.write(f"first paint after {painted:.0f} ms\n")  # told, not judged: machines differ
    seen.until(
        "[...document.querySelectorAll('details[open] .plot, section > figure .plot')].every(p => p.querySelector('svg, canvas'))"
    )
    assert seen.complaints == []


def million(folder: Path) -> None:
    """As a training would have written it: losses by packets, 2,000 readings of 50 layers."""
    record = watched.record(folder, (), layers=())
    recorder = Recorder(record.path)
    losses, times = [2.0, 1.9] * 256, [0.01] * 512
    for first in range(0, 1_000_000, 512):
        recorder.losses(first, losses[: 1_000_000 - first], times[: 1_000_000 - first])
    from runtrue.watch.record import Reading

    for step in range(0, 1_000_000, 500):
        numbers = {
            (f"layers.{i}", what): 1.0 + step
            for i in range(50)
            for what in ("std", "signal_rms", "grad_norm", "weight_norm")
        }
        recorder.reading(Reading(step, time.time(), numbers))
    recorder.close()
