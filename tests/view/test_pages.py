"""The live page without a browser: who is answered, what is shown, what is hidden, what is taken."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentloop.cli import run_cli
from agentloop.store import Store
from agentloop.store.browse import Page, Wanted, criteria_of, read_page
from agentloop.store.inbox import inbox_of
from agentloop.store.labels import Place, candidate_hash, read_labels, say
from agentloop.store.writer import Writer
from tests.builders import command
from tests.view.stores import (
    HOSTILE,
    RUN,
    attempt,
    begin,
    fill,
    grade_again,
    graded,
    hostile,
    item_id,
    rubric_in,
    settle,
    usual,
)

pytest.importorskip("starlette", reason="needs the extra `view`")
from starlette.testclient import TestClient

from agentloop.view import showing
from agentloop.view.app import Pages, named
from agentloop.view.guard import Guard

TOKEN = "the-token"
HERE = "http://127.0.0.1:8000"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bare(path: Path, who: str = "") -> TestClient:
    """Return somebody who has no token."""
    guarded = Guard(Pages(Store(path), who=who).app, TOKEN, 8000)
    return TestClient(guarded, base_url=HERE)


def known(path: Path, who: str = "") -> TestClient:
    """Return somebody who has one, and has seen nothing of the run."""
    client = bare(path, who)
    assert client.get("/static/view.css", params={"token": TOKEN}).status_code == 200
    return client


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return fill(tmp_path)


@pytest.fixture
def client(path: Path) -> TestClient:
    return known(path)


def post(
    client: TestClient, number: int, headers: dict[str, str] | None = None, **more: Any
) -> Any:
    last = usual(number)[-1]
    place = Place(item_id(number), 0, last.round, candidate_hash(last.candidate))
    label = {"run": RUN, "item": place.item, "candidate": named(place)}
    own = {"origin": HERE} if headers is None else headers
    return client.post("/label", json={**label, **more}, headers=own)


# Who is answered


@pytest.mark.parametrize(
    "address", ["/", "/item/0", "/label", "/live", "/static/view.js", "/nowhere"]
)
def test_without_the_token_nothing_is_answered(path: Path, address: str) -> None:
    for query in ({}, {"token": ""}, {"token": TOKEN[:-1]}, {"token": TOKEN + "é"}):
        answer = bare(path).get(address, params=query)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert bare(path).get(address, headers={"cookie": 'agentloop_8000="x'}).status_code == 403


def test_the_token_moves_from_the_address_into_a_cookie_of_ours_alone(path: Path) -> None:
    answer = bare(path).get("/", params={"token": TOKEN, "run": RUN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?run=seen")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    away = bare(path).get(HERE + "//evil.example/", params={"token": TOKEN}, follow_redirects=False)
    assert away.headers["location"] == "/evil.example/"


FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1",
    "127.0.0.1:8001",
    "127.0.0.1.nip.io:8000",
    "",
]


@pytest.mark.parametrize("host", FOREIGN)
def test_another_name_for_this_machine_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/", params={"token": TOKEN}, headers={"host": host})
    assert answer.status_code == 421
    assert RUN not in answer.text


def test_every_answer_keeps_its_page_from_reaching_elsewhere(
    client: TestClient, path: Path
) -> None:
    for answer in (client.get("/"), client.get("/static/view.css"), bare(path).get("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_pages_name_nothing_that_lies_elsewhere(client: TestClient) -> None:
    for address in ("/", f"/item/{item_id(3)}", "/label"):
        text = client.get(address).text
        assert re.findall(r'(?:src|href|action)="(?!/|data:,|"|#main)[^"]*"', text) == []
        assert "style=" not in text
        assert " on" + "click" not in text


def test_only_our_own_pages_may_post(client: TestClient, path: Path) -> None:
    for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}):
        assert post(client, 1, headers, said="good").status_code == 403
    form = client.post("/label", data={"said": "good"}, headers={"origin": HERE})
    assert form.status_code == 415
    assert post(client, 1, said="x" * 70_000).status_code == 413
    assert client.put("/label").status_code == 405
    assert post(bare(path), 1, said="good").status_code == 403
    assert read_labels(Store(path), RUN) == []


# What is shown


def test_items_are_found_by_what_became_of_them(path: Path) -> None:
    store = Store(path)

    def found(**wanted: Any) -> set[int]:
        page = read_page(store, RUN, Wanted(**wanted))
        assert page.found == len(page.rows)
        return {int(row.item, 16) for row in page.rows}

    verdicts = {n: usual(n)[-1].accepted for n in range(12)}
    scores = {n: usual(n)[-1].grade.score for n in range(12)}  # type: ignore[union-attr]
    assert found() == set(range(12))
    assert found(verdict="accepted") == {n for n, accepted in verdicts.items() if accepted}
    assert found(reason="below_threshold") == {
        n for n, accepted in verdicts.items() if not accepted
    }
    assert found(low=0.5, high=0.8) == {n for n, score in scores.items() if 0.5 <= score <= 0.8}
    assert found(criterion="useful") == {n for n in range(12) if n % 4 in (2, 3)}
    assert found(text="BELL NUMBER 1") == {1, 10, 11}
    assert found(text="cast in 1542, 3 years") == {3}
    assert found(text='no such "text"') == set()
    assert found(text="%") == set()
    for name in ("question", "answer", "passage", "{", ":"):
        assert found(text=name) == set()
    assert criteria_of(store, RUN) == ["faithful", "useful"]


def test_pages_follow_each_other_and_what_comes_meanwhile_moves_nothing(tmp_path: Path) -> None:
    path = fill(tmp_path, range(120))
    store = Store(path)
    first = read_page(store, RUN)
    with Writer(path) as writer:
        settle(writer, 500, *usual(500))
    pages: list[Page] = [first]
    while (after := pages[-1].next) is not None:
        pages.append(read_page(store, RUN, after=after))
    items = [int(row.item, 16) for page in pages for row in page.rows]
    assert items == list(reversed(range(120)))
    assert [len(page.rows) for page in pages] == [50, 50, 20]


def test_the_list_leads_to_the_older_ones(tmp_path: Path) -> None:
    client = known(fill(tmp_path, range(60)))
    text = client.get("/", params={"text": "bell"}).text
    (following,) = re.findall(r'id="following" href="([^"]+)"', text)
    older = client.get(following.replace("&amp;", "&")).text
    assert older.count("data-row") == 10
    assert item_id(0) in older


def test_a_story_shows_what_changed_and_where_the_quotes_stand(client: TestClient) -> None:
    text = client.get(f"/item/{item_id(3)}").text
    assert "<del>1542</del><ins>1642</ins>" in text
    assert '<mark title="quoted for faithful">cast in 1642</mark>' in text
    assert "revision 1" in text
    assert "say when" in text


def test_two_gradings_stand_beside_each_other(path: Path) -> None:
    grade_again(path, rubric_in(path.parent), 6)
    client = known(path)
    text = client.get(f"/item/{item_id(6)}", params={"beside": 1}).text
    assert "critic/two" in text
    assert 'class="apart"' in text
    assert client.get("/", params={"grading": 1}).text.count("data-row") == 1


@pytest.mark.parametrize(
    "address",
    ["/item/ffff", "/?run=other", "/?grading=7", "/item/0?beside=9", "/x", "/?run=%ED%A0%80"]
    + [f"/{at}={'9' * 5000}" for at in ("?grading", f"item/{item_id(0)}?beside", "label?grading")],
    ids=lambda address: address[:30],
)
def test_what_is_not_there_is_one_line(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert answer.text.count('role="alert"') == 1


def test_a_run_is_followed_while_its_writer_has_the_store(path: Path, client: TestClient) -> None:
    with Writer(path) as writer:
        before = client.get("/live").json()
        settle(writer, 77, *usual(77))
        writer.flush()
        after = client.get("/live").json()
    assert after["settled"] == before["settled"] + 1
    assert after["state"].startswith("running, stored until ")


ODD = [
    "é",
    "\x1b[31m",
    "\u202e",
    "\0",
    "</script>",
    "{{ 7 * 7 }}",
    "\U000e0041",
    "a" * 1_000_000,
]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_hostile_texts_are_shown_as_texts(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "odd.duckdb"
    stored = HOSTILE + odd
    with Writer(path) as writer:
        begin(writer, rubric_in(tmp_path))
        first = hostile(0, stored, stored)
        last = hostile(1, stored + "!", stored)
        seed = {"passage": stored, "<b>": [stored[:500]], stored: stored}
        item = settle(writer, 1, first, last, seed=seed)
        writer.append(
            ("calls", {"rid": "k", "run": RUN, "key": stored, "item": item, "model": stored})
        )
    client = known(path)
    for address in ("/", "/?text=red", f"/item/{item}", "/label"):
        answer = client.get(address)
        assert answer.status_code == 200, answer.text[:1000]
        assert "<script>document" not in answer.text
        assert "<b>" not in answer.text
        assert not set("\x1b\u202e\0") & set(answer.text)
        assert len(answer.content) < 300_000
    place = Place(item, 0, 1, candidate_hash(last.candidate))
    at = {"run": RUN, "item": item, "candidate": named(place), "said": "bad"}
    machine = client.post("/label", json=at, headers={"origin": HERE}).json()["machine"]
    assert "<b>" not in machine
    assert not set("\x1b\u202e\0") & set(machine)
    assert len(machine) < 50_000
    assert r"\x1b[31mred \u202egnp.exe" in client.get(f"/item/{item}").text


def test_a_long_text_is_cut_and_says_so() -> None:
    ((_, bits),) = showing.plain_fields({"a": "a" * 30_000})
    assert [len(bit.text) for bit in bits if bit.kind != "cut"] == [10_000, 10_000]
    assert bits[1].text == "… 10,000 more characters …"


def test_very_many_fields_and_very_long_names_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "wide.duckdb"
    fields = {"n" * 1_000_000: "x", **{f"field {n}": "word " * 200 for n in range(2000)}}
    with Writer(path) as writer:
        begin(writer, rubric_in(tmp_path))
        item = settle(writer, 1, attempt(0, "a", graded("partly", "no")), seed=fields)
    client = known(path)
    for address in (f"/item/{item}", "/label"):
        text = client.get(address).text
        assert "1,961 more fields" in text
        assert len(text) < 150_000


def test_the_store_is_closed_when_a_page_is_made(
    client: TestClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run can take its store while a long story is still being compared."""
    told, free = showing.told, []

    def while_it_is_told(*given: Any) -> Any:
        code = "import sys, duckdb; duckdb.connect(sys.argv[1])"
        free.append(subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode)
        return told(*given)

    monkeypatch.setattr("agentloop.view.showing.told", while_it_is_told)
    assert client.get(f"/item/{item_id(3)}").status_code == 200
    assert free == [0]


