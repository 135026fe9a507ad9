"""Reproduction of the chapter's systems of text, and what came of them for films and finance."""
