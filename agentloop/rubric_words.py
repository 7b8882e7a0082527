"""The English words that rubrics are written in, by what they do there.

Enters: words. Leaves: whether one can be a verb or a quality, what they are about.
Refuses to know: rubrics, what is wrong with them.

The lists are short on purpose: a word that is missing costs a flag, a word too many a false alarm.
"""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _pairs(words: str) -> frozenset[tuple[str, str]]:
    return frozenset((one, other) for one, _, other in (w.partition("+") for w in words.split()))


AUXILIARIES = _set("is are was were does do did has have had can could will would should may must")
DETERMINERS = _set(
    "the a an its their his her my your our it them this these those every each any all"
)
PREPOSITIONS = _set(
    "in on at by of for from with within to as between into under over about against among "
    "through without throughout across per before after than"
)
STARTERS = AUXILIARIES | _set(
    "it they not never no nothing nobody none also how why what when where"
)
"""After `and`, these begin a second question or claim."""
CASES = _set("who whom whose where when if unless although though whenever wherever")
"""These begin a clause that says in which case, or for whom, something is asked."""
SUBORDINATE = CASES | _set("what why how because until")
"""After these a negation tells of the case, not of what is asked."""
QUESTION_WORDS = _set("who what which where when why how")
TELLING = _set(
    "conclude concludes deduce deduces infer infers prove proves say says tell tells state states "
    "admit admits explain explains show shows warn warns note notes inform informs mention "
    "mentions acknowledge acknowledges recognise recognises recognize recognizes point points"
)
NEGATIONS = _set(
    "not never cannot without nothing nobody nowhere none neither nor avoid avoids avoided "
    "avoiding refrain refrains refraining lack lacks lacking devoid error-free bug-free"
)
NOT_A_LIMIT = _set(
    "more less fewer later earlier sooner longer shorter larger smaller higher lower matter"
)
"""After `no`, these make a limit: `no more than`."""
FAULT_NOUNS = _set(
    "error errors mistake mistakes typo typos contradiction contradictions hallucination "
    "hallucinations fabrication fabrications flaw flaws inaccuracy inaccuracies"
)
FAULTS = FAULT_NOUNS | _set(
    "hallucinated fabricated incorrect inaccurate irrelevant inconsistent incomplete illogical "
    "misleading wrong false harmful toxic biased offensive redundant vague contradictory "
    "unsupported unnecessary unclear unsafe unrelated unverified unfounded unwanted unhelpful "
    "unnatural unfair unethical untrue unjustified unrealistic ungrounded unreadable unreliable "
    "unsubstantiated"
)
HOLDING = _set(
    "contain contains include includes make makes have has add adds introduce introduces use uses "
    "there hold holds leave leaves present presents"
)
"""`Does it contain errors?`, but not `Does it correct errors?`."""
GIVING = _set(
    "name names give gives mention mentions list lists state states include includes provide "
    "provides cite cites contain contains identify identifies describe describes explain explains "
    "cover covers show shows address addresses report reports specify specifies present presents"
)
LENGTH = re.compile(
    r"comprehensive(?:ly|ness)?|thorough(?:ly|ness)?|detailed|extensive(?:ly)?|exhaustive(?:ly|ness)?"
    r"|elaborat(?:e[sd]?|ing)|lengthy|verbose|wordy|in-depth|long-form"
)
UNITS = _set(
    "words lines pages sentences paragraphs characters letters digits minutes hours days years"
)
PEOPLE = _set(
    "anyone anybody child children individuals people person reader readers somebody someone "
    "those user users"
)
GIVEN = _set("found given known made present said seen shown written")
"""With words in -ed, what stands after `not` in `words not given in the table`."""
IN_PASSING = _set(
    "according assuming beginning being concerning depending during ending everything excluding "
    "following given going having including meaning regarding something starting using"
)
"""After a comma, these in -ing add no claim."""
PAIRS = _pairs(
    "all+only back+forth black+white compare+contrast copy+paste each+every find+replace first+last "
    "give+take if+only left+right now+then old+new one+only open+close plain+simple question+answer "
    "read+write search+replace trial+error true+false up+down upper+lower yes+no"
)
"""Fixed pairs that are one thing."""

_VERBS = _set(
    "add adapt allocate allow analyse analyze apply articulate assess avoid become begin belong "
    "build calculate choose cite clarify come comply compute conclude confirm connect consider "
    "construct contain continue convey convince create decline define demonstrate depend derive "
    "describe develop differ discuss distinguish draw encourage engage enjoy ensure establish "
    "evaluate exclude exist explain express fit follow fulfil fulfill generate get give go guide "
    "handle have help highlight identify ignore illustrate implement improve include incorporate "
    "infer inform integrate interpret introduce invite justify keep lack learn leave let maintain "
    "make meet mention motivate obey offer omit perform persuade portray predict preserve prevent "
    "produce promote prove provide put raise read reach recognise recognize recommend refer "
    "reflect refuse reject relate rely remain remember remove repeat replace represent require "
    "resolve respect respond reveal satisfy say seem select send simulate specify stay stick "
    "suggest suit summarise summarize synthesize take tell translate treat understand use utilise "
    "utilize verify warn write"
)
_NOUNS_TOO = _set(
    "address answer ask balance cause change check claim comment compare contrast cover date "
    "design display document end format label lead link list look mark match name note order "
    "outline place plan point print question quote rank report request respect result return "
    "review run set show sound start state structure support test tie turn weigh work"
)
"""Verbs only where an object follows: `and names its author`, not `and names`."""