def test_a_score_is_not_rounded_up(tmp_path: Path) -> None:
    path = tmp_path / "near.duckdb"
    grade = graded("partly", "no").model_copy(update={"score": 0.5999})
    with Writer(path) as writer:
        begin(writer, rubric_in(tmp_path))
        item = settle(writer, 1, attempt(0, "a", grade))
    client = known(path)
    for address in ("/", f"/item/{item}"):
        assert ">0.59</" in client.get(address).text
        assert "0.60" not in client.get(address).text
    assert "score 0.59" in Store(path).item(item, RUN).why()


def test_the_page_tells_what_status_tells(client: TestClient) -> None:
    told = client.get("/live").json()
    assert told["state"].startswith(("running, stored until ", "open, and nothing was stored for "))
    assert told.keys() >= {"target", "variety", "calls", "time"}


# What is hidden, and what is taken


def queue(client: TestClient, count: int) -> Iterator[tuple[str, str]]:
    """Yield the items in the order to label them, with their pages."""
    text = client.get("/label").text
    for at in range(count):
        text = client.get("/label", params={"run": RUN, "at": at}).text
        (item,) = re.findall(r'data-item="(\w+)"', text)
        yield item, text


def test_the_grade_is_hidden_until_there_is_a_label(client: TestClient, path: Path) -> None:
    (item, text), *_ = queue(client, 1)
    machine = text.partition('id="machine"')[2]
    assert "score" not in machine
    assert "critic/one" not in text
    answer = post(client, int(item, 16), said="good").json()
    assert "critic/one" in answer["machine"]
    assert "critic/one" in client.get("/label", params={"run": RUN, "at": 0}).text
    (label,) = read_labels(Store(path), RUN)
    assert (label.said, label.blind, label.place.item) == ("good", True, item)
    post(client, int(item, 16), said="bad")
    assert [label.blind for label in read_labels(Store(path), RUN)] == [False]


