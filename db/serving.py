"""Remote SQL: the newest publication behind DuckDB's own protocol (Quack), to be read only.

A server is one DuckDB instance. Its own catalog holds a view for each published table and a
macro for each published macro; the publication itself is attached beside it, read-only and
unlisted. A new publication is attached under another name and all views turn to it in one
transaction: a query sees one publication, whole, and one that runs keeps the file it began with.

What a client may do is decided by DuckDB's parser, not by patterns: one statement, a SELECT (or
FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE), of functions that are on a list. Not on it are
those that act (`quack_stop`, `quack_serve`, `enable_logging`, `checkpoint`), that see other
clients (`quack_active_connections`: a session's id is all that its requests need), that read
files, and that run SQL from a string (`query`), which the parser would not see.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import duckdb

from db.errors import StoreError, UsageError
from db.settings import Settings

EXTENSIONS = ("httpfs", "quack")  # httpfs brings the secure random numbers of session ids
TOKEN_FILE = "serve.token"  # noqa: S105 (a name, no token)
TOKEN_LENGTH = 16  # the protocol knows no limit of tries
GRACE_SECONDS = 5.0  # from a query's first look at a view until it holds the file behind it

# Table functions that only read what is published anyway, or the catalog.
TABLE_FUNCTIONS = (
    "duckdb_columns",
    "duckdb_constraints",
    "duckdb_databases",
    "duckdb_functions",
    "duckdb_keywords",
    "duckdb_schemas",
    "duckdb_tables",
    "duckdb_types",
    "duckdb_views",
    "generate_series",
    "icu_calendar_names",
    "json_each",
    "json_tree",
    "pg_timezone_names",
    "pragma_table_info",
    "pragma_version",
    "range",
    "repeat",
    "unnest",
)
# Scalar functions that are volatile, of which the others write, wait, or keep state.
VOLATILE_FUNCTIONS = ("error", "gen_random_uuid", "random", "uuid", "uuidv4", "uuidv7")

_GUARD = "lookback_guard"


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def uri(self) -> str:
        """As clients name it in ATTACH."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"quack:{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine's own processes can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True)
class Token:
    """What a client must show.

    Attributes
    ----------
    value : never printed, and left out of the representation.
    origin : where a person finds it.
    """

    value: str = field(repr=False)
    origin: str


def serve_token(settings: Settings) -> Token:
    """The token of LOOKBACK_SERVE_TOKEN, else of a file under home that is made once.

    A file, so that one command serves and no token needs to be typed into a shell's history;
    kept, so that clients outlive a restart; of mode 0600, so that only its owner reads it.

    Raises
    ------
    UsageError
        The token is too short, or others may read the file.
    """
    if settings.serve_token is not None:
        token = Token(settings.serve_token.get_secret_value(), "LOOKBACK_SERVE_TOKEN")
    else:
        path = settings.home / TOKEN_FILE
        try:
            _write_token(path)
        except FileExistsError:
            _refuse_open_token(path)
        token = Token(path.read_text().strip(), str(path))
    if len(token.value) < TOKEN_LENGTH:
        raise UsageError(
            f"the token of {token.origin} is shorter than {TOKEN_LENGTH} characters; "
            "tries are not limited: make it longer"
        )
    return token


def _write_token(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")


def _refuse_open_token(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UsageError(
            f"others may read {path}; remove it (the next start makes a new token), "
            "or set LOOKBACK_SERVE_TOKEN"
        )


class Server:
    """A running server; made by `serve`.

    Attributes
    ----------
    address : where it listens.
    publication : the published file that new queries see.
    """

    def __init__(self, settings: Settings, address: Address) -> None:
        self.address = address
        self.publication: Path | None = None
        self._settings = settings
        self._attached = 0
        self._retired: list[tuple[float, str]] = []
        self._connection = _instance(settings)

    def follow(self) -> bool:
        """Turn to the newest publication; whether it is another one than before.

        Raises
        ------
        StoreError
            Nothing is published, or no DuckDB file; the publication before stays.
        """
        self._let_go(older_than=time.monotonic() - GRACE_SECONDS)
        published = self._settings.published
        if not published.exists():
            raise StoreError(
                f"nothing is published under {self._settings.home}; run: lookback nightly"
            )
        path = published.resolve()
        if path == self.publication:
            return False
        try:
            self._turn_to(path)
        except duckdb.Error as error:
            cause = str(error).splitlines()[0]
            raise StoreError(f"{path} is no published Lookback file ({cause})") from None
        self.publication = path
        return True

    def listen(self, token: Token) -> None:
        """Answer from now on, in threads of DuckDB's own.

        Raises
        ------
        UsageError
            The port is taken, or the host is none of this machine's.
        """
        _refuse_taken(self.address)
        try:
            # bound: the token appears in no statement; the answer would show it
            self._connection.execute(
                "CALL quack_serve($uri, token => $token, allow_other_hostname => true)",
                {"uri": self.address.uri, "token": token.value},
            )
        except duckdb.Error:
            raise UsageError(
                f"cannot listen on {self.address.uri}: choose another with --host and --port"
            ) from None

    def close(self) -> None:
        """Stop answering. The protocol ends no query that still runs: only the process does."""
        listening = self._connection.execute("SELECT listen_uri FROM quack_server_list()")
        for (uri,) in listening.fetchall():
            self._connection.execute("CALL quack_stop($uri)", {"uri": uri})
        self._connection.close()

    def _turn_to(self, path: Path) -> None:
        """Attach a publication and point all views and macros at it, in one transaction."""
        run = self._connection.execute
        content = _content(path)
        name = f"publication_{self._attached + 1}"
        # a transaction writes one database: the guard learns new macros first
        run(
            f"UPDATE {_GUARD}.admitted SET names = list_distinct(list_concat(names, $macros))",
            {"macros": [macro.name for macro in content.macros]},
        )
        run(f"ATTACH '{_quoted(path)}' AS {name} (READ_ONLY, HIDDEN)")
        run(f"USE {name}")  # a macro is bound when it is made: what it calls is found there
        run("BEGIN")
        try:
            for statement in self._dropped(content) + content.statements(name):
                run(statement)
            run("COMMIT")
        except duckdb.Error:
            run("ROLLBACK")
            run("USE memory")
            run(f"DETACH {name}")
            raise
        run("USE memory")
        if self._attached:
            self._retired.append((time.monotonic(), f"publication_{self._attached}"))
        self._attached += 1

    def _dropped(self, content: _Content) -> list[str]:
        """Statements that drop what is not published any more."""
        views = self._connection.execute(
            """
            SELECT schema_name, view_name
            FROM duckdb_views()
            WHERE database_name = 'memory' AND NOT internal
            """
        ).fetchall()
        macros = self._connection.execute(
            """
            SELECT DISTINCT schema_name, function_name, function_type
            FROM duckdb_functions()
            WHERE database_name = 'memory' AND NOT internal
            """
        ).fetchall()
        now = {(macro.schema, macro.name) for macro in content.macros}
        return [
            f"DROP VIEW memory.{_identifier(*view)}"
            for view in views
            if view not in content.relations
        ] + [
            f"DROP MACRO {'TABLE ' if kind == 'table_macro' else ''}"
            f"memory.{_identifier(schema, macro)}"
            for schema, macro, kind in macros
            if (schema, macro) not in now
        ]

    def _let_go(self, older_than: float) -> None:
        """Detach publications that no query can be on its way to; those that run keep theirs."""
        for since, name in self._retired[:]:
            if since <= older_than:
                self._connection.execute(f"DETACH {name}")
                self._retired.remove((since, name))


@contextmanager
def serve(settings: Settings, address: Address, token: Token) -> Iterator[Server]:
    """Serve the newest publication; the caller lets it `follow` from time to time.

    Raises
    ------
    StoreError
        Nothing is published, or no DuckDB file.
    UsageError
        The port is taken, or the packages of the protocol are not installed.
    """
    server = Server(settings, address)
    try:
        server.follow()
        server.listen(token)
        yield server
    finally:
        server.close()


@dataclass(frozen=True)
class _Macro:
    schema: str
    name: str
    is_table: bool
    overloads: tuple[tuple[str, ...], ...]

    def statement(self, source: str) -> str:
        """One that makes a macro of the same name that calls it."""
        called = f"{source}.{_identifier(self.schema, self.name)}"
        bodies = []
        for parameters in self.overloads:
            given = "(" + ", ".join(_identifier(name) for name in parameters) + ")"
            body = f"TABLE FROM {called}{given}" if self.is_table else f"{called}{given}"
            bodies.append(f"{given} AS {body}")
        target = _identifier(self.schema, self.name)
        return f"CREATE OR REPLACE MACRO memory.{target}{', '.join(bodies)}"


@dataclass(frozen=True)
class _Content:
    """What a publication holds, by schema and name; comments by kind, schema, name, column."""

    relations: frozenset[tuple[str, str]]
    macros: tuple[_Macro, ...]
    comments: tuple[tuple[str, str, str | None, str], ...]

    def statements(self, source: str) -> list[str]:
        """Those that make all of it in `memory`, on top of what is attached as `source`."""
        schemas = {schema for schema, _ in self.relations} | {m.schema for m in self.macros}
        made = [f"CREATE SCHEMA IF NOT EXISTS memory.{_identifier(name)}" for name in schemas]
        for schema, relation in sorted(self.relations):
            name = _identifier(schema, relation)
            made.append(f"CREATE OR REPLACE VIEW memory.{name} AS FROM {source}.{name}")
        made += [macro.statement(source) for macro in self.macros]
        for schema, relation, column, comment in self.comments:
            target = f"memory.{_identifier(schema, relation)}"
            target = f"COLUMN {target}.{_identifier(column)}" if column else f"VIEW {target}"
            made.append(f"COMMENT ON {target} IS '{_quoted(comment)}'")
        return made


def _content(path: Path) -> _Content:
    with duckdb.connect(str(path), read_only=True) as publication:
        comments = publication.execute(
            """
            -- one row per commented table, view or column
            SELECT schema_name, table_name, NULL AS column_name, comment
            FROM duckdb_tables() WHERE comment IS NOT NULL
            UNION ALL
            SELECT schema_name, view_name, NULL, comment
            FROM duckdb_views() WHERE comment IS NOT NULL AND NOT internal
            UNION ALL
            SELECT schema_name, table_name, column_name, comment
            FROM duckdb_columns() WHERE comment IS NOT NULL AND NOT internal
            """
        ).fetchall()
        relations = publication.execute(
            """
            SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal
            UNION
            SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal
            """
        ).fetchall()
        macros = publication.execute(
            """
            -- one row per macro, with the parameters of each of its overloads
            SELECT schema_name, function_name, function_type = 'table_macro', list(parameters)
            FROM duckdb_functions()
            WHERE NOT internal AND function_type IN ('macro', 'table_macro')
            GROUP BY ALL
            ORDER BY ALL
            """
        ).fetchall()
    return _Content(
        frozenset((schema, name) for schema, name in relations),
        tuple(
            _Macro(schema, name, is_table, tuple(tuple(given) for given in overloads))
            for schema, name, is_table, overloads in macros
        ),
        tuple(comments),
    )


def _instance(settings: Settings) -> duckdb.DuckDBPyConnection:
    """An instance with the protocol in it, closed to everything but published files."""
    connection = duckdb.connect()
    for name in EXTENSIONS:
        connection.execute(f"LOAD '{_quoted(_extension(name))}'")
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET temp_directory = ''")  # no query fills the disk
    try:
        connection.execute("SET memory_limit = $limit", {"limit": settings.serve_memory})
    except duckdb.Error:
        raise UsageError(
            f"setting serve_memory: {settings.serve_memory!r} is no size, such as '4GB'; "
            "see LOOKBACK_SERVE_MEMORY"
        ) from None
    _set_guard(connection)
    # later publications are attached by this instance: their folder stays readable
    published = _quoted((settings.home / "published").resolve())
    connection.execute(f"SET allowed_directories = ['{published}']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _set_guard(connection: duckdb.DuckDBPyConnection) -> None:
    """Functions that the protocol asks about each client and each query."""
    connection.execute(f"ATTACH ':memory:' AS {_GUARD} (HIDDEN)")
    connection.execute(
        f"""
        -- one row: what a query may call; publications add their macros
        CREATE TABLE {_GUARD}.admitted AS
        SELECT list_distinct(list(function_name) || $tables || $volatile) AS names
        FROM duckdb_functions()
        WHERE function_type IN ('scalar', 'aggregate', 'macro')
          AND coalesce(stability, '') != 'VOLATILE'
          AND NOT coalesce(has_side_effects, false)
          AND NOT starts_with(function_name, 'quack_')
        """,
        {"tables": list(TABLE_FUNCTIONS), "volatile": list(VOLATILE_FUNCTIONS)},
    )
    # digests: how long a comparison takes says nothing about the token
    connection.execute(
        f"""
        CREATE MACRO {_GUARD}.admits_client(session, given, token) AS
            sha256(CAST(given AS VARCHAR)) = sha256(CAST(token AS VARCHAR))
        """
    )
    # json_serialize_sql takes nothing but SELECT statements: all else is an error. The answer is
    # a BOOLEAN: the protocol would take a text for the query to run, and an append for admitted
    connection.execute(
        f"""
        CREATE MACRO {_GUARD}.admits_query(session, query) AS (
            SELECT parsed ->> '$.error' = 'false'
               AND json_array_length(parsed, '$.statements') = 1
               AND list_has_all(
                    names, list_transform(parsed ->> '$..function_name', lambda x: lower(x))
               )
            FROM (SELECT json_serialize_sql(CAST(query AS VARCHAR)) AS parsed)
            CROSS JOIN {_GUARD}.admitted
        )
        """
    )
    for hook, macro in (("authentication", "admits_client"), ("authorization", "admits_query")):
        connection.execute(f"SET GLOBAL quack_{hook}_function = '{_GUARD}.main.{macro}'")


def _extension(name: str) -> Path:
    """The extension's file inside its Python package: nothing is downloaded or installed."""
    package = find_spec(f"duckdb_extension_{name}")
    if package is not None and package.submodule_search_locations:
        for location in package.submodule_search_locations:
            folder = Path(location) / "extensions" / f"v{duckdb.__version__}"
            path = folder / f"{name}.duckdb_extension"
            if path.is_file():
                return path
    raise UsageError(
        f"DuckDB's extension {name} for version {duckdb.__version__} is not installed; "
        "run: pip install 'lookback[serve]'"
    )


def _refuse_taken(address: Address) -> None:
    """Refuse a port that is taken: the protocol's own socket would share it without a word."""
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(name)
            probe.listen()
    except OSError as error:
        raise UsageError(
            f"cannot listen on {address.host} port {address.port} ({error.strerror}); "
            "choose another with --host and --port"
        ) from None


def _identifier(*names: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _quoted(text: str | Path) -> str:
    return str(text).replace("'", "''")
