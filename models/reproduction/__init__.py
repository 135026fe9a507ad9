"""Reproduction: the chapter's systems under its own protocol and under an honest one."""
