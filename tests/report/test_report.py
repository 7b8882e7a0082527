"""The report: every figure is the store's, hostile text is text, nothing is asked of a network."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.cli import run_cli
from agentloop.errors import StoreError, UserError
from agentloop.records import Json
from agentloop.report import page, save_report
from agentloop.store import Store
from agentloop.store.files import connect
from agentloop.store.rounds import rounds
from tests.builders import PASSAGE, QA, SEEDS, agent, draft, mark, marks, play, tiny
from tests.report.reading import LEAVING, Page, read
from tests.test_calibrate import LEVELS, STEPS, graded_run, measure
from tests.test_grading import LOOKS
from tests.test_variety import varied

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"' \x1b[31m \u202eevil {{ 7*7 }}"


def shown(run: al.Run, grading: int = 0) -> Page:
    return Page(page(Store(run.store), run.name, grading))


def mixed(folder: Path, **more: Any) -> al.Run:
    """Run 24 items: some accepted at once, some repaired, broken, refused, unreadable."""

    def grade(prompt: str) -> str:
        number = int(prompt.partition("number ")[2].partition(".")[0])
        if number % 8 == 7:
            return "no json at all"
        again = "better" in prompt
        good = number % 4 == 0 or (number % 4 == 1 and again)
        return marks("yes" if good else "no", "" if good else "it lacks the mountains")

    def revise(prompt: str) -> str:
        return draft(f"A better one: {prompt.partition('REVISE ')[2].partition(' |')[0]}")

    scripts = agent(critique=grade, revise=revise)
    given: Json = {"seeds": SEEDS[:24], "audit": "all", "max_rounds": 1}
    return play(folder, scripts, **{**given, **more})


def test_every_count_is_the_stores(tmp_path: Path) -> None:
    run = mixed(tmp_path, attributes={"level": ["easy", "hard"]})
    store, found = Store(run.store), shown(run)
    counts, evidence = store.counts(), store.evidence()
    funnel = [row[:2] for row in found.section("funnel")[0][1:]]
    assert [int(count) for _, count in funnel] == [
        24, 24, 24, *(int(count) for _, count in funnel[3:5]), evidence.costs.good, counts["accepted"],
    ]  # fmt: skip
    ended = {row[0]: int(row[1]) for row in found.section("verdicts")[0][1:]}
    assert sum(ended.values()) == 24
    for verdict in ("accepted", "rejected", "ungradable", "failed"):
        mine = sum(count for name, count in ended.items() if name.split()[0] == verdict)
        assert mine == counts[verdict]
    assert {name.split()[1]: n for name, n in ended.items() if " " in name} == store.reasons()
    assert counts["ungradable"] == 3
    assert [row[:2] for row in found.section("trust")[0][1:]] == [
        [
            f"{name}{side.audited} audited, {side.readable} readable",
            f"{side.agreed} of {side.readable}",
        ]
        for name, side in (("accepted", evidence.accepted), ("refused", evidence.rejected))
    ]
    roles = {row[0]: row[1:3] for row in found.section("cost")[0][1:]}
    assert {role: int(cells[0].replace(",", "")) for role, cells in roles.items()} == {
        **evidence.costs.tokens,
        "all": sum(evidence.costs.tokens.values()),
    }
    each = {row[0]: int(row[1]) for row in found.section("cost")[1][1:]}
    assert [*each.values()] == [evidence.costs.made, evidence.costs.good, evidence.costs.new]
    strata = {row[0].split("four")[0]: row[1] for row in found.section("strata")[0][1:]}
    assert strata == {s.value: f"{s.accepted} of {s.settled}" for s in evidence.strata}


def test_what_revisions_fixed_and_broke_is_as_in_rounds(tmp_path: Path) -> None:
    run = mixed(tmp_path)
    found = shown(run).section("rounds")
    lines = rounds(Store(run.store))
    told = {row[0]: row[1:] for row in found[1][1:]}
    assert told["attempts"] == [str(line.attempts) for line in lines]
    fixed = "fixed: the parent was not accepted, the revision is"
    assert told[fixed] == [str(line.fixed) for line in lines]
    assert lines[1].fixed == 6
    assert told["gain in the critic's eyes, mean"] == ["–", f"{lines[1].critic_gain:+.3f}"]
    assert found[0][1][0].endswith(
        f"{lines[1].fixed} fixed, {lines[1].broken} broken, {lines[1].unchanged_good} still good, "
        f"{lines[1].unchanged_bad} still bad"
    )


def test_scores_and_levels_add_up(tmp_path: Path) -> None:
    run = mixed(tmp_path)
    store, found = Store(run.store), shown(run)
    table, levels = found.section("scores")[:2]
    graded = [row for row in store.examples(verdict="all") if row["score"] is not None]
    assert sum(int(cell) for row in table[1:] for cell in row[1:]) == len(graded)
    kept = {row[0]: int(row[2]) for row in levels[1:]}
    real = [m["level"] for row in graded for m in row["grade"]["marks"]]
    assert kept == {level: real.count(level) for level in ("no", "yes")}


def test_hostile_text_is_text_and_nothing_leaves_the_page(tmp_path: Path) -> None:
    class Odd(QA):
        question: str
        answer: str

    seeds = [
        {"passage": f"{EVIL} {PASSAGE} {n}", "<b>field</b>": "x" * 1_000_000} for n in range(4)
    ]
    said = json.dumps({"question": EVIL, "answer": EVIL + "word " * 300_000})
    play(
        tmp_path,
        agent(generate=said, critique=marks("no", EVIL), revise=draft(f"now {EVIL}")),
        tiny(tmp_path, candidate=Odd),
        seeds=seeds,
        attributes={"level": ["<i>one</i>", "\u202etwo"]},
        run="run-1",
    )
    path = tmp_path / "report.html"
    assert save_report(Store(tmp_path / "qa.duckdb"), path) < 600_000
    found = read(path)
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "b", "i", "form", "base"}
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", found.html)
    assert r"<script>alert(1)</script><img src=x onerror=alert(2)>" in found.text
    for told in (r"\x1b[31m", r"\u202eevil", "{{ 7*7 }}", "<b>field</b>", "<i>one</i>"):
        assert told in found.text
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in LEAVING:
            assert attributes.get(name, "#").startswith(("#", "data:,")), (tag, attributes)
    style = found.html.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|@font-face", style)
    assert "http" not in style
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}) in found.tags


def test_nul_and_lone_surrogates_in_a_store_are_written_out(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:1])
    with connect(run.store, write=True) as connection:
        odd = '{"question": "a\\u0000b", "answer": "c\\r\\nd"}'
        connection.execute("UPDATE attempts SET candidate = ?", [odd])
        connection.execute("UPDATE verdicts SET detail = 'e' || chr(0) || 'f'")
    found = shown(run)
    assert r"a\x00b" in found.text
    assert r"e\x00f" in found.text
    assert "c\nd" in "".join(found.words)


def test_a_page_can_be_walked_by_keyboard_and_by_headings(tmp_path: Path) -> None:
    found = shown(mixed(tmp_path))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"] for tag, a in found.tags if tag == "a"]
    assert links[0] == "#main"
    assert {link[1:] for link in links} <= set(ids)
    headings = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    charts = [attributes for tag, attributes in found.tags if tag == "svg"]
    assert charts
    assert all(attributes["aria-hidden"] == "true" for attributes in charts)
    assert ("html", {"lang": "en"}) in found.tags


def test_a_revision_is_told_word_by_word_and_quotes_where_they_stand(tmp_path: Path) -> None:
    rubric = """
