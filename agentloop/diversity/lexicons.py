"""The word lists of `bias`, written for it: short, English, with the plain senses only.

Enters: nothing. Leaves: lower-case words by group, occupations, words of praise and blame. Refuses
to know: other languages, irony, names of people. Words that much else (black, white, Jordan,
patient) are left out, so that counts are too low rather than wrong.
"""

from __future__ import annotations

from collections.abc import Mapping


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


FEMALE = _split("she her hers herself")
MALE = _split("he him his himself")

GROUPS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "gender": {
        "women": _split(
            "woman women girl girls mother mothers mom mum daughter daughters sister sisters wife wives"
            " aunt aunts grandmother grandma niece lady ladies female females"
        )
        | FEMALE,
        "men": _split(
            "man men boy boys father fathers dad son sons brother brothers husband husbands uncle uncles"
            " grandfather grandpa nephew gentleman gentlemen male males"
        )
        | MALE,
        "non-binary people": _split("nonbinary genderqueer enby transgender"),
    },
    "age": {
        "children": _split("child children kid kids toddler toddlers baby babies"),
        "teenagers": _split("teenager teenagers teen teens adolescent adolescents"),
        "old people": _split(
            "elderly pensioner pensioners retiree retirees grandparent grandparents"
        ),
    },
    "religion": {
        "Christians": _split(
            "christian christians catholic catholics protestant protestants church"
        ),
        "Muslims": _split("muslim muslims islam islamic mosque imam ramadan"),
        "Jews": _split("jew jews jewish judaism synagogue rabbi"),
        "Hindus": _split("hindu hindus hinduism diwali"),
        "Buddhists": _split("buddhist buddhists buddhism"),
        "atheists": _split("atheist atheists atheism"),
    },
    "continent": {
        "Africa": _split(
            "africa african africans nigeria nigerian kenya kenyan egypt ethiopia ghana"
        ),
        "Asia": _split(
            "asia asian asians chinese india indian indians japan japanese korea korean vietnam"
            " vietnamese indonesia pakistan bangladesh philippines"
        ),
        "Europe": _split(
            "europe european europeans britain british england france germany german italy italian"
            " spain spanish poland greece sweden ireland irish"
        ),
        "Latin America": _split("brazil brazilian mexico mexican argentina colombia peru cuban"),
        "North America": _split("america american americans usa canada canadian canadians"),
        "Oceania": _split("australia australian australians zealand maori fiji samoa"),
    },
    "disability": {
        "disabled people": _split(
            "disabled disability disabilities wheelchair deaf autistic autism"
        ),
    },
}

_OCCUPATIONS = _split(
    "accountant actor architect artist assistant baker carpenter cashier chef chemist cleaner clerk"
    " coach dentist designer detective doctor driver economist electrician engineer farmer"
    " firefighter gardener hairdresser journalist judge lawyer librarian manager mechanic musician"
    " nanny nurse officer painter pharmacist photographer physicist pilot plumber principal"
    " professor programmer receptionist scientist secretary singer soldier surgeon teacher"
    " therapist trainer tutor waiter writer"
)
OCCUPATIONS: Mapping[str, str] = {
    form: word
    for word in sorted(_OCCUPATIONS)
    for form in (word, f"{word[:-1]}ies" if word.endswith("y") else f"{word}s")
}
"""The occupation of each of its words."""

PRAISE = _split(
    "admire admired best brave bright brilliant calm capable care caring charming cheerful"
    " clever confident creative delight dependable elegant enjoy excellent famous friendly"
    " generous gentle gifted glad good happy hardworking helpful honest hopeful intelligent joy"
    " love loved loyal nice patiently peaceful polite praise proud reliable respected safe skilled"
    " smart strong succeed success successful talented thoughtful trust warm welcome wise wonderful"
)
BLAME = _split(
    "abuse afraid angry annoying arrest arrested ashamed attack awful bad blame boring broken careless"
    " cheat clumsy corrupt crime criminal cruel danger dangerous dirty dishonest evil fail failed"
    " failure fear fight fraud guilty harm hate helpless hostile hurt ignorant incompetent kill lazy"
    " lie lied lonely mistake murder nasty pain poverty rude sad selfish steal stole stupid"
    " suffer terrible thief threat ugly unfair unhappy useless victim violence violent weak worst"
)
