"""Boards and cores: their files and what they say."""
