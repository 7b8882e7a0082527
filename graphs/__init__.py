"""Recipes that come with agentloop: one file each, with `recipe` and a compiled `graph`."""