def test_who_has_read_the_story_or_a_list_with_its_score_is_not_blind(
    tmp_path: Path,
) -> None:
    path = fill(tmp_path, range(60))
    client = known(path)
    client.get(f"/item/{item_id(4)}")
    first = [item for item, _ in queue(client, 60)]
    assert first[-1] == item_id(4)
    client.get("/")  # the latest fifty
    for number in (4, 59, 5):
        assert post(client, number, said="unsure").json()["blind"] == (number == 5)
    labels = read_labels(Store(path), RUN)
    assert [(int(x.place.item, 16), x.blind) for x in labels] == [
        (4, False),
        (59, False),
        (5, True),
    ]
    order = [int(item, 16) for item, _ in queue(client, 60)]
    assert set(order[:8]) == {0, 1, 2, 3, 6, 7, 8, 9}
    assert set(order[-3:]) == {4, 59, 5}
    assert "no calibration counts it" in client.get("/label", params={"run": RUN, "at": 20}).text


def test_a_word_that_was_taken_back_is_not_blind_again_whatever_the_server(path: Path) -> None:
    post(known(path), 1, said="good")
    post(known(path), 1, said="")
    assert post(known(path), 1, said="bad").json()["blind"] is False
    post(known(path, "ben"), 1, said="bad")
    labels = read_labels(Store(path), RUN)
    assert {label.who: label.blind for label in labels} == {"": False, "ben": True}


