"""Settings: profiles, environment over file, one-line refusals, keys never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from db.errors import UsageError
from db.settings import PATHS, Settings, load_settings

KEY = "0123456789abcdef-a-key"


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """The settings file that the test's environment names."""
    return tmp_path / "lookback.toml"


def refusal(**overrides: object) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(**overrides)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("profile", "replays"), [("sample", True), ("live", False), ("files", False)]
)
def test_three_profiles_and_their_clocks(
    profile: str, replays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKBACK_PROFILE", profile)
    settings = load_settings()
    assert (settings.profile, settings.replays) == (profile, replays)
    assert load_settings(clock="replay").replays
    assert not load_settings(clock="system").replays


def test_sample_is_the_default_and_all_lies_under_home(own_home: Path) -> None:
    settings = load_settings()
    assert settings.profile == "sample"
    assert settings.home == own_home
    for path in (settings.warehouse, settings.published, settings.drops, settings.data_docs):
        assert path.is_relative_to(own_home)


def test_an_unknown_profile_names_setting_value_and_choices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOOKBACK_PROFILE", "paper")
    said = refusal()
    for words in ("setting profile", "'paper'", "'sample', 'live' or 'files'", "LOOKBACK_PROFILE"):
        assert words in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("overlap_sessions", "0"),
        ("cutoff_delay_hours", "20"),
        ("keep_publications", "1"),
        ("request_attempts", "many"),
        ("symbols", "AAPL,MSFT"),
        ("publication_lag_days", "UMCSENT=3"),
        ("home", "/srv/what?"),
    ],
)
def test_a_bad_value_names_its_setting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LOOKBACK_{name.upper()}", value)
    said = refusal()
    assert said.startswith(f"setting {name}: ")
    assert f"LOOKBACK_{name.upper()}" in said


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_an_empty_variable_counts_as_not_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LOOKBACK_HOME")
    unset = load_settings()
    monkeypatch.setenv(f"LOOKBACK_{name.upper()}", "")
    assert load_settings() == unset
    assert unset.home == tmp_path / ".lookback"


def test_an_empty_variable_leaves_what_the_file_says(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text('signals = ["macro_outlook"]\n')
    monkeypatch.setenv("LOOKBACK_SIGNALS", "")
    assert load_settings().signals == ["macro_outlook"]
    monkeypatch.chdir(toml.parent)
    monkeypatch.setenv("LOOKBACK_CONFIG", "")
    assert load_settings().signals == ["macro_outlook"]


@pytest.mark.parametrize("name", PATHS)
def test_a_blank_path_is_refused(name: str, toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOKBACK_HOME")
    toml.write_text(f'{name} = ""\n')
    assert f"setting {name}: is blank" in refusal()
    monkeypatch.setenv(f"LOOKBACK_{name.upper()}", " ")
    assert f"setting {name}: is blank" in refusal()


def test_an_inbox_that_cannot_be_meant_is_refused(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = tmp_path / "user"
    user.mkdir()
    (tmp_path / "link").symlink_to(own_home)
    monkeypatch.setenv("HOME", str(user))
    for unfit in ("/", str(own_home), str(tmp_path), str(tmp_path / "link"), f"{own_home}/x/.."):
        assert "setting inbox_dir: is, or holds, LOOKBACK_HOME" in refusal(inbox_dir=unfit)
    for unfit in ("~", str(user)):
        assert "setting inbox_dir: is the home folder of this user" in refusal(inbox_dir=unfit)
    for fit in (user / "texts", own_home / "inbox", tmp_path / "drop"):
        assert load_settings(inbox_dir=fit).inbox_dir == fit
    assert refusal(inbox_dir="/", home="/what?").startswith("setting home: ")


def test_the_file_is_read_and_the_environment_wins(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text('profile = "live"\noverlap_sessions = 7\nsymbols = ["SPY", "QQQ"]\n')
    monkeypatch.setenv("LOOKBACK_OVERLAP_SESSIONS", "3")
    settings = load_settings()
    assert (settings.profile, settings.symbols) == ("live", ["SPY", "QQQ"])
    assert settings.overlap_sessions == 3
    assert load_settings(overlap_sessions=5).overlap_sessions == 5


def test_a_misspelt_setting_in_the_file_is_refused(toml: Path) -> None:
    toml.write_text("overlap_session = 7\n")
    said = refusal()
    assert "overlap_session" in said
    assert str(toml) in said


def test_a_broken_file_is_refused(toml: Path) -> None:
    toml.write_text("profile = \n")
    assert f"{toml} is not valid TOML" in refusal()
    toml.write_bytes(b"\xff\xfe\x00profile")
    assert f"{toml} is not valid TOML" in refusal()


@pytest.mark.parametrize(
    "name",
    [
        "tiingo_api_key",
        "TIINGO_API_KEY",
        "LOOKBACK_TIINGO_API_KEY",
        "Tiingo_Api_Key",
        "fred_api_key",
    ],
)
def test_a_secret_in_the_file_is_refused_without_showing_it(name: str, toml: Path) -> None:
    toml.write_text(f'{name} = "{KEY}"\n')
    said = refusal()
    assert "secrets come from the environment only" in said
    assert f"LOOKBACK_{name.upper().removeprefix('LOOKBACK_')}" in said
    assert KEY not in said


@pytest.mark.parametrize("name", ["tiingo_api_key", "fred_api_key"])
def test_a_key_is_never_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LOOKBACK_{name.upper()}", KEY)
    settings = load_settings()
    key = getattr(settings, name)
    assert isinstance(key, SecretStr)
    assert key.get_secret_value() == KEY
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert KEY not in shown
    assert KEY not in refusal(**{name: [KEY]})


def test_paths_are_absolute_and_settings_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(home=Path("~/somewhere"), files_dir=Path("drops"))
    assert settings.home == Path.home() / "somewhere"
    assert settings.files_dir == Path.cwd() / "drops"
    with pytest.raises(ValueError, match="frozen"):
        settings.profile = "live"  # type: ignore[misc]
    assert Settings.model_config["extra"] == "forbid"
