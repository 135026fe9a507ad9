"""Make docs/tables/ from a store's publication: `python docs/tables_page.py --home FOLDER`.

One page for each table, view and macro of schema `main`, and an index. Columns and comments are
those of an empty store; what the queries of `tables_queries.py` give is what they give on the
store at FOLDER, which the commands of `MADE_BY` have made: `--make` gives them, some ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
from tables_queries import TABLES, Query, Table

from db.publishing import open_published, publish
from db.settings import load_settings
from db.warehouse import open_warehouse
from signals.declaration import SIGNALS
from signals.latest import refresh_wide
from signals.sentiment import refresh_daily

FOLDER = Path(__file__).with_name("tables")
MADE_BY = (
    "lookback nightly",
    "lookback backfill --from 2017-01-03 --to 2018-12-27",
    "lookback nightly --session 2018-12-31",
    "lookback nightly --session 2019-01-02",
    "lookback nightly --session 2019-01-03",
    "lookback nightly --session 2019-01-04",
)
# A page shows what a question is answered by, not a listing.
MOST_ROWS = 10
# DuckDB's long names of types.
SHORT = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}


@dataclass(frozen=True)
class Column:
    """A published column."""

    name: str
    type: str
    nullable: bool
    comment: str

    def __str__(self) -> str:
        null = "" if self.nullable else " NOT NULL"
        return f"{self.name} {self.type}{null}: {self.comment}"


@dataclass(frozen=True)
class Relation:
    """A published table, view or table macro; `kind` says which."""

    name: str
    kind: str
    comment: str
    columns: tuple[Column, ...]
    parameters: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its name as a query writes it."""
        return f"{self.name}({', '.join(self.parameters)})" if self.kind == "macro" else self.name


# --------------------------------------------------------------------------- the contract


@contextmanager
def empty_publication() -> Iterator[duckdb.DuckDBPyConnection]:
    """What a store publishes that has no rows yet: the contract and nothing else."""
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home=Path(home), profile="sample")
        with open_warehouse(settings, "documentation") as warehouse:
            refresh_wide(warehouse)
            refresh_daily(warehouse)
            publish(warehouse)
        with open_published(settings) as connection:
            yield connection


def published_relations(connection: duckdb.DuckDBPyConnection) -> dict[str, Relation]:
    """Tables, views and table macros of schema `main`, by name."""
    # one row per table or view
    stored = connection.execute(
        """
        SELECT table_name, 'table', comment
        FROM duckdb_tables()
        WHERE schema_name = 'main' AND NOT internal
        UNION ALL
        SELECT view_name, 'view', comment
        FROM duckdb_views()
        WHERE schema_name = 'main' AND NOT internal
        ORDER BY 1
        """
    ).fetchall()
    # one row per macro
    macros = connection.execute(
        """
        SELECT function_name, parameters, comment
        FROM duckdb_functions()
        WHERE schema_name = 'main' AND function_type = 'table_macro' AND NOT internal
        ORDER BY 1
        """
    ).fetchall()
    relations = [
        Relation(name, kind, comment or "", _columns(connection, name))
        for name, kind, comment in stored
    ]
    relations += [
        Relation(name, "macro", comment or "", _columns_of_macro(connection, name), tuple(given))
        for name, given, comment in macros
    ]
    return {relation.name: relation for relation in relations}


def _columns(connection: duckdb.DuckDBPyConnection, name: str) -> tuple[Column, ...]:
    found = connection.execute(
        """
        SELECT column_name, data_type, is_nullable, comment
        FROM duckdb_columns()
        WHERE schema_name = 'main' AND table_name = ?
        ORDER BY column_index
        """,
        (name,),
    ).fetchall()
    return tuple(
        Column(column, SHORT.get(kind, kind), nullable, comment or "")
        for column, kind, nullable, comment in found
    )


def _columns_of_macro(connection: duckdb.DuckDBPyConnection, name: str) -> tuple[Column, ...]:
    """DuckDB keeps no comments of a macro's columns: `tables_queries.py` says whose they are."""
    declared = TABLES.get(name, Table())
    found = connection.execute(
        f"DESCRIBE SELECT * FROM main.{name}(TIMESTAMPTZ '2019-01-01 00:00:00+00')"
    ).fetchall()
    like = {column.name: column for column in _columns(connection, declared.like)}
    return tuple(
        Column(
            column,
            SHORT.get(kind, kind),
            like[column].nullable if column in like else column in declared.nullable,
            like[column].comment if column in like else declared.columns.get(column, ""),
        )
        for column, kind, *_ in found
    )


def as_json(relations: Mapping[str, Relation]) -> str:
    """The contract as it is recorded: a line for each column."""
    recorded = {
        relation.title: {
            "kind": relation.kind,
            "comment": relation.comment,
            "columns": [str(column) for column in relation.columns],
        }
        for relation in relations.values()
    }
    return json.dumps(recorded, indent=1, ensure_ascii=False) + "\n"


# --------------------------------------------------------------------------- pages


