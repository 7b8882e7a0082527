"""The card of an exported file: what it is, how it was made, what speaks for it, what nobody measured.

Enters: the facts of a manifest. Leaves: Markdown with the front matter of a Hugging Face dataset card.
Refuses to know: stores, lines, how a figure came about.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from agentloop.export.front import commands, front_matter, language_codes
from agentloop.export.tally import NOT_STATED
from agentloop.plain import plain
from agentloop.records import Json

Rows = Sequence[Sequence[object]]

LONGEST = 200  # characters of a value that is shown
MOST = 12  # rows of a table
APART = "<!-- -->"
"""Set within what a reader of Markdown would make a link of, entities or not."""
_LINKED = re.compile(r"://|@|www\.", re.IGNORECASE)
COLUMNS = {
    "item": "the item's name in the store; null for an example by people",
    "agentloop": "the mark of what is made: its item, and its generations away from people's text",
    "messages": "the conversation: turns of role and content",
    "prompt": "the turns that come before the answer",
    "completion": "the answer: one turn",
    "label": "true: accepted; false: judged and refused",
    "chosen": "the kept answer: one turn",
    "rejected": "the worst answer to the same prompt that was judged: one turn",
    "seed": "what the item started from; in the shape `critique` as JSON in text",
    "draft": "the conversation before the revision",
    "critique": "failed checks and marks below the top, a line each: what was to be repaired",
    "revision": "the conversation after it; the critic's score or the checks say that it is better",
    "round": "the number of the attempt among the item's; 0 is the first draft",
    "draft_score": "the critic's score of the draft, 0 to 1; null where a failed check spared it",
    "revision_score": "the same of the revision",
    "accepted": "whether the revision passed checks, floors and threshold",
}
FIGURES = {
    "texts": "texts",
    "tokens": "words measured",
    "compression_ratio": "compression ratio (zlib)",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "distinct_4": "distinct-4",
    "entropy": "entropy, bits a word",
    "hapax_share": "words that occur once",
    "self_repetition": "5-grams in several texts",
    "opening_share": "the most frequent opening",
    "near_copies": "near copies",
    "neighbour_similarity": "likeness to the nearest neighbour",
    "vendi": "Vendi score of the sample",
    "sample": "texts of that sample",
    "mean_words": "words a text, mean",
    "sd_words": "words a text, standard deviation",
    "tail_coverage": "rare words of the reference reached",
    "length_divergence": "lengths beside the reference, bits",
    "strata_divergence": "strata beside the plan, bits",
}


def card(facts: Json) -> str:
    """Return the card of an exported file."""
    parts = [
        [front_matter(facts)],
        _summary(facts),
        _sides(facts),
        _licences(facts),
        _making(facts),
        _quality(facts),
        _variety(facts),
        _people(facts),
        _apart(facts),
        _unmeasured(facts),
        _again(facts),
    ]
    return "\n".join("\n".join(part) + "\n" for part in parts)


def _summary(facts: Json) -> Iterator[str]:
    tally, people = facts["tally"], facts["by_people"]
    yield f"# {shown(facts['file'])}"
    yield ""
    yield (
        f"{facts['lines']:,} examples of the shape `{shown(facts['shape'])}`, made by agentloop "
        f"{shown(facts['agentloop'])}; {tally['rows']:,} by models, {people:,} by people. This is "
        "synthetic data: a model wrote what is not said to be people's."
    )
    yield ""
    yield from _table(
        ("what", "count"),
        [
            ("made from people's text itself", _of(tally["real_seeded"], tally["rows"])),
            ("by people, mixed in", _of(people, facts["lines"])),
            *(
                (f"{depth} generation{'s' * (depth != '1')} away from people's text", f"{count:,}")
                for depth, count in tally["depths"].items()
            ),
            *((f"verdict {name}", f"{count:,}") for name, count in tally["verdicts"].items()),
            *((f"kept in round {name}", f"{count:,}") for name, count in tally["rounds"].items()),
            *((f"label {name}", f"{count:,}") for name, count in tally["labels"].items()),
        ],
    )
    yield ""
    yield "Columns:"
    yield ""
    rows = [(name, kind, COLUMNS.get(name, "")) for name, kind in facts["columns"].items()]
    yield from _table(("column", "type", "what it is"), rows, most=40)


def _sides(facts: Json) -> Iterator[str]:
    """Return the files, and by what rule an example is in one and not in another."""
    yield "## Files"
    yield ""
    files = facts["files"]
    rows = [(f["file"], f["side"] or "all", f"{f['lines']:,}", f["sha256"]) for f in files]
    yield from _table(("file", "side", "examples", "SHA-256"), rows)
    if facts["split"]:
        yield ""
        yield (
            "A seed and all that was made from it are on one side, by a hash of the seed's id: however "
            "the store grows, none changes sides. What was made from a made text is on the side of the "
            "seed that this one came from, where the store has it, and else with all else that was made "
            "from it. Seeds whose texts are nearly alike are different seeds, as are an item and those "
            "which its prompt showed as examples. Examples by people are on the side of a hash of what "
            "they say."
        )


def _licences(facts: Json) -> Iterator[str]:
    tally = facts["tally"]
    yield "## Licence and language"
    yield ""
    licences = _counted(tally["licences"])
    if tally["licences"].keys() - {NOT_STATED}:
        yield f"Licences that the seeds state: {licences}. What was made from them is bound by them."
    else:
        yield "No seed states a licence (field `license`): it is unknown, find out before you share."
    if facts["by_people"]:
        yield ""
        yield "The examples by people are under the licence of their file, which says none here."
    yield ""
    if codes := language_codes(tally["languages"]):
        said = _counted(tally["languages"])
        yield f"Languages that the seeds state: {said}; codes: {', '.join(codes)}."
    else:
        yield "No seed states its language by a code (in a field `language`), and nobody looked for it."


def _counted(found: Json) -> str:
    return shown(", ".join(f"{name} ({count:,})" for name, count in found.items()))


def _making(facts: Json) -> Iterator[str]:
    yield "## How it was made"
    for run in facts["runs"]:
        counts = run["counts"]
        yield ""
        yield (
            f"Run `{shown(run['run'])}` of recipe `{shown(run['recipe'])}`: {counts['seeds']:,} seeds; "
            f"{counts['accepted']:,} items accepted, {counts['rejected']:,} rejected, "
            f"{counts['ungradable']:,} ungradable, {counts['failed']:,} failed; "
            f"{counts['calls']:,} calls."
        )
        yield ""
        yield from _table(("role", "model"), run["models"].items())
        yield ""
        yield from _table(("what", "hash"), run["hashes"].items(), most=40)
        if run["reasons"]:
            yield ""
            yield from _table(("refused for", "items"), run["reasons"].items())
    generators = facts["tally"]["generators"]
    if len(generators) > 1:
        yield ""
        yield from _table(("generator", "examples"), generators.items())


def _quality(facts: Json) -> Iterator[str]:
    yield "## What the grades are worth"
    for run in facts["runs"]:
        yield ""
        yield f"Run `{shown(run['run'])}`:"
        yield ""
        yield f"- {shown(run['calibration']['line'])}"
        yield from (f"- {shown(line)}" for line in run["lines"])
    yield ""
    tally = facts["tally"]
    yield f"- graded by a model of the writer's own family: {_of(tally['self_graded'], tally['rows'])}"
    if any(tally["scores"]):
        yield ""
        rows = [
            (f"{number / 10:.1f}–{(number + 1) / 10:.1f}", f"{count:,}")
            for number, count in enumerate(tally["scores"])
            if count
        ]
        yield from _table(("score", "examples"), rows)


def _variety(facts: Json) -> Iterator[str]:
    tally = facts["tally"]
    prompts, answers = tally["diversity"]["prompts"], tally["diversity"]["answers"]
    yield "## Variety"
    yield ""
    yield (
        f"Figures of {tally['sample']:,} examples, evenly drawn, at a budget of 60,000 words; they "
        "compare only with figures of as many words."
    )
    yield ""
    rows = [
        (words, _number(prompts[name]), _number(answers[name]))
        for name, words in FIGURES.items()
        if prompts[name] is not None or answers[name] is not None
    ]
    yield from _table(("figure", "prompts", "answers"), rows, most=len(FIGURES))
    for run in facts["runs"]:
        if reading := run["reading"]:
            yield ""
            yield f"The watch over run `{shown(run['run'])}` says **{shown(reading['light'])}**."
            yield from (f"- {shown(reason)}" for reason in reading["reasons"])
            yield ""
            yield from _beside(reading)


def _beside(reading: Json) -> Iterator[str]:
    """Return the figures that were compared, or those of a reference of another kind."""
    if compared := reading["compared"]:
        heads = ("figure", "value", "median of real text", "95 % of it", "compared with")
        yield from _table(heads, [_compared(row) for row in compared], most=3 * MOST)
    if other := reading.get("another_kind"):
        mine = reading["figures"]
        rows = [
            (words, _number(mine[name]), _number(other[name]))
            for name, words in FIGURES.items()
            if mine[name] is not None and other[name] is not None
        ]
        beside = ("figure", "what was written", "the reference, of another kind")
        yield from _table(beside, rows, most=len(FIGURES))


def _people(facts: Json) -> Iterator[str]:
    found = facts["tally"]["bias"]
    yield "## People"
    yield ""
    yield (
        "Counts by short English word lists, each with an interval of 95 %. They do not show that a set "
        "is fair."
    )
    rows: Rows = [
        (row["dimension"], row["group"], f"{row['texts']:,}", _estimate(row["share"], percent=True))
        for row in found["mentions"]
        if row["texts"]
    ]
    yield from _section(found["mentions"], ("about", "group", "examples", "share"), rows, most=40)
    rows = [
        (row["occupation"], f"{row['female']:,}", f"{row['male']:,}", _estimate(row["share"], True))
        for row in found["pronouns"]
    ]
    yield from _section(found["pronouns"], ("occupation", "female", "male", "female share"), rows)
    rows = [
        (row["dimension"], row["group"], row["other"], _estimate(row["gap"]))
        for row in found["sentiment"]
    ]
    yield from _section(found["sentiment"], ("about", "group", "beside", "sentiment gap"), rows)
    for name, options in found["balance"].items():
        rows = [
            (row["option"], f"{row['count']:,}", _estimate(row["share"], True)) for row in options
        ]
        yield from _section(options, (f"`{shown(name)}`", "examples", "share"), rows)
    for run in facts["runs"]:
        for name, strata in run["acceptance"].items():
            rows = [
                (
                    s["stratum"],
                    f"{s['accepted']:,} of {s['total']:,}",
                    _estimate(s["ratio"]),
                    s["four_fifths"],
                )
                for s in strata
            ]
            heads = (
                f"`{shown(name)}`",
                "accepted",
                f"ratio to {shown(strata[0]['best'])}",
                "four-fifths rule",
            )
            yield from _section(strata, heads, rows)


def _apart(facts: Json) -> Iterator[str]:
    yield "## Kept apart"
    for run in facts["runs"]:
        files, hits = run["settings"].get("decontaminate") or [], run["contaminated"]
        count = run["reasons"].get("contaminated", 0)
        yield ""
        if not files:
            yield f"- run `{shown(run['run'])}`: no benchmark was named to keep apart from."
            continue
        named = ", ".join(str(file).rpartition("/")[2] for file in files)
        yield f"- run `{shown(run['run'])}`: {count:,} items fell for words of {shown(named)}."
        yield from (f"  - `{shown(hit['item'])}`: {shown(hit['detail'])}" for hit in hits)


def _unmeasured(facts: Json) -> Iterator[str]:
    yield "## What was not measured"
    yield ""
    said = dict.fromkeys(line for run in facts["runs"] for line in run["not_measured"])
    yield from (f"- {shown(line)}" for line in said)


def _again(facts: Json) -> Iterator[str]:
    yield "## Make it again"
    yield ""
    lines = commands(facts)
    longest = max((len(ticks) for line in lines for ticks in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}sh"
    yield from lines
    yield fence
    yield ""
    yield (
        "STORE is the store and SEEDS the file of seeds; other settings, of each role and of the run, "
        "stand in the manifest. The same store gives the same bytes, those with the SHA-256 above. The "
        "store holds every seed, prompt, reply and grade: `agentloop why STORE ITEM`. The models may "
        "answer differently another time."
    )
    versions = {name: said for run in facts["runs"] for name, said in run["versions"].items()}
    yield ""
    yield from _table(("package", "version"), versions.items())


def shown(text: object) -> str:
    """Return untrusted text as one line of Markdown that is nothing but text."""
    line = html.escape(plain(text, LONGEST), quote=False)
    line = "".join(f"&#{ord(c)};" if c in "|`*_[]\\#~!" else c for c in line)
    return _LINKED.sub(lambda found: f"{found[0][0]}{APART}{found[0][1:]}", line)


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, most: int = MOST
) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for number, row in enumerate(rows):
        if number == most:
            yield f"| … |{' |' * (len(heads) - 1)}"
            return
        yield f"| {' | '.join(shown(value) for value in row)} |"


def _section(
    found: Sequence[Json], heads: Sequence[str], rows: Rows, most: int = MOST
) -> Iterator[str]:
    """Return a table and the limits of its figures; nothing where there are none."""
    if rows:
        yield ""
        yield from _table(heads, rows, most=most)
        yield ""
        yield str(found[0]["limits"])


def _compared(row: Json) -> tuple[object, ...]:
    band = row["band"]
    return (
        FIGURES[band["figure"]],
        _number(row["value"]),
        _number(band["median"]),
        f"{_number(band['low'])}–{_number(band['high'])}",
        row["source"],
    )


def _estimate(found: Json, percent: bool = False) -> str:
    value, low, high = (found[name] * (100 if percent else 1) for name in ("value", "low", "high"))
    return (
        f"{value:.0f} % [{low:.0f}, {high:.0f}]"
        if percent
        else f"{value:.2f} [{low:.2f}, {high:.2f}]"
    )


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,}" + (f" ({count / total:.0%})" if total else "")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
