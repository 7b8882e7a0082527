"""Prompts and rubrics that come with agentloop: data, one folder a recipe."""