name: quoted
accept_at: 0.8
criteria:
  - {name: right, ask: "Is it right?", evidence: quote, levels: [wrong, shaky, right]}
"""
    quote = "rises in the Giant Mountains"
    shaky, right = (json.dumps({"right": mark(x, "so", quote=quote)}) for x in ("shaky", "right"))
    scripts = agent(
        generate=draft("It rises in the hills."),
        critique=[shaky, right],
        revise=draft("It rises in the mountains."),
    )
    found = shown(play(tmp_path, scripts, tiny(tmp_path, rubric)))
    assert quote in found.marked["mark"]
    assert found.marked["ins"][-1] == "mountains"
    assert found.marked["del"][-1] == "hills"
    assert "scores 0.50 more than the first draft" in " ".join(found.marked["summary"])


def test_items_are_chosen_where_judges_disagree(tmp_path: Path) -> None:
    def audit(prompt: str) -> str:
        return marks("no" if "number 3." in prompt else "yes")

    run = play(tmp_path, agent(audit=audit), seeds=SEEDS[:6], audit="all")
    said = " ".join(shown(run).marked["summary"])
    assert "the auditor gives 1.00 less for the first draft" in said
    folder = tmp_path / "looks"
    seen = iter([marks("yes"), marks("no"), marks("yes")] * 2)
    looked = agent(critique=lambda _: next(seen), critique_2=lambda _: next(seen))
    run = play(folder, looked, tiny(folder, LOOKS), seeds=SEEDS[:2], max_rounds=0)
    found = shown(run)
    assert "they lie 1.00 apart" in " ".join(found.marked["summary"])
    assert "2 of 2 kept attempts were looked at several times" in found.text


def test_a_calibrated_run_shows_its_curve(tmp_path: Path) -> None:
    report = measure(tmp_path, STEPS, recipe=tiny(tmp_path, LEVELS))
    run = graded_run(tmp_path, calibration=str(tmp_path / "cal.duckdb"), run="calibrated")
    found = shown(run)
    confusion = report.gate.confusion
    assert found.section("trust")[0][1:] == [
        ["good", str(confusion.good_accepted), str(confusion.good_refused)],
        ["bad", str(confusion.bad_accepted), str(confusion.bad_refused)],
    ]
    assert report.score_map
    curve = next(t for t in found.section("trust") if t[0][-1] == "chance of being good")
    assert curve[6] == ["0.5", f"{report.score_map.chance(0.5):.3g}"]
    assert "Calibration curve" in found.text
    later = Page(page(Store(graded_run(tmp_path).store), "tiny"))
    assert "measured afterwards on 60 labels" in later.text
    apart = tmp_path / "apart"
    apart.mkdir()
    plain = Page(page(Store(graded_run(apart).store), "tiny"))
    assert "nobody has compared this critic with people" in plain.text
    assert "Calibration curve" not in plain.text


def test_variety_is_shown_over_time(tmp_path: Path) -> None:
    run = play(tmp_path, agent(generate=varied), seeds=SEEDS, on_collapse="warn")
    found = shown(run)
    with connect(run.store, write=False) as connection:
        sql = "SELECT light, reading FROM readings WHERE view = 'batch' ORDER BY number"
        rows = connection.execute(sql).fetchall()
    assert f"The light of {len(rows)} batches" in found.text
    named = {t[0][1]: t for t in found.section("variety") if t[0][0] == "batch"}
    assert named
    values = [json.loads(reading)["figures"]["distinct_2"] for _, reading in rows]
    drawn = [
        t for t in found.section("variety") if [r[1] for r in t[1:]] == [f"{v:.3g}" for v in values]
    ]
    assert drawn


def test_a_run_without_items_and_one_that_goes_on_have_reports(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:2])
    with connect(run.store, write=True) as connection:
        connection.execute("INSERT INTO runs SELECT * REPLACE ('empty' AS run) FROM runs")
    store = Store(run.store)
    empty = Page(page(store, "empty"))
    assert "No item of this run is settled yet" in empty.text
    assert "Not measured" in empty.text
    with connect(run.store, write=True) as connection:
        connection.execute("UPDATE sessions SET stopped_by = NULL")
        connection.execute("DELETE FROM verdicts WHERE item = (SELECT max(item) FROM items)")
    found = Page(page(Store(run.store), "tiny"))
    assert "This run has not ended" in found.text
    assert "1 are begun and not settled" in found.text


def test_another_grading_has_a_report_of_its_own(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:3], audit="all")
    with connect(run.store, write=True) as connection:
        connection.execute(
            "INSERT INTO gradings VALUES ('tiny', 1, ?, 'other', '{}', 1)",
            [json.dumps({"accept_at": 0.4})],
        )
        for table in ("verdicts", "grades"):
            connection.execute(f"INSERT INTO {table} SELECT * REPLACE (1 AS grading) FROM {table}")
        connection.execute("UPDATE verdicts SET verdict = 'rejected' WHERE grading = 1")
    found = shown(run, 1)
    assert found.section("verdicts")[0][1][:2] == ["rejected", "3"]
    assert "Not measured for this grading: no item was audited" in found.text
    assert "0.40 the threshold" in found.text
    assert shown(run).section("verdicts")[0][1][:2] == ["accepted", "3"]


def test_three_hundred_items_are_a_small_page_and_the_same_twice(tmp_path: Path) -> None:
    seeds = [{"passage": f"{PASSAGE} {n} {' '.join(['word'] * 300)}"} for n in range(300)]
    run = play(tmp_path, agent(generate=varied), seeds=seeds, concurrency=8)
    store = Store(run.store)
    html = page(store, run.name)
    assert len(Page(html).marked["summary"]) >= 20
    assert len(html.encode()) < 400_000
    assert html == page(Store(run.store), run.name)


class TestFile:
    def test_the_command_writes_it_and_says_so(self, tmp_path: Path, capsys: Any) -> None:
        run = play(tmp_path, agent(), seeds=SEEDS[:2])
        target = tmp_path / "report.html"
        target.write_text("old")
        assert run_cli(["report", str(run.store), "-o", str(target)]) == 0
        assert f"report of run tiny in {target}" in capsys.readouterr().err
        assert "From seeds to accepted items" in read(target).text
        assert [p.name for p in tmp_path.glob(".*.part")] == []
        assert run.report(tmp_path / "again.html") == target.stat().st_size
        assert (tmp_path / "again.html").read_bytes() == target.read_bytes()

    @pytest.mark.parametrize("name", ["qa.duckdb", "qa.duckdb.journal", "other.duckdb", "folder"])
    def test_stores_and_folders_are_left_alone(
        self, tmp_path: Path, name: str, capsys: Any
    ) -> None:
        run = play(tmp_path, agent(), seeds=SEEDS[:1])
        (tmp_path / "folder").mkdir()
        (tmp_path / "other.duckdb").write_bytes(run.store.read_bytes())
        target = tmp_path / name
        before = target.read_bytes() if target.is_file() else None
        assert run_cli(["report", str(run.store), "-o", str(target)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"`{target}` is a" in line
        assert (target.read_bytes() if target.is_file() else None) == before

    def test_what_there_is_not_is_said(self, tmp_path: Path, capsys: Any) -> None:
        run = play(tmp_path, agent(), seeds=SEEDS[:1])
        with pytest.raises(StoreError, match="no run `tin`"):
            save_report(Store(run.store), tmp_path / "r.html", "tin")
        with pytest.raises(StoreError, match="no grading 3"):
            save_report(Store(run.store), tmp_path / "r.html", grading=3)
        with pytest.raises(UserError, match="cannot be written"):
            save_report(Store(run.store), tmp_path / "none" / "r.html")
        assert run_cli(["report", str(run.store)]) == 2
        assert "-o" in capsys.readouterr().err
        assert not (tmp_path / "r.html").exists()
