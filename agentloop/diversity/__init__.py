"""Diversity: how varied a set of texts is, beside real text and beside its own beginning.

    words      what a word, an opening and a copy are
    corpus     texts as numbers, and the share of them that fills a token budget
    measures   the figures of a set of texts
    band       what each figure is on real text of the same size: the null band
    collapse   what is a collapse whatever the kind of text
    watch      the accepted texts of a run, batch by batch: green, amber, red
    phrases    what a generator should stop writing, and the strata that it leaves out
    bias       groups, pronouns, sentiment, acceptance, labels: what a set says about people
    lexicons   the word lists of `bias`

Enters: texts, names of strata, whether they were accepted. Leaves: figures and reasons as plain
records. Refuses to know: models, runs, the store, what is done about an alarm.
"""
