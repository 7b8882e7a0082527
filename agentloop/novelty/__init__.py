"""Novelty: whether a text was there before, in other words or in another's test.

`near` finds near-duplicates among a million texts, `semantic` those by meaning, `contamination` what
repeats texts that nobody may train on, `lineage` counts generations. All enter and leave plain text,
names and numbers. Refuses to know: store, session, models, and what a hit is worth.
"""