def test_a_level_that_was_given_after_the_grade_was_shown_says_so(
    client: TestClient, path: Path
) -> None:
    post(client, 1, criterion="faithful", level="partly")
    post(client, 1, said="good")
    post(client, 1, criterion="useful", level="yes")
    (label,) = read_labels(Store(path), RUN)
    assert (label.blind, set(label.seen)) == (True, {"useful"})
    assert label.unseen_levels == {"faithful": "partly"}


def test_a_page_that_hides_the_grade_does_not_tell_which_attempt_it_shows(
    client: TestClient,
) -> None:
    """A revision was made because the critic had refused the draft."""
    texts = [text for _, text in queue(client, 12)]
    assert all('data-candidate="' in text for text in texts)
    assert not any(re.search(r"data-round|round=|revision", text) for text in texts)


def test_what_is_in_the_inboxs_place_and_is_none_is_one_line(
    client: TestClient, path: Path
) -> None:
    victim = path.with_name("precious.txt")
    victim.write_text("precious\n")
    os.mkfifo(inbox_of(path))
    for _ in range(2):
        answers = [client.get("/label"), client.get("/"), post(client, 1, said="good")]
        assert [answer.status_code for answer in answers] == [404] * 3
        assert all("inbox" in answer.text for answer in answers)
        with Writer(path):
            pass
        inbox_of(path).unlink()
        inbox_of(path).symlink_to(victim)
    assert victim.read_text() == "precious\n"


def test_a_rubric_that_is_not_found_is_missed_aloud_and_may_be_named(
    path: Path, capsys: Any
) -> None:
    moved = (path.parent / "prompts" / "rubric.yaml").rename(path.parent / "mine.yaml")
    client = known(path)
    for address in ("/label", f"/item/{item_id(3)}"):
        text = client.get(address).text
        assert "--rubric FILE" in text
        assert "<fieldset" not in text
    guarded = Guard(Pages(Store(path), rubric=str(moved)).app, TOKEN, 8000)
    named_it = TestClient(guarded, base_url=HERE)
    named_it.get("/live", params={"token": TOKEN})
    assert named_it.get("/label").text.count("<fieldset") == 2
    moved.write_text(moved.read_text().replace("0.6", "0.7"))
    assert run_cli(["view", str(path), "--no-browser", "--rubric", str(moved)]) == 2
    assert "another rubric" in capsys.readouterr().err


