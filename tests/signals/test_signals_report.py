"""The report: what it reads, what it says, and that the page asks for nothing else."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from db import tables
from db.errors import StoreError, UsageError
from db.publishing import publish
from signals.report import pictures, report_page
from signals.report.night import read_night, verdict
from signals.report.page import changes, number, percent, problems, signed
from signals.report.record import Curve, read_record
from signals.report.scores import read_scores
from signals.report.versions import read_model
from tests.signals import browser

PANEL = "equity_week_direction"
LEVEL = "sp500_next_close"
NIGHT = date(2018, 12, 28)
BEFORE = date(2018, 12, 21)
VOID = {"meta", "link", "br", "path", "use", "circle"}


def utc(day: date, hour: int = 3) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


class Shelf:
    """Fills tables that the report reads, and publishes them."""

    def __init__(self, warehouse) -> None:
        self.warehouse = warehouse
        self.settings = warehouse.settings

    def put(self, table, several, **common) -> None:
        frame = pd.DataFrame([common | row for row in several])
        for column in table.columns:
            if column.name not in frame:
                frame[column.name] = None
        self.warehouse.append(table, frame[[column.name for column in table.columns]])

    def night(self, session=NIGHT, run_id="tonight", status="completed", missing=(), days=0):
        began = utc(session) + timedelta(days=days)
        self.warehouse.insert(
            tables.runs,
            {
                "run_id": run_id,
                "flow": "nightly",
                "session": session,
                "profile": "sample",
                "status": status,
                "exit_code": 0,
                "started_at": began,
                "finished_at": began + timedelta(minutes=2),
                "seconds": 120.0,
                "missing": list(missing),
                "version": "0.0",
            },
        )

    def scores(self, as_of, values, role="live", version="20180101-a", **common) -> None:
        ranks = pd.Series(values).rank(pct=True)
        rows = [
            {"entity": name, "value": value, "rank": ranks[name]} for name, value in values.items()
        ]
        self.put(
            tables.signals,
            rows,
            **{
                "signal": PANEL,
                "as_of": as_of,
                "horizon": 1,
                "horizon_unit": "week",
                "role": role,
                "known_at": utc(as_of, 22),
                "tradable_from": as_of + timedelta(days=3),
                "model": PANEL,
                "model_version": version,
                "feature_view": "equity_weekly_return",
                "feature_version": "none",
                "data_snapshot": "snapshot",
                "published_at": utc(as_of, 23),
                "run_id": "tonight",
            }
            | common,
        )

    def outcomes(self, as_of, rows, role="live", version="20180101-a", **common) -> None:
        self.put(
            tables.outcomes,
            rows,
            **{
                "signal": PANEL,
                "as_of": as_of,
                "horizon": 1,
                "horizon_unit": "week",
                "role": role,
                "model_version": version,
                "tradable_from": as_of,
                "target_date": as_of + timedelta(days=7),
                "realised": 0.0,
                "known_at": utc(as_of),
                "recorded_at": utc(as_of),
                "run_id": "tonight",
            }
            | common,
        )

    def performance(self, *several) -> None:
        common = {"signal": PANEL, "entity": "*", "horizon": 1, "horizon_unit": "week"}
        common |= {"role": "live", "model_version": "*", "scored": 20, "known": 20}
        self.put(tables.signal_performance, several, **common, running_dates=1)

    def version(self, name="20180101-a", model=PANEL, stage="champion", **changes) -> None:
        recipe = {"task": "direction", "variant": "logistic", "architecture": "baseline"}
        recipe |= changes.pop("recipe", {})
        self.put(
            tables.model_versions,
            [
                {
                    "model": model,
                    "model_version": name,
                    "status": "trained",
                    "stage": stage,
                    "recipe": json.dumps(recipe),
                    "feature_view": "equity_weekly_return",
                    "feature_version": "none",
                    "data_snapshot": "snapshot",
                    "cutoff": utc(date(2018, 1, 2)),
                    "seed": 1,
                    "backend": "baseline" if recipe["architecture"] == "baseline" else "jax",
                    "parameters": 3,
                    "spans": "{}",
                    "metrics": json.dumps({"auc_within_date": 0.53}),
                    "baselines": json.dumps({"majority": {"auc_within_date": 0.5}}),
                    "artefact": f"{model}/{name}",
                    "reason": "it is the best",
                    "trained_at": utc(date(2018, 1, 2)),
                    "seconds": 2.0,
                    "run_id": "training",
                }
                | changes
            ],
        )

    def page(self, session=None, findings=()) -> str:
        publish(self.warehouse)
        return report_page(self.settings, session, findings)[1]

    def read(self, read, *arguments):
        """What a part of the report reads; of the store itself, which is quicker to open."""
        return read(self.warehouse.native, *arguments)


@pytest.fixture
def shelf(warehouse) -> Shelf:
    return Shelf(warehouse)


@pytest.fixture
def panel(shelf, calendar) -> Shelf:
    """Two weeks of forty stocks whose order turns round between them."""
    shelf.night(BEFORE, "before")
    shelf.night(NIGHT)
    shelf.version()
    names = [f"S{place:02}" for place in range(40)]
    shelf.scores(BEFORE, {name: float(place) for place, name in enumerate(names)})
    shelf.scores(NIGHT, {name: -float(place) for place, name in enumerate(names)})
    return shelf


def finding(level: str, subject: str = "signal x", message: str = "too old") -> SimpleNamespace:
    return SimpleNamespace(level=level, subject=subject, message=message)


# --------------------------------------------------------------------------- which night


def test_without_a_publication_it_says_what_to_run(settings):
    with pytest.raises(StoreError, match=r"nothing is published under .*; run: lookback nightly"):
        report_page(settings)


def test_an_empty_store_has_no_night(shelf):
    with pytest.raises(UsageError, match="holds no finished night; run: lookback nightly"):
        shelf.page()


def test_a_publication_of_an_older_version_is_refused(shelf):
    shelf.night()
    shelf.warehouse.native.execute("DROP TABLE main.signal_drift")
    with pytest.raises(StoreError, match=r"older Lookback .*signal_drift.*lookback nightly"):
        shelf.page()


def test_a_session_without_a_night_names_the_newest(panel):
    with pytest.raises(UsageError, match="no night of 2018-12-24; the newest is 2018-12-28"):
        panel.page(date(2018, 12, 24))


def test_failed_nights_do_not_count(panel):
    panel.night(date(2018, 12, 31), "failed", status="failed")
    assert panel.read(read_night, None).session == NIGHT


def test_of_a_night_that_ran_twice_the_later_run_counts(panel):
    panel.night(NIGHT, "again", status="partial", missing=["a source"], days=1)
    night = panel.read(read_night, None)
    assert (night.run["run_id"], night.missing, night.before) == ("again", ("a source",), BEFORE)


def test_a_page_of_an_older_session_knows_nothing_later(panel):
    panel.performance({"as_of": NIGHT, "rank_ic": 0.1})
    (scores,) = panel.read(read_scores, BEFORE)
    assert (scores.as_of, scores.cross_section.highest[0].entity) == (BEFORE, "S39")
    assert panel.read(read_record, scores, BEFORE).is_empty
    page = panel.page(BEFORE)
    assert "Friday, 21 December 2018" in page
    assert str(NIGHT) not in page.replace(f"Freshness as of the night of {NIGHT}", "")


def test_a_store_with_a_backfill_only_says_so(shelf):
    shelf.version()
    shelf.scores(NIGHT, {f"S{place}": float(place) for place in range(20)}, role="backfill")
    page = shelf.page()
    assert "No night has finished yet: these are scores of a backfill." in page
    assert "S19" in page


# --------------------------------------------------------------------------- the verdict


@pytest.mark.parametrize(
    ("status", "missing", "levels", "said"),
    [
        ("completed", [], [], "good"),
        ("completed", [], ["good", "warning"], "good"),
        ("completed", [], ["missing"], "missing"),
        ("partial", ["a source"], [], "missing"),
        ("completed", [], ["missing", "failed"], "failed"),
    ],
)
def test_verdict(shelf, status, missing, levels, said):
    shelf.night(status=status, missing=missing)
    night = shelf.read(read_night, None)
    assert verdict(night, [finding(level) for level in levels]) == said
    assert f'class="verdict {said}"' in shelf.page(findings=[finding(level) for level in levels])


def test_what_is_missing_is_said_once(shelf):
    shelf.night(status="partial", missing=["sample.BAA: down"])
    night = shelf.read(read_night, None)
    found = [
        finding("missing", "last nightly", "partial at noon; sample.BAA: down"),
        finding("missing", "sample.BAA", "stale"),
        finding("good", "sample.SP500", "up to today"),
    ]
    assert problems(night, found) == ["sample.BAA: down", "sample.BAA: stale"]
    assert "The night finished; 2 things are missing." in shelf.page(findings=found)


def test_what_changed(panel):
    panel.put(
        tables.promotions,
        [
            {"model": "old", "model_version": "o", "promoted_at": utc(BEFORE), "reason": "old"},
            {
                "model": PANEL,
                "model_version": "new",
                "replaced": "20180101-a",
                "reason": "better",
                "promoted_at": utc(NIGHT),
            },
        ],
        run_id="tonight",
    )
    told = [
        (each.subject, each.what, each.why) for each in changes(panel.read(read_night, None), [])
    ]
    assert told == [(PANEL, "new replaces 20180101-a", "better")]


# --------------------------------------------------------------------------- scores


def test_the_ends_of_a_cross_section_and_who_moved(panel):
    (scores,) = panel.read(read_scores, NIGHT)
    across = scores.cross_section
    assert [score.entity for score in across.highest] == ["S00", "S01", "S02", "S03", "S04"]
    assert [score.entity for score in across.lowest] == ["S39", "S38", "S37", "S36", "S35"]
    assert across.highest[0].change == pytest.approx(1.0 - 1 / 40)
    assert across.highest[0].history == (1 / 40, 1.0)
    assert [score.entity for score in across.risers[:2]] == ["S00", "S01"]
    assert [score.entity for score in across.fallers[:2]] == ["S39", "S38"]
    assert across.values == tuple(float(value) for value in range(-39, 1))
    assert (scores.as_of, scores.before, scores.age, scores.rows) == (NIGHT, BEFORE, 0, 40)


def test_live_scores_win_and_of_versions_the_one_published_last(panel):
    panel.scores(NIGHT, {"S00": -99.0}, role="backfill")
    panel.scores(NIGHT, {"S00": -98.0}, role="challenger", version="20180102-b")
    panel.scores(
        NIGHT, {"S00": 7.0}, version="20180102-b", published_at=utc(NIGHT, 23) + timedelta(1)
    )
    (scores,) = panel.read(read_scores, NIGHT)
    assert (scores.cross_section.highest[0].value, scores.rows) == (7.0, 40)


def test_an_entity_that_was_not_scored_before_is_new(panel):
    panel.scores(NIGHT, {"NEW": 5.0})
    (scores,) = panel.read(read_scores, NIGHT)
    assert scores.cross_section.highest[0].change is None
    assert scores.cross_section.highest[0].history == (None, 1.0)
    assert '<td class="n"><span class="muted">new</span></td>' in panel.page()


@pytest.mark.parametrize("symbols", [1, 3, 6])
def test_few_symbols_of_texts_are_in_order_and_not_forecast(shelf, symbols):
    shelf.night()
    values = {f"S{place}": -place / 10 for place in range(symbols)}
    shelf.scores(NIGHT, values, signal="sentiment_daily", horizon_unit="session")
    shelf.scores(NIGHT, values, signal="of another Lookback", horizon_unit="session")
    of_texts, unknown = shelf.read(read_scores, NIGHT)
    assert (of_texts.name, of_texts.forecasts) == ("sentiment_daily", ())
    ends = of_texts.cross_section.highest, of_texts.cross_section.lowest[::-1]
    assert [score.entity for end in ends for score in end] == list(values)
    assert unknown.cross_section is None
    assert len(unknown.forecasts) == symbols
    said = f"{symbols} entit{'y' if symbols == 1 else 'ies'}</th>"
    assert said in shelf.page()


def test_forecasts_of_a_series_and_what_was_known_of_it(desk, shelf, model):
    friday, monday = date(2018, 12, 14), date(2018, 12, 17)
    desk.history(friday)
    desk.version()
    desk.score(desk.night(friday))
    # a correction that came later than the score
    desk.observe({friday: 1.0}, utc(monday, 12))
    shelf.night(friday)
    shelf.outcomes(
        date(2018, 12, 13),
        [{"entity": "SP500", "value": 2069.0, "realised": 2068.5, "start": 2068.0}],
        signal=LEVEL,
        horizon_unit="session",
        target_date=friday,
    )
    (scores,) = shelf.read(read_scores, friday)
    (forecast,) = scores.forecasts
    assert (scores.task, forecast.entity, forecast.last) == ("level", "SP500", 2069.0)
    assert len(forecast.known) == 60
    assert forecast.known[-2:] == ((date(2018, 12, 13), 2068.0), (friday, 2069.0))
    assert [(point.target, point.value) for point in forecast.ahead] == [(monday, 2070.0)]
    assert [(point.target, point.realised) for point in forecast.past] == [(friday, 2068.5)]
    assert "2,070.00" in shelf.page()


@pytest.mark.parametrize(
    ("unit", "horizon", "as_of", "target"),
    [
        ("session", 1, date(2018, 12, 24), date(2018, 12, 26)),  # Christmas
        ("session", 3, date(2018, 12, 24), date(2018, 12, 28)),
        ("week", 1, date(2018, 12, 28), date(2019, 1, 4)),
        ("week", 2, date(2018, 3, 16), date(2018, 3, 29)),  # Good Friday
        ("month", 1, date(2018, 12, 17), date(2019, 1, 1)),
        ("month", 12, date(2018, 12, 17), date(2019, 12, 1)),
    ],
)
def test_the_date_that_a_forecast_is_for(shelf, calendar, unit, horizon, as_of, target):
    shelf.warehouse.append(tables.exchange_sessions, calendar.table())
    shelf.night(as_of)
    shelf.scores(as_of, {"A": 1.0}, horizon=horizon, horizon_unit=unit)
    (scores,) = shelf.read(read_scores, as_of)
    assert [point.target for point in scores.forecasts[0].ahead] == [target]


# --------------------------------------------------------------------------- the record


def fridays(count: int, until: date = BEFORE) -> list[date]:
    return [until - timedelta(days=7 * back) for back in range(count - 1, -1, -1)]


def test_before_any_outcome_the_page_says_so(panel):
    page = panel.page()
    assert "No outcome is known yet" in page
    assert "Rank IC by date" not in page


def test_rank_ic_over_time_and_its_mean_of_a_year(panel):
    days = fridays(60)
    panel.performance(
        *(
            {"as_of": day, "role": "backfill", "rank_ic": place / 100}
            for place, day in enumerate(days)
        )
    )
    # nights count where a backfill scored the same date; versions apart are not mixed in
    live = {"as_of": days[-1], "rank_ic": 0.9, "running_rank_ic": 0.5, "running_rank_ic_t": 1.25}
    panel.performance(live, live | {"rank_ic": -9.0, "model_version": "20180101-a"})
    (scores,) = panel.read(read_scores, NIGHT)
    curve = panel.read(read_record, scores, NIGHT).rank_ic
    assert curve.values[-1] == 0.9
    assert curve.running[:2] == (0.0, pytest.approx(0.005))
    assert curve.newest == pytest.approx((sum(range(8, 59)) / 100 + 0.9) / 52)
    assert "t +1.25 over 1 dates of nights" in panel.page()


def test_returns_of_fifths(panel):
    rows = [
        {"entity": f"S{place:02}", "value": place, "as_of": day, "tradable_return": 0.001}
        | {"label_return": place // 8 / 100}
        for place in range(40)
        for day in fridays(4)
    ]
    panel.outcomes(BEFORE, rows)
    panel.outcomes(BEFORE, [row | {"label_return": 9.0} for row in rows], role="backfill")
    (scores,) = panel.read(read_scores, NIGHT)
    found = panel.read(read_record, scores, NIGHT).fifths
    assert [row.label for row in found.rows] == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04])
    assert [row.tradable for row in found.rows] == pytest.approx([0.001] * 5)
    assert (found.dates, found.first, found.last) == (4, fridays(4)[0], BEFORE)
    assert "highest less lowest, label: +4.00 %" in panel.page()


def test_one_broken_price_does_not_make_the_return_of_a_fifth(panel):
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 0.02, 400)
    returns[399] = 1e6
    rows = [
        {"entity": f"{place}", "value": place, "label_return": value}
        for place, value in enumerate(returns)
    ]
    panel.outcomes(BEFORE, rows)
    (scores,) = panel.read(read_scores, NIGHT)
    found = panel.read(read_record, scores, NIGHT).fifths
    assert abs(found.rows[-1].label) < 0.01
    assert found.rows[-1].tradable is None


def test_too_few_entities_have_no_fifths(panel):
    panel.outcomes(BEFORE, [{"entity": "S00", "value": 1.0, "label_return": 0.1}])
    (scores,) = panel.read(read_scores, NIGHT)
    assert panel.read(read_record, scores, NIGHT).fifths is None


def test_calibration_is_of_the_signal_whoever_made_it(panel):
    common = {"signal": PANEL, "horizon": 1, "horizon_unit": "week", "kind": "probability"}
    rows = [
        {"role": "live", "bucket": 1, "expected": 0.4, "observed": 0.5, "rows": 10},
        {"role": "backfill", "bucket": 1, "expected": 0.2, "observed": 0.1, "rows": 30},
        {"role": "challenger", "bucket": 1, "expected": 0.9, "observed": 0.1, "rows": 99},
    ]
    panel.put(tables.signal_calibration, rows, **common, model_version="*")
    panel.put(tables.signal_calibration, rows[:1], **common, model_version="20180101-a")
    (scores,) = panel.read(read_scores, NIGHT)
    (bucket,) = panel.read(read_record, scores, NIGHT).probabilities
    assert (bucket.expected, bucket.observed, bucket.rows) == (
        pytest.approx(0.25),
        pytest.approx(0.2),
        40,
    )


def test_drift_and_what_has_drifted_anew(panel):
    rows = [
        {"session": session, "subject": subject, "psi": psi, "drifted": psi > 0.25}
        for session, subject, psi in [
            (BEFORE, "value", 0.3),
            (BEFORE, "volume", 0.1),
            (NIGHT, "value", 0.4),
            (NIGHT, "volume", 0.6),
            (NIGHT, "calm", 0.01),
        ]
    ]
    panel.put(
        tables.signal_drift,
        rows,
        signal=PANEL,
        model_version="20180101-a",
        noise=0.05,
        rows=40,
        reference_rows=1000,
    )
    (scores,) = panel.read(read_scores, NIGHT)
    record = panel.read(read_record, scores, NIGHT)
    assert [row["subject"] for row in record.drift] == ["volume", "value", "calm"]
    assert (record.drifted, record.newly_drifted) == (2, ("volume",))
    assert "volume has drifted from its training span" in panel.page()


# --------------------------------------------------------------------------- models


NETWORK = {"architecture": "stacked", "variant": "lstm"}


def labels(shelf, model=PANEL):
    """Whether each version is called better, and beside what."""
    found = shelf.read(read_model, model, shelf.settings.home)
    return [(each.row["model_version"], each.best_baseline, each.better) for each in found.versions]


def auc(value):
    return json.dumps({"auc_within_date": value})


def test_champion_first_and_each_network_beside_the_best_baseline(shelf):
    shelf.version("20180101-a", recipe=NETWORK)
    shelf.version("20180102-b", stage="challenger", recipe=NETWORK, metrics=auc(0.51))
    shelf.version("20180102-c", stage="challenger", recipe=NETWORK, metrics=auc(0.49))
    shelf.version("20180102-d", stage="challenger", recipe=NETWORK, metrics="{}")
    shelf.version("20180102-e", stage="challenger", metrics=auc(0.53))
    shelf.version("20170101-w", stage="walk-forward")
    assert labels(shelf) == [
        ("20180101-a", "majority", None),
        ("20180102-b", "majority", True),
        ("20180102-c", "majority", False),
        ("20180102-d", "majority", None),
        ("20180102-e", "majority", None),
    ]


def test_beside_a_baseline_that_is_champion_no_network_is_called_better(panel):
    panel.version("20180102-b", stage="challenger", recipe=NETWORK, metrics=auc(0.51))
    panel.version("20180102-c", stage="challenger", recipe=NETWORK, metrics=auc(0.49))
    assert labels(panel) == [
        ("20180101-a", "majority", None),
        ("20180102-b", "majority", None),
        ("20180102-c", "majority", False),
    ]
    page = panel.page()
    assert "<code>auc_within_date</code> decides who is champion, more is better" in page
    assert '<span class="up">better</span>' not in page


def test_what_decides_is_what_versions_are_compared_by(shelf):
    def pair(far, scale):
        """One series twelve steps ahead: `far` of mae, and mase by another scale."""
        at = [{"horizon": 1, "mae": 1.0}]
        series = {"a": {"mae": far, "by_horizon": at}}
        return {"mae": far, "mase": far / scale, "series": series}

    recipe = {"task": "path"}
    baselines = {"persistence": pair(3.2, 1.0), "var": pair(3.0, 1.0)}
    shelf.version(
        recipe=recipe | {"variant": "var"},
        metrics=json.dumps(baselines["var"]),
        baselines=json.dumps({"persistence": baselines["persistence"]}),
    )
    shelf.version(
        "20180102-n",
        stage="challenger",
        recipe=recipe | NETWORK,
        metrics=json.dumps(pair(3.1, 2.0)),
        baselines=json.dumps(baselines),
    )
    champion, network = shelf.read(read_model, PANEL, shelf.settings.home).versions
    assert (champion.metric, champion.test, champion.baseline_test) == ("relative_mae", 3.0, 3.2)
    assert (network.test, network.best_baseline, network.better) == (3.1, "var", False)


def test_loss_curves_come_from_the_folder_of_the_version(panel):
    panel.version("20180102-n", stage="challenger", recipe=NETWORK)
    folder = panel.settings.home / "models" / PANEL / "20180102-n"
    folder.mkdir(parents=True)
    (folder / "history.json").write_text('{"loss": [3, 2, 1], "val_loss": [3, 1, 2]}')
    model = panel.read(read_model, PANEL, panel.settings.home)
    (losses,) = model.losses
    assert (losses.variant, losses.best, losses.training) == ("lstm", 2, (3.0, 2.0, 1.0))
    assert "Loss of lstm" in panel.page()


@pytest.mark.parametrize(
    ("artefact", "content"),
    [
        (f"{PANEL}/gone", None),
        (f"{PANEL}/broken", "{"),
        (f"{PANEL}/other", '{"loss": [1]}'),
        (f"{PANEL}/empty", '{"loss": [], "val_loss": []}'),
        ("../outside", '{"loss": [1], "val_loss": [1]}'),
    ],
)
def test_a_history_that_is_none_of_ours_is_left_out(panel, artefact, content):
    panel.version("20180102-n", stage="challenger", recipe={"architecture": "x"}, artefact=artefact)
    if content is not None:
        folder = panel.settings.home / "models" / artefact
        folder.mkdir(parents=True)
        (folder / "history.json").write_text(content)
    assert panel.read(read_model, PANEL, panel.settings.home).losses == ()


# --------------------------------------------------------------------------- the data


def test_quarantine_by_rule_and_checks_that_failed(shelf):
    shelf.night()
    shelf.put(
        tables.quarantine,
        [{"rule": rule, "run_id": run} for rule, run in [("a", "tonight"), ("a", "x"), ("b", "x")]],
        source="sample.stocks",
        kind="bars",
        reason="no price",
        row="{}",
        row_hash="0",
        quarantined_at=utc(NIGHT),
    )
    shelf.put(
        tables.validation_results,
        [{"rule": "a", "success": False}, {"rule": "b", "success": True}],
        run_id="tonight",
        session=NIGHT,
        source="sample.stocks",
        suite="s",
        expectation="e",
        level="row",
        evaluated=10,
        unexpected=1,
        validated_at=utc(NIGHT),
    )
    night = shelf.read(read_night, None)
    assert [(row["rule"], row["tonight"], row["ever"]) for row in night.quarantined] == [
        ("a", 1, 2),
        ("b", 0, 1),
    ]
    assert (night.checked, [row["rule"] for row in night.failed_checks]) == (2, ["a"])


def test_it_says_whether_prices_are_of_survivors_only(shelf):
    shelf.night()
    bars = [("A", NIGHT), ("B", NIGHT)]
    common = {"source": "s", "adjustment": "total", "history": 0, "known_at": utc(NIGHT)}
    common |= {"ingested_at": utc(NIGHT), "run_id": "tonight"}
    rows = [{"entity": entity, "session": session} for entity, session in bars]
    shelf.put(tables.bars, rows, **common)
    assert "Prices: 2 symbols, all of them with prices up to the newest date" in shelf.page()
    shelf.put(tables.bars, [{"entity": "C", "session": date(2018, 6, 1)}], **common)
    assert "Prices: 3 symbols, 1 of them ended before the newest date" in shelf.page()


# --------------------------------------------------------------------------- the page


class Reader(HTMLParser):
    """Fails on tags that do not match; gathers identifiers and addresses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.ids, self.addresses, self.tags = [], [], [], set()
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        names = ("src", "href", "xlink:href", "action", "data", "srcset")
        self.addresses += [given[name] for name in names if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def rich(panel) -> Shelf:
    """A panel with a record, and names that would be markup if they were not escaped."""
    rng = np.random.default_rng(0)
    days = fridays(60)
    roles = {day: "live" if day > date(2018, 6, 1) else "backfill" for day in days}
    panel.performance(
        *(
            {"as_of": day, "role": roles[day], "rank_ic": ic, "tradable_rank_ic": ic / 2}
            for day, ic in zip(days, rng.normal(0.03, 0.1, 60), strict=True)
        )
    )
    rows = [
        {"entity": f"S{place:02}", "value": place, "as_of": day, "role": roles[day]}
        | {"label_return": came, "tradable_return": came / 2}
        for day in days
        for place, came in enumerate(rng.normal(0, 0.02, 40))
    ]
    panel.outcomes(BEFORE, rows)
    common = {"signal": PANEL, "horizon": 1, "horizon_unit": "week", "role": "live"}
    for kind, levels in (
        ("probability", np.linspace(0.4, 0.6, 10)),
        ("quantile", (0.05, 0.5, 0.95)),
    ):
        rows = [
            {"bucket": place, "expected": level, "observed": level + 0.01, "rows": 100}
            for place, level in enumerate(levels, start=1)
        ]
        panel.put(tables.signal_calibration, rows, kind=kind, model_version="*", **common)
    panel.scores(NIGHT, {'<script>alert("&")</script>': 99.0, "$x$ \\frac": -99.0})
    panel.put(
        tables.quarantine,
        [{"rule": "<img src=http://x/y.png>", "reason": "</td><b onclick='x'>"}],
        source="</style>",
        kind="bars",
        row="{}",
        row_hash="0",
        quarantined_at=utc(NIGHT),
        run_id="tonight",
    )
    network = {"architecture": "stacked", "variant": "lstm"}
    panel.version("20180102-n", stage="challenger", recipe=network, reason="<i>so</i>")
    folder = panel.settings.home / "models" / PANEL / "20180102-n"
    folder.mkdir(parents=True)
    (folder / "history.json").write_text('{"loss": [3, 2, 1], "val_loss": [3, 1, 2]}')
    return panel


def test_the_page_is_whole_and_asks_for_nothing(rich):
    page = rich.page(findings=[finding("warning", "<u>", "<u>")])
    read = Reader(page)
    assert len(read.ids) == len(set(read.ids))
    assert read.tags.isdisjoint({"script", "img", "iframe", "object", "u"})
    outside = [each for each in read.addresses if not each.startswith(("#", "data:,"))]
    assert outside == []
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    inner = {each[1:] for each in read.addresses if each.startswith("#")}
    inner |= set(re.findall(r"url\(#([^)]*)\)", page))
    assert inner <= set(read.ids)
    assert '<meta charset="utf-8">' in page
    assert "default-src 'none'" in page
    assert "Rank IC by date" in page
    assert "Returns by fifths of value" in page


def test_names_are_text(rich):
    page = rich.page()
    assert "&lt;script&gt;alert(" in page
    assert "&lt;img src=http://x/y.png&gt;" in page
    assert "onclick=&#39;x&#39;" in page
    assert "<script" not in page
    assert "$x$" in page


def test_every_picture_has_a_description_and_takes_the_pages_colours(rich):
    page = rich.page()
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(figures) == 6
    for figure in figures:
        assert re.search(r'role="img" aria-label="[^"]{10,}"', figure)
        assert "var(--" in figure
        assert not re.search(r"#0[1-7]0", figure)
        assert "DejaVu" not in figure


def test_the_same_publication_gives_the_same_page(rich):
    assert rich.page() == report_page(rich.settings)[1]


def test_of_thousands_of_entities_the_page_shows_the_ends(shelf):
    shelf.night()
    shelf.version()
    for day in (BEFORE, NIGHT):
        rng = np.random.default_rng(day.day)
        shelf.scores(
            day, {f"N{place:04}": value for place, value in enumerate(rng.normal(size=4226))}
        )
    page = shelf.page()
    assert len(set(re.findall(r"N\d{4}", page))) <= 20
    assert "4,226 entities" in page
    assert len(page) < 200_000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0.0000"),
        (0.12345, "0.1235"),
        (-0.5, "−0.5000"),
        (2.0e-5, "2e−05"),
        (1234.5, "1,234.50"),
        (1_234_567.8, "1,234,568"),
    ],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_signs_and_percent():
    assert (signed(0.5), signed(-0.5), signed(None)) == ("+0.5000", "−0.5000", "–")
    assert (percent(0.0123), percent(-0.5, 0, signed=True), percent(None)) == (
        "1.23 %",
        "−50 %",
        "–",
    )


