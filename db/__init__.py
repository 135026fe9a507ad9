"""What it remembers: engine, tables, migrations, sources, quality gate, publishing."""