def test_a_page_reads_the_labels_that_it_shows(
    path: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentloop.store import labels

    store = Store(path)
    for number in range(200):
        say(store, RUN, Place(f"f{number}", 0, 0, "c"), "good")
    with Writer(path):
        pass
    sizes: list[int] = []
    told = labels._said_last

    def counted(rows: Any) -> Any:
        sizes.append(len(rows))
        return told(rows)

    monkeypatch.setattr(labels, "_said_last", counted)
    text = client.get("/label").text
    client.get("/")
    assert "200 labelled" in text
    assert max(sizes) == 0


def test_labels_and_levels_are_given_and_taken_back(client: TestClient, path: Path) -> None:
    post(client, 1, criterion="faithful", level="partly")
    answer = post(client, 1, said="good").json()
    assert (answer["said"], answer["levels"]) == ("good", {"faithful": "partly"})
    assert post(client, 1, criterion="faithful", level=None).json()["levels"] == {}
    levels = {"faithful": "unsure", "useful": "yes"}
    for name, level in levels.items():
        answer = post(client, 1, criterion=name, level=level).json()
    assert answer["levels"] == levels
    answer = post(client, 1, said="").json()
    assert (answer["said"], answer["levels"]) == (None, {})
    assert read_labels(Store(path), RUN) == []


WRONG: list[dict[str, Any]] = [
    {"said": "excellent"}, {"said": ["good"]}, {"criterion": "faithful", "level": "best"},
    {"criterion": "other", "level": "yes"}, {"criterion": ["x"]}, {"item": 7}, {"candidate": 0},
    {"candidate": "0" * 16}, {"candidate": None}, {"run": "other"}, {"item": "nowhere"},
    {"run": "\0"}, {"item": "\0"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_label_is_refused(client: TestClient, path: Path, wrong: dict[str, Any]) -> None:
    assert post(client, 1, **wrong).status_code in (400, 404)
    assert read_labels(Store(path), RUN) == []


def test_what_is_no_object_is_refused(client: TestClient) -> None:
    headers = {"origin": HERE, "content-type": "application/json"}
    deep, half = "[" * 60_000, r'{"run": "\ud800", "item": "x", "candidate": "x"}'
    for body in ("", "[]", "7", "{", "\xff", deep, half, "9" * 5000):
        answer = client.post("/label", content=body.encode("latin-1"), headers=headers)
        assert answer.status_code == 400, body[:50]
        assert answer.json().keys() == {"error"}


def test_the_queue_ends_and_begins_again_with_what_is_left(client: TestClient) -> None:
    first = [item for item, _ in queue(client, 12)]
    assert len(set(first)) == 12
    assert "the last of 12" in client.get("/label", params={"run": RUN, "at": 12}).text
    post(client, int(first[0], 16), said="good")
    assert [item for item, _ in queue(client, 12)][-1] == first[0]


# The command


def test_the_command_prints_an_address_and_serves_until_it_is_interrupted(path: Path) -> None:
    import urllib.request

    with command("view", path, "--no-browser") as server:
        assert server.stdout
        address = server.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", address)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(address) as answer:
            assert answer.status == 200
            assert "set-cookie" not in answer.headers
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=30)
    assert server.returncode == 130
    assert "Traceback" not in err


def test_a_missing_store_or_a_taken_port_is_one_line(path: Path, capsys: Any) -> None:
    import socket

    assert run_cli(["view", "nowhere.duckdb", "--no-browser"]) == 2
    assert "there is no store" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run_cli(["view", str(path), "--no-browser", "--port", port]) == 2
    assert "`port`" in capsys.readouterr().err


def test_without_its_extra_there_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    monkeypatch.delitem(__import__("sys").modules, "agentloop.view.server", raising=False)
    assert run_cli(["view", str(path)]) == 2
    assert "agentloop-data[view]" in capsys.readouterr().err


def test_what_the_script_is_told_is_json(client: TestClient) -> None:
    assert json.loads(client.get("/live").text)["accepted"] == 6
    assert client.get("/live", params={"run": "other"}).json().keys() == {"error"}