def test_a_sparkline_breaks_where_nothing_was_scored():
    drawn = pictures.sparkline([0.0, 0.5, None, 1.0, 1.0])
    assert drawn.count("M") == 2
    assert pictures.sparkline([None, 1.0]) == ""


def test_bars_of_many_dates_are_means_of_months():
    days = [date(2015, 1, 1) + timedelta(days=number_of) for number_of in range(730)]
    curve = Curve(tuple(days), tuple(day.month / 10 for day in days), tuple([0.0] * 730))
    dates, values = pictures._bars(curve)
    assert (len(dates), values[0], values[11]) == (24, pytest.approx(0.1), pytest.approx(1.2))


# --------------------------------------------------------------------------- in a browser


@pytest.mark.slow
def test_it_opens_from_disk_in_a_browser_and_fits_a_phone(rich, tmp_path):
    program = browser.chromium()
    if program is None:
        pytest.skip("no Chromium is installed: the page cannot be looked at")
    page = tmp_path / "report.html"
    page.write_text(rich.page(findings=[finding("missing", "a", "b" * 300)]), encoding="utf-8")
    with browser.headless(program, tmp_path / "profile") as tab:
        for width, dark in ((1280, False), (1280, True), (400, False), (400, True)):
            tab.open(page, width, dark=dark)
            assert tab.complaints == []
            assert tab.requests == [page.as_uri()]
            assert tab.value("document.documentElement.scrollWidth") <= width
            assert tab.value("document.querySelectorAll('svg.picture').length") == 6
            # type in pictures, as it is shown
            assert tab.value(SMALLEST_TYPE) >= 9
            assert tab.value(OUTSIDE_ITS_CARD) == []


SMALLEST_TYPE = """
Math.min(...[...document.querySelectorAll('svg.picture')].flatMap(svg =>
    [...svg.querySelectorAll('text')].map(text =>
        parseFloat(getComputedStyle(text).fontSize) *
        svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)))
"""
OUTSIDE_ITS_CARD = """
[...document.querySelectorAll('figure')].flatMap(card => {
    const edge = card.getBoundingClientRect();
    return [...card.querySelectorAll('svg text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < edge.left || box.right > edge.right || box.bottom > edge.bottom;
    }).map(text => text.textContent);
})
"""
