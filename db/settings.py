"""Settings: one object, from environment `LOOKBACK_*` and `lookback.toml`.

A variable of the environment that is empty counts as not set.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from db.errors import UsageError

Profile = Literal["sample", "live", "files"]

PATHS = ("home", "files_dir", "inbox_dir", "company_names", "corpora")
SECRETS = frozenset({"fred_api_key", "tiingo_api_key", "serve_token"})

# Twenty large US stocks, the same that the sample profile carries.
DEFAULT_SYMBOLS = [
    "AAPL",
    "AMD",
    "BAC",
    "BBY",
    "CVX",
    "GE",
    "HD",
    "JNJ",
    "JPM",
    "KO",
    "LLY",
    "MRK",
    "MSFT",
    "PEP",
    "PFE",
    "PG",
    "RRC",
    "UNH",
    "WMT",
    "XOM",
]


class Settings(BaseSettings):
    """What a run needs to know. Times are durations; instants come from the clock."""

    model_config = SettingsConfigDict(
        env_prefix="LOOKBACK_", env_ignore_empty=True, extra="forbid", frozen=True
    )

    profile: Profile = Field("sample", description="sample, live or files")
    home: Path = Field(
        default_factory=lambda: Path.home() / ".lookback",
        description="everything the service writes lies under this folder",
    )
    calendar: str = Field("XNYS", description="exchange calendar (exchange_calendars code)")
    clock: Literal["system", "replay"] | None = Field(
        None,
        description="system: the machine's clock; replay: each night runs at its own cut-off. "
        "Default: replay for the sample profile, system otherwise",
    )
    cutoff_delay_hours: float = Field(
        6.0, ge=0, le=15, description="a night's cut-off lies this long after the session's close"
    )
    signals: list[str] = Field(
        [], description="signals that nights make, as JSON; empty for every declared one"
    )
    champion_max_age_days: int = Field(
        35, ge=1, description="a champion that was trained longer ago makes `check` complain"
    )
    publication_delay_minutes: int = Field(
        30, ge=0, description="from publication until an order can act on it"
    )

    fred_series: list[str] = Field(
        ["SP500", "UMCSENT", "IPGMFN", "VIXCLS"], description="series of the live profile, as JSON"
    )
    fred_api_key: SecretStr | None = Field(
        None,
        description="environment only; with it the monthly series of the live profile come with "
        "all their vintages and release dates (ALFRED)",
    )
    publication_lag_days: dict[str, float] = Field(
        default_factory=dict,
        description="series: days from period end to publication, as JSON; overrides the "
        "built-in rules; FF is the Fama-French library",
    )
    symbols: list[str] = Field(
        default_factory=lambda: list(DEFAULT_SYMBOLS),
        description="stocks of the live profile, as JSON",
    )
    bars_vendor: Literal["yfinance", "tiingo"] = Field(
        "yfinance", description="who delivers daily bars: yfinance, or tiingo (needs a key)"
    )
    tiingo_api_key: SecretStr | None = Field(None, description="environment only")
    history_start: str = Field(
        "1990-01-01",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="first date asked of live sources",
    )
    files_dir: Path | None = Field(
        None, description="drops of the files profile; default: files/ under home"
    )
    files_adjustment: Literal["raw", "split", "total"] = Field(
        "total", description="what the prices of dropped bars are adjusted for"
    )

    inbox_dir: Path | None = Field(
        None, description="a folder of incoming texts, beside inbox/ under home"
    )
    feeds: list[str] = Field([], description="addresses of RSS and Atom feeds, as JSON")
    inbox_max_megabytes: float = Field(
        100.0, gt=0, description="a larger file of the inbox goes to quarantine unread"
    )
    document_max_kilobytes: float = Field(
        1000.0, gt=0, description="a longer text goes to quarantine"
    )
    company_names: Path | None = Field(
        None,
        description="CSV of symbol,name by which texts are found to be about a symbol. "
        "Default: a table of large US companies",
    )
    corpora: Path | None = Field(
        None,
        description="folder of labelled texts that models of text learn from (docs/text.md); "
        "default: corpora/ under home",
    )

    overlap_sessions: int = Field(
        10, ge=1, description="sessions before the watermark that are fetched again"
    )
    request_timeout_seconds: float = Field(30.0, gt=0, description="of one request to a vendor")
    request_attempts: int = Field(4, ge=1, le=10, description="tries of one request")
    request_backoff_seconds: float = Field(1.0, ge=0, description="first wait; doubles each time")
    lock_wait_seconds: float = Field(60.0, ge=0, description="bounded wait for the writer lock")
    keep_publications: int = Field(5, ge=2, description="old published copies kept for readers")

    serve_port: int = Field(9494, ge=1, le=65535, description="port of `lookback serve`")
    serve_memory: str = Field("4GB", description="most memory that queries of clients take")
    serve_token: SecretStr | None = Field(
        None,
        description="environment only; what clients of `lookback serve` must show, at least 16 "
        "characters. Default: made once, in serve.token under home",
    )

    @field_validator(*PATHS, mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError("is blank; name a path, or leave the setting out")
        return value

    @field_validator(*PATHS)
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and "?" in str(value):
            raise ValueError("DuckDB opens no path with a question mark")
        return value.expanduser().absolute() if value is not None else None

    @field_validator("inbox_dir")
    @classmethod
    def _meant(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        home = info.data.get("home")  # None: it was refused itself
        if value is not None and home is not None and (why := no_inbox(value, home)):
            raise ValueError(why)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _toml()))

    @property
    def replays(self) -> bool:
        """Whether nights run at their own cut-off instead of at the machine's clock."""
        return (self.clock or ("replay" if self.profile == "sample" else "system")) == "replay"

    @property
    def drops(self) -> Path:
        """Folder that the files profile reads: see `db.sources.files`."""
        return self.files_dir or self.home / "files"

    @property
    def inbox(self) -> Path:
        """Where texts are dropped: see `db.sources.inbox`."""
        return self.home / "inbox"

    @property
    def corpora_folder(self) -> Path:
        """Labelled texts that models of text learn from."""
        return self.corpora or self.home / "corpora"

    @property
    def data_docs(self) -> Path:
        """Folder of Great Expectations' Data Docs."""
        return self.home / "reports" / "data_docs"

    @property
    def warehouse(self) -> Path:
        """The private DuckDB file; one process writes it, nobody else opens it."""
        return self.home / "warehouse.duckdb"

    @property
    def published(self) -> Path:
        """The file that readers open (a pointer to the newest publication)."""
        return self.home / "published" / "current" / "lookback.duckdb"


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment and `lookback.toml`; `overrides` win.

    Raises
    ------
    UsageError
        One line naming the setting, what it was given and what it takes.
    """
    toml = _toml()
    try:
        _refuse_secrets_in(toml)
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        where = f"LOOKBACK_{name.upper()} or {toml}"
        given = "" if name in SECRETS else f" (given {first.get('input')!r})"
        problem = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"setting {name}: {problem}{given}; see {where}") from None
    except SettingsError as error:
        name = str(error).split('"')[1] if '"' in str(error) else "of the environment"
        raise UsageError(
            f"setting {name}: LOOKBACK_{name.upper()} is no JSON; "
            """lists are written as ["A", "B"], tables as {"A": 1}"""
        ) from None


def no_inbox(folder: Path, home: Path) -> str:
    """Why a folder cannot be an inbox, all files of which are moved; "" where it can be one."""
    real = os.path.realpath(folder)
    if real == os.path.realpath(os.path.expanduser("~")):
        problem = "is the home folder of this user"
    elif Path(os.path.realpath(home)).is_relative_to(real):
        problem = f"is, or holds, LOOKBACK_HOME {home}"
    else:
        return ""
    return f"{problem}, and files of an inbox are moved; name a folder for texts alone"


def _toml() -> Path:
    """The settings file: LOOKBACK_CONFIG, or lookback.toml in the working folder."""
    return Path(os.environ.get("LOOKBACK_CONFIG") or "lookback.toml")


def _refuse_secrets_in(toml: Path) -> None:
    if not toml.is_file():
        return
    import tomllib

    try:
        content = tomllib.loads(toml.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{toml} is not valid TOML: {error}") from None
    # pydantic takes names in any case; a prefix copied from the environment is refused as well
    names = {name.lower().removeprefix("lookback_") for name in content}
    for name in SECRETS & names:
        raise UsageError(
            f"{toml} holds {name}; secrets come from the environment only: "
            f"set LOOKBACK_{name.upper()} and remove the line"
        )