def index(relations: Mapping[str, Relation]) -> str:
    """The page that lists all, Markdown."""
    rows = "\n".join(
        f"| [`{relations[name].title}`]({name}.md) | {relations[name].kind} "
        f"| {_what(relations[name], table)} | {grain(relations[name], table)} |"
        for name, table in TABLES.items()
    )
    commands = "\n".join(MADE_BY)
    return f"""# The published tables

Schema `main` of `published/current/lookback.duckdb`: what readers may build on. It changes only by
a migration and with a line in [CHANGELOG.md](../../CHANGELOG.md). The file has the comments, too:

```sql
SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = 'main';
```

| | | what it is | one row per |
|---|---|---|---|
{rows}

Times are UTC; `as_of`, `session` and other dates are those of the exchange. Each page has questions
that people ask, the query, and its output; `lookback sql "…"` answers the same of your store. An id
that is cut (`left(data_snapshot, 8)`) is cut for the page only.

Made by `python docs/tables_page.py --home FOLDER` from a store of the sample profile that these
commands had made, in this order (`--make` gives them):

```
{commands}
```

So it holds a first night, two years before it that were filled in by versions trained at the end of
2016 and of 2017, and the nights of the week after, by which the outcomes of the first had become
known. The pages show how to ask; how good the models are is in [results.md](../results.md).
"""


def head(relation: Relation, table: Table) -> str:
    """What a page says before its queries: the relation, its grain and its columns."""
    nullable = {True: "yes", False: ""}
    rows = "\n".join(
        f"| `{column.name}` | {column.type} | {nullable[column.nullable]} "
        f"| {_escaped(column.comment)} |"
        for column in relation.columns
    )
    parts = [
        f"# {relation.title}",
        f"{_sentence(_what(relation, table))} {relation.kind.capitalize()} of schema `main`. "
        f"One row per {grain(relation, table)}.",
        *([table.note] if table.note else []),
        *([_units()] if relation.name == "signals" else []),
        f"| column | type | may be NULL | what it is |\n|---|---|---|---|\n{rows}",
    ]
    return "\n\n".join(parts)


def grain(relation: Relation, table: Table) -> str:
    """What one row stands for, as text."""
    names = ", ".join(f"`{name}`" for name in table.key)
    return names if len(table.key) == 1 else f"({names})"


def section(query: Query, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A question, its query and what it gave."""
    lines = [columns, ["---:" if _is_number(rows, at) else "---" for at in range(len(columns))]]
    lines += [[shown(value) for value in row] for row in rows]
    output = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {query.question}\n\n```sql\n{query.sql}\n```\n\n{output}"


def shown(value: Any) -> str:
    """A value as a page shows it."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}" + ("+00" if value.tzinfo else "")
        case float():
            return str(value + 0.0)  # a negative zero is zero
        case _:
            return _escaped(str(value))


def page(relation: Relation, table: Table, connection: duckdb.DuckDBPyConnection) -> str:
    """A whole page, Markdown; the queries run on the publication.

    Raises
    ------
    ValueError
        An output is empty or too long for a page, or the grain is not what it is said to be.
    """
    require_grain(relation, table, connection)
    parts = [head(relation, table)]
    for query in table.queries:
        result = connection.execute(query.sql)
        columns = [name for name, *_ in result.description]
        rows = result.fetchall()
        if not 0 < len(rows) <= MOST_ROWS:
            raise ValueError(f"{relation.name}: {query.question} gives {len(rows)} rows")
        parts.append(section(query, columns, rows))
    return "\n\n".join(parts) + "\n"


def require_grain(relation: Relation, table: Table, connection: duckdb.DuckDBPyConnection) -> None:
    """Hold the declared key against the rows.

    Raises
    ------
    ValueError
        Two rows have the same key.
    """
    key = ", ".join(table.key)
    read = table.call or f"main.{relation.name}"
    found = connection.execute(
        f"SELECT {key} FROM {read} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"
    ).fetchone()
    if found is not None:
        raise ValueError(f"{relation.name}: more than one row of ({key}) = {found}")


def _what(relation: Relation, table: Table) -> str:
    """The comment without its grain, which stands apart."""
    text = (
        table.what or re.split(r"[:,.;] (?:one row per|its newest revision)", relation.comment)[0]
    )
    return _escaped(text)


def _units() -> str:
    rows = "\n".join(f"| `{each.name}` | {each.unit} |" for each in SIGNALS.values())
    return f"| signal | unit of `value` |\n|---|---|\n{rows}"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("*", "\\*")


def _is_number(rows: Sequence[Sequence[Any]], at: int) -> bool:
    values = [row[at] for row in rows if row[at] is not None]
    return bool(values) and all(
        not isinstance(value, bool) and hasattr(value, "__float__") for value in values
    )


def make_store(home: Path) -> None:
    """Give the commands of `MADE_BY`, in a folder that is not there yet.

    Raises
    ------
    FileExistsError
        The folder is there.
    """
    home.mkdir(parents=True)
    environment = {name: os.environ[name] for name in os.environ if "LOOKBACK_" not in name}
    environment |= {"LOOKBACK_HOME": str(home), "LOOKBACK_PROFILE": "sample"}
    scripts = Path(sys.executable).parent
    for command in MADE_BY:
        program, *rest = command.split()
        subprocess.run([str(scripts / program), *rest], check=True, env=environment)


def main() -> None:
    """Write all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="LOOKBACK_HOME of the store")
    parser.add_argument("--make", action="store_true", help="make the store first; minutes")
    arguments = parser.parse_args()
    home: Path = arguments.home
    if arguments.make:
        make_store(home)
    with empty_publication() as connection:
        relations = published_relations(connection)
    with open_published(load_settings(home=home, profile="sample")) as connection:
        pages = {name: page(relations[name], table, connection) for name, table in TABLES.items()}
    for name, text in ({"index": index(relations)} | pages).items():
        (FOLDER / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
