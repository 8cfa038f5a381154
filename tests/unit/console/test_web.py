"""What surrounds every answer: headers, limits, one form for problems."""

from __future__ import annotations

from pathlib import Path

import pytest
from console_client import Console

from services.console.access import Role
from services.console.assets import CHART, read_assets
from services.console.web import BODY_BYTES_MAX
from services.mesh.errors import Fatal

STATIC = Path(__file__).parents[3] / "services/console/static"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Console:
    return Console(tmp_path_factory.mktemp("console"))


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/session", "/api/models", "/nowhere", "/static/none.js"])
def test_every_answer_has_the_headers(console: Console, path: str) -> None:
    headers = console.client().get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["trusted-types"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers
    assert headers["cache-control"] == ("no-cache" if path in ("/", "/static/main.js") else "no-store")


def test_files_are_sent_again_only_when_they_changed(console: Console) -> None:
    client = console.client()
    tag = client.get("/").headers["etag"]
    assert client.get("/", headers={"if-none-match": tag}).status_code == 304
    assert client.get("/", headers={"if-none-match": '"other"'}).status_code == 200


def test_a_body_that_is_too_large_or_of_unknown_length_is_not_read(console: Console) -> None:
    client = console.signed_in(Role.ADMIN)
    large = client.post("/api/backtests", content=b"x" * (BODY_BYTES_MAX + 1))
    assert large.status_code == 413
    assert large.headers["content-type"] == "application/problem+json"
    assert "content-security-policy" in large.headers
    assert client.post("/api/backtests", content=iter([b"x"])).status_code == 413


def test_what_does_not_fit_is_named_and_not_repeated(console: Console) -> None:
    client = console.signed_in(Role.ADMIN)
    for body in ({}, {"policy": 7}, {"policy": "x", "more": 1}, {"policy": ""}):
        answer = client.post("/api/backtests", json=body)
        assert answer.status_code == 422
        assert "body.policy" in answer.json()["detail"] or "body.more" in answer.json()["detail"]
    assert client.get("/api/dead-letters?code=<script>").status_code == 422
    assert client.get("/api/dead-letters?limit=100000").status_code == 422
    assert client.post("/api/dead-letters/requeue", json={"places": [[0]]}).status_code == 422
    assert client.post("/api/dead-letters/requeue", json={"places": [[0, i] for i in range(201)]}).status_code == 422
    assert client.post("/api/reviews/1/verdict", json={"verdict": "maybe", "why": "x"}).status_code == 422


def test_a_requeue_is_in_the_audit_trail_before_it_is_done(console: Console) -> None:
    client = console.signed_in(Role.RISK)
    console.mesh.asked.clear()
    assert client.post("/api/dead-letters/requeue", json={"places": [[3, 41]]}).status_code == 200
    (noted, (session, action, subject, detail)), (done, given) = console.mesh.asked
    assert (noted, session.name, action, subject) == ("note", "risk-1", "dead_letter.requeue", "topic:dead-letters.v1")
    assert detail == {"places": ["3:41"]}
    assert (done, given) == ("requeue", ([(3, 41)],))


def test_a_backtest_beside_no_mesh_says_where_to_run_it(console: Console) -> None:
    client = console.signed_in(Role.RISK)
    assert client.get("/api/backtests").json() == {"backtests": [], "can_run": False}
    answer = client.post("/api/backtests", json={"policy": "name: x"})
    assert answer.status_code == 409
    assert "weir policy backtest" in answer.json()["detail"]
    assert client.get("/api/backtests/..%2Fusers.json").status_code in (404, 409)


def test_the_stream_is_one_and_ends(console: Console) -> None:
    answer = console.signed_in(Role.VIEWER).get("/api/live")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == "event: past\ndata: {}\n\n"


def test_no_chart_is_one_line_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="make setup"):
        read_assets(tmp_path / CHART)
    (tmp_path / CHART).write_text("/* */")
    found = read_assets(tmp_path / CHART)
    assert {"index.html", "main.js", "views/flow.js", CHART} <= set(found)


def test_the_page_holds_no_inline_script_style_or_handler() -> None:
    html = (STATIC / "index.html").read_text()
    assert "style=" not in html
    assert "<style" not in html
    assert "onclick" not in html
    assert html.count("<script ") == html.count("<script src=") + html.count('<script type="module" src=')


def test_nothing_turns_text_into_markup_or_code() -> None:
    """The browser forbids it too (trusted types); this says so before anybody opens one."""
    forbidden = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc")
    found = [f"{path.name}: {word}" for path in STATIC.rglob("*.js") for word in forbidden if word in path.read_text()]
    assert not found


def test_nothing_is_loaded_from_elsewhere() -> None:
    outside = [
        path.name
        for path in STATIC.rglob("*.*")
        if path.suffix in (".js", ".css", ".html")
        and any(f"{scheme}://" in line for scheme in ("http", "https") for line in path.read_text().splitlines()
                if "www.w3.org" not in line)
    ]  # fmt: skip
    assert not outside