_BEFORE_NOUNS = _set(
    "even only both then perhaps such half if whether that which not also so or either"
)

_QUALITIES = _set(
    "accurate actionable appropriate balanced brief clean clear coherent complete compelling "
    "concise comprehensive consistent constructive convincing correct creative current detailed "
    "easy effective efficient elegant engaging empathetic entertaining fair feasible fluent "
    "formal friendly genuine grammatical grounded helpful honest idiomatic impactful informative "
    "innovative insightful interesting inviting kind logical modest natural neat neutral nuanced "
    "objective original patient persuasive plausible polite practical precise professional "
    "readable realistic relevant respectful right robust safe sensible short simple smooth sound "
    "specific succinct supportive thorough truthful unambiguous unbiased understandable useful "
    "valid vivid warm well-structured well-written"
)
_ADJECTIVES = _QUALITIES | _set(
    "cheap cool dark free good great human legal new nice real rich short strong sure true whole "
    "wide"
)
_QUALITY_NOUNS = _set(
    "accuracy clarity coherence completeness conciseness consistency correctness creativity depth "
    "empathy fluency grammar helpfulness honesty originality politeness precision quality "
    "readability relevance spelling structure style tone truthfulness"
)
_ADJECTIVE_END = re.compile(r".{2,}(?:ful|ous|able|ible|less|ive|ed)")
_NOT_ADJECTIVES = _set(
    "table variable vegetable timetable handful spoonful unless nonetheless narrative objective "
    "motive perspective alternative initiative adjective archive incentive executive detective "
    "representative five seed need feed speed deed breed hundred embed shed drive dive live give "
    "receive"
)


def is_verb(word: str, follower: str) -> bool:
    """Whether a word after `and` is a verb; `follower` is the next word."""
    base = _base(word)
    if word in _VERBS or (base in _VERBS and base != word):
        return True
    if base in _NOUNS_TOO or word in _NOUNS_TOO:
        return follower in DETERMINERS
    if word.endswith("ing"):
        return follower in DETERMINERS or follower in ("that", "how", "why")
    verbal = follower in DETERMINERS and word not in DETERMINERS | PREPOSITIONS | _BEFORE_NOUNS
    return verbal and not word.endswith(("s", "ly", "ed"))


def _base(word: str) -> str:
    """Return a verb without the ending of the third person."""
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ses", "shes", "ches", "xes", "oes")) and word[:-2] in _VERBS | _NOUNS_TOO:
        return word[:-2]
    return word.removesuffix("s")


def is_quality(word: str) -> bool:
    """Whether a word names a quality that a text has more or less of."""
    return word in _QUALITIES or word in _QUALITY_NOUNS


def is_adjective(word: str) -> bool:
    """Whether a word can be what is said of something: `is … and WORD?`."""
    if word in _NOT_ADJECTIVES:
        return False
    return word in _ADJECTIVES or _ADJECTIVE_END.fullmatch(word) is not None


_SAME = {
    word: group.split()[0]
    for group in (
        "answer answers answered response reply output completion candidate",
        "correct right accurate true accurately correctly truthful accuracy correctness",
        "clear understandable readable understand intelligible clarity clearly easy",
        "useful helpful valuable help benefit",
        "short concise brief succinct conciseness concisely",
        "support carried backed grounded entailed supported supports",
        "claim statement assertion claims statements assertions",
        "instruction task request prompt",
        "passage source context document",
        "follow obey follows",
    )
    for word in group.split()
}
"""Words that rubrics use for one thing, each with the first of its group."""

_IDLE = _set(
    "do does did the a an its their his her my your our it them this these those every each any "
    "all of in on at by for from with within to as between into under over about is are was were "
    "be been has have had can could will would should may must and or but that which who what "
    "when where how there so one they he she not no just only same also written someone"
)
_ENDINGS = (
    "ations",
    "ation",
    "ings",
    "ing",
    "ness",
    "ity",
    "ies",
    "ers",
    "er",
    "es",
    "ed",
    "ly",
    "s",
    "e",
)


def content(words: list[str]) -> list[str]:
    """Return what words are about: stems in order, one for words of one meaning."""
    kept = (_SAME.get(word, word) for word in words if word[0].isalnum() and word not in _IDLE)
    return [_stem(word) for word in kept]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
