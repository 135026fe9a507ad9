"""The quality gate: rules declared once, judged by Great Expectations and by predicate."""
