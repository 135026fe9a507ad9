import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import rankdata
from statsmodels.tsa.api import VAR

from db.errors import RegistryError, TrainingError, UsageError
from features.windows import _months
from models import baselines
from models.baselines import design_matrix as matrices
from models.encoding import Encoding, Scale

PAIRS = [(task, name) for task, names in baselines.NAMES.items() for name in names]


@pytest.fixture(scope="module")
def months(panel):
    """The panel, told its months as the reader of windows does."""
    return replace(panel, index=panel.index.assign(month=panel.index["as_of"].dt.month))


@pytest.fixture(scope="module")
def of_task(examples, panel, make_pair, pair_levels):
    """Examples of each task."""
    return {
        "level": examples,
        "changes": make_pair(pair_levels),
        "path": make_pair(pair_levels, steps=12),
        "direction": panel,
        "rank": panel,
    }


@pytest.fixture(scope="module")
def fitted(of_task):
    """Every baseline of every task, fitted once."""
    return {(task, name): baselines.fit(name, task, of_task[task]) for task, name in PAIRS}


@pytest.mark.parametrize(("task", "name"), PAIRS)
class TestEveryBaseline:
    def test_forecasts_have_the_shape_of_the_task(self, task, name, fitted, of_task):
        seen = of_task[task]
        forecast = fitted[task, name].predict(seen)
        n, steps, k = seen.y.shape
        assert forecast.shape == ((n, steps, k) if task in {"changes", "path"} else (n, 1))
        assert forecast.dtype == "float64"
        assert np.isfinite(forecast).all()
        if fitted[task, name].gives_probabilities:
            assert ((forecast > 0) & (forecast < 1)).all()

    def test_a_window_has_the_same_bits_whatever_it_is_scored_with(
        self, task, name, fitted, of_task
    ):
        baseline, seen = fitted[task, name], of_task[task]
        whole = baseline.predict(seen)
        rows = np.random.default_rng(0).permutation(len(seen))[:7]
        np.testing.assert_array_equal(baseline.predict(seen.take(rows)), whole[rows])
        np.testing.assert_array_equal(baseline.predict(seen.take(rows[:1])), whole[rows[:1]])

    def test_no_label_is_needed_to_score(self, task, name, fitted, of_task):
        seen = of_task[task]
        blind = replace(seen, y=np.full_like(seen.y, np.nan))
        np.testing.assert_array_equal(
            fitted[task, name].predict(blind), fitted[task, name].predict(seen)
        )

    def test_saved_and_loaded_it_gives_the_same_bits(self, task, name, fitted, of_task, tmp_path):
        baseline, seen = fitted[task, name], of_task[task]
        files = baselines.save(baseline, tmp_path)
        assert sorted(files) == sorted(path.name for path in tmp_path.iterdir())
        back = baselines.load(tmp_path)
        assert type(back) is type(baseline)
        assert (back.name, back.task, back.parameters) == (name, task, baseline.parameters)
        np.testing.assert_array_equal(back.predict(seen), baseline.predict(seen))
        assert baselines.weights_sha256(back) == baselines.weights_sha256(baseline)

    def test_the_same_fit_has_the_same_weights(self, task, name, fitted, of_task):
        again = baselines.fit(name, task, of_task[task])
        assert baselines.weights_sha256(again) == baselines.weights_sha256(fitted[task, name])

    def test_a_rule_has_learned_from_no_label(self, task, name, fitted, of_task):
        baseline, train = fitted[task, name], of_task[task]
        assert (baseline.parameters > 0) == baseline.learns
        if not baseline.learns:
            blind = replace(train, y=np.full_like(train.y, np.nan))
            assert baselines.fit(name, task, blind) == baseline

    def test_an_empty_span_is_refused(self, task, name, of_task):
        with pytest.raises(TrainingError, match="no window"):
            baselines.fit(name, task, of_task[task].take(slice(0, 0)))


def test_names_are_known_in_their_order():
    assert baselines.NAMES["changes"] == ("persistence", "unmoved", "seasonal_naive", "var")
    assert baselines.NAMES["path"] == baselines.NAMES["changes"]
    with pytest.raises(UsageError, match="no baseline 'var' for level; there are: persistence"):
        baselines.fit("var", "level", None)


# --------------------------------------------------------------------------- rules


def test_persistence_and_drift_of_a_level(fitted, examples):
    persistence = fitted["level", "persistence"].predict(examples)
    np.testing.assert_array_equal(persistence, examples.last)
    drift = fitted["level", "drift"].predict(examples)
    series = examples.X[..., 0].astype("float64")
    step = (series[:, -1] - series[:, 0]) / (series.shape[1] - 1)
    np.testing.assert_allclose(drift[:, 0], series[:, -1] + step, rtol=1e-12)


def test_persistence_of_a_path_stays(fitted, of_task):
    path = of_task["path"]
    forecast = fitted["path", "persistence"].predict(path)
    assert (forecast == path.last[:, None]).all()


def test_unmoved_is_the_level_that_stays(make_pair, pair_levels):
    levels, pair = pair_levels, make_pair(pair_levels, steps=12)
    forecast = baselines.fit("unmoved", "path", pair).predict(pair)
    # the difference over a year in h months, if the level never moves again
    at = np.arange(12 + 23, len(levels))[:, None]
    ahead = np.arange(1, 13)
    np.testing.assert_allclose(forecast, levels[at] - levels[at + ahead - 12], atol=1e-5)
    # in a year nothing of it is left
    np.testing.assert_allclose(forecast[:, -1], 0, atol=1e-12)


def test_unmoved_beats_persistence_where_the_level_is_a_random_walk(make_pair, pair_levels):
    pair = make_pair(pair_levels, steps=1)
    pair = pair.take(pair.labelled)
    error = {
        name: np.abs(baselines.fit(name, "changes", pair).predict(pair) - pair.y)[..., 0].mean()
        for name in ("persistence", "unmoved")
    }
    # a shock comes in, and with persistence another one does not leave: 2^(1/2)
    assert error["persistence"] / error["unmoved"] == pytest.approx(np.sqrt(2), rel=0.15)


def test_without_moves_unmoved_is_persistence(make_pair, pair_levels):
    pair = make_pair(pair_levels, steps=12, moves=False)
    one, other = (baselines.fit(name, "path", pair) for name in ("unmoved", "persistence"))
    np.testing.assert_array_equal(one.predict(pair), other.predict(pair))


def test_seasonal_naive_is_the_same_month_of_the_year_before(make_pair, pair_levels):
    pair = make_pair(pair_levels, steps=15)
    forecast = baselines.fit("seasonal_naive", "path", pair).predict(pair)
    year = pair.X[:, -12:]
    np.testing.assert_array_equal(forecast[:, :12], year)
    np.testing.assert_array_equal(forecast[:, 12:], year[:, :3])
    with pytest.raises(TrainingError, match="at least 12 steps, not 11"):
        baselines.fit("seasonal_naive", "path", replace(pair, X=pair.X[:, -11:]))


def test_a_series_that_alternates_by_season_is_forecast_without_error(make_pair, pair_levels):
    pair = make_pair(pair_levels)
    season = np.tile(np.arange(12.0), 30)
    at = np.arange(24, 24 + len(pair))
    X = np.stack([season[row - 24 : row] for row in at])[..., None].repeat(2, axis=2)
    y = season[at][:, None, None].repeat(2, axis=2)
    seasonal = replace(pair, X=X.astype("f4"), y=y.astype("f4"), last=X[:, -1].astype("f8"))
    forecast = baselines.fit("seasonal_naive", "changes", seasonal).predict(seasonal)
    np.testing.assert_array_equal(forecast, y)


def test_a_target_that_the_window_does_not_hold_is_refused(make_pair, pair_levels):
    pair = make_pair(pair_levels)
    elsewhere = replace(pair, last=pair.last + 1)
    for name in ("seasonal_naive", "var"):
        with pytest.raises(TrainingError, match="no feature of the window ends in"):
            baselines.fit(name, "changes", elsewhere)


def test_majority_is_the_share_of_positive_returns(panel):
    y = panel.y.copy()
    y[:50] = np.nan
    found = baselines.fit("majority", "direction", replace(panel, y=y))
    assert found.share == np.mean(y[50:] > 0)
    with pytest.raises(TrainingError, match="no label"):
        baselines.fit("majority", "direction", replace(panel, y=y * np.nan))


def test_reversal_and_momentum_by_hand(panel):
    draw = np.random.default_rng(0)
    X = draw.normal(0, 0.03, (5, 60, 2)).astype("f4")
    index = panel.index.iloc[:5]
    seen = replace(panel, X=X, last=X[:, -1, :1].astype("f8"), y=panel.y[:5], index=index)
    for column in (0, 1):
        reversal = baselines.fit("reversal", "rank", seen, returns=column).predict(seen)
        np.testing.assert_array_equal(reversal[:, 0], -X[:, -1, column].astype("f8"))
        momentum = baselines.fit("momentum", "rank", seen, returns=column).predict(seen)
        # the newest of 52 weeks is left out, and what lies before them
        year = X[:, 8:59, column].astype("f8")
        np.testing.assert_allclose(momentum[:, 0], np.prod(1 + year, axis=1) - 1, rtol=1e-12)


# --------------------------------------------------------------------------- autoregression


@pytest.mark.parametrize("steps", [1, 12])
def test_var_forecasts_as_statsmodels_does(make_pair, pair_levels, steps):
    pair = make_pair(pair_levels, steps=steps)
    train = pair.take(slice(0, 130))
    found = baselines.fit("var", "path" if steps > 1 else "changes", train)
    # the series of the training span, labels of its last rows included
    series = np.concatenate([pair.X[0], pair.X[1 : 130 + steps, -1]]).astype("f8")
    assert found.months == len(series) == 153 + steps
    independent = VAR(series).fit(13, ic="aic", trend="c")
    assert found.order == independent.k_ar
    assert found.parameters == 2 * (2 * found.order + 1)
    forecast = found.predict(pair)
    assert forecast.shape == (len(pair), steps, 2)
    for row in (0, 77, len(pair) - 1):
        past = pair.X[row].astype("f8")[-max(1, independent.k_ar) :]
        np.testing.assert_allclose(
            forecast[row], independent.forecast(past, steps), rtol=1e-9, atol=1e-12
        )


def test_var_finds_what_the_other_series_says(make_pair, pair_levels):
    pair = make_pair(pair_levels)
    train, later = pair.take(slice(0, 130)), pair.take(slice(130, len(pair) - 1))
    error = {
        name: np.abs(baselines.fit(name, "changes", train).predict(later) - later.y)[:, 0, 1]
        for name in ("persistence", "var")
    }
    assert error["var"].mean() < 0.9 * error["persistence"].mean()


def test_var_of_a_broken_series_takes_its_longest_stretch(make_pair, pair_levels):
    pair = make_pair(pair_levels)
    rows = np.r_[0:20, 80:170]
    train = pair.take(rows)
    train.y[-1] = np.nan
    found = baselines.fit("var", "changes", train)
    # windows 80 to 169 of 24 months, and labels but the last
    assert found.months == 24 + 89


def test_var_refuses_what_is_no_pair_of_its_own(make_pair, pair_levels, panel):
    pair = make_pair(pair_levels)
    with pytest.raises(TrainingError, match="not 12 with 1"):
        baselines.fit("var", "changes", panel)
    with pytest.raises(TrainingError, match="not the series that the windows end in"):
        baselines.fit("var", "changes", replace(pair, y=pair.y + 1))
    with pytest.raises(TrainingError, match="cannot be fitted"):
        baselines.fit("var", "changes", pair.take(slice(0, 1)))


# --------------------------------------------------------------------------- linear, boosting


def test_ridge_solves_its_normal_equations(panel):
    found = baselines.fit("ridge", "rank", panel)
    matrix = np.clip(Scale.standard(panel.X).transform(panel.X), -3, 3).reshape(len(panel), -1)
    ranks = np.concatenate(
        [(rankdata(day) - 0.5) / len(day) - 0.5 for day in panel.y[:, 0, 0].reshape(60, 12)]
    ) * np.sqrt(12)
    centred = matrix - matrix.mean(axis=0)
    penalty = 0.01 * len(panel) * np.eye(matrix.shape[1])
    weights = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (ranks - ranks.mean()))
    np.testing.assert_allclose(found.weights, weights, rtol=1e-3, atol=1e-5)
    expected = ranks.mean() + centred @ weights
    np.testing.assert_allclose(found.predict(panel)[:, 0], expected, atol=1e-5)
    # the panel's returns lean back on the last one
    assert np.argmin(found.weights) == len(weights) - 1


def test_logistic_is_at_the_least_of_its_loss(panel):
    found = baselines.fit("logistic", "direction", panel)
    matrix = np.clip(Scale.standard(panel.X).transform(panel.X), -3, 3).reshape(len(panel), -1)
    probability = found.predict(panel)[:, 0]
    np.testing.assert_allclose(
        logit(probability), found.intercept + matrix @ np.array(found.weights), atol=1e-5
    )
    missed = probability - (panel.y[:, 0, 0] > 0)
    gradient = matrix.T @ missed / len(panel) + 0.01 * np.array(found.weights)
    assert np.abs(gradient).max() < 1e-3
    assert abs(missed.mean()) < 1e-3
    assert found.predict(panel).shape == (720, 1)
    assert expit(found.intercept) == pytest.approx(np.mean(panel.y > 0), abs=0.1)


@pytest.mark.parametrize("name", ["logistic", "boosting"])
def test_one_direction_cannot_be_learned(panel, name):
    with pytest.raises(TrainingError, match="one direction"):
        baselines.fit(name, "direction", replace(panel, y=np.abs(panel.y)))


@pytest.mark.parametrize(("task", "name"), [("rank", "ridge"), ("rank", "boosting")])
def test_what_is_learned_ranks_windows_that_were_not_seen(panel, task, name):
    train, later = panel.take(slice(0, 480)), panel.take(slice(480, 720))
    scores = baselines.fit(name, task, train).predict(later)[:, 0]
    assert np.corrcoef(scores, later.y[:, 0, 0])[0, 1] > 0.15


@pytest.mark.parametrize(("task", "name"), [("rank", "ridge"), ("direction", "boosting")])
def test_unknown_labels_are_not_learned_from(panel, task, name):
    unknown = np.arange(len(panel)) >= 600
    y = np.where(unknown[:, None, None], np.nan, panel.y)
    some = baselines.fit(name, task, replace(panel, y=y))
    assert some.windows == 600
    cut = baselines.fit(name, task, panel.take(slice(0, 600)))
    assert baselines.weights_sha256(some) == baselines.weights_sha256(cut)


def test_of_too_many_windows_a_sample_is_learned_from(panel, monkeypatch):
    monkeypatch.setattr(matrices, "MOST_VALUES", 400)
    one, same, other = (baselines.fit("ridge", "rank", panel, seed=seed) for seed in (1, 1, 2))
    assert one.windows == 100
    assert one == same
    assert one != other


def test_the_month_is_one_of_twelve_columns(months):
    matrix = matrices.design_matrix(months, True)
    assert matrix.shape == (720, 4 + 12)
    assert (matrix[:, 4:].sum(axis=1) == 1).all()
    assert (matrix[:, 4:].argmax(axis=1) + 1 == months.index["as_of"].dt.month).all()
    np.testing.assert_array_equal(matrix[:, :4], months.X[:, :, 0])


def test_months_of_windows_and_of_networks_agree(months):
    days = months.index["as_of"].to_numpy("datetime64[D]")
    np.testing.assert_array_equal(_months(days), months.index["month"])
    network = Encoding(Scale.identity(1), Scale.identity(1), "rank", None, months=True)
    np.testing.assert_array_equal(
        network.static(months)["month"], matrices.design_matrix(months, True)[:, 4:]
    )


@pytest.mark.parametrize("name", ["ridge", "boosting"])
def test_a_baseline_with_months_needs_them(months, panel, name, tmp_path):
    baselines.save(baselines.fit(name, "rank", months), tmp_path)
    found = baselines.load(tmp_path)
    assert found.months
    assert found.predict(months).shape == (720, 1)
    with pytest.raises(RegistryError, match="these have none"):
        found.predict(panel)


# --------------------------------------------------------------------------- files


@pytest.fixture
def saved(fitted, tmp_path):
    """A folder with the baseline of a task."""

    def save(task, name):
        baselines.save(fitted[task, name], tmp_path)
        return tmp_path

    return save


def altered(folder, change):
    path = folder / "baseline.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return folder


def refusal(folder):
    with pytest.raises(RegistryError) as error:
        baselines.load(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("not json", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "no baseline of format"),
        ('{"format": "lookback-baseline-0"}', "no baseline of format"),
        ('{"format": "lookback-baseline-1", "name": "var", "task": "level"}', "unknown baseline"),
        ('{"format": "lookback-baseline-1", "name": "os.system", "task": "rank"}', "unknown"),
        ('{"format": "lookback-baseline-1", "name": "ridge", "task": "rank"}', "lacks fields"),
    ],
)
def test_a_foreign_document_is_refused(tmp_path, text, reason):
    (tmp_path / "baseline.json").write_text(text)
    assert reason in refusal(tmp_path)


def test_a_missing_file_is_named(tmp_path, saved):
    assert "baseline.json is missing" in refusal(tmp_path)
    (saved("rank", "boosting") / "boosting.skops").unlink()
    assert "boosting.skops is missing" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda learned: learned.pop("intercept"), "lacks fields"),
        (lambda learned: learned.update(more=1), "unknown ones"),
        (lambda learned: learned.update(intercept="0.1"), "'0.1' is no float"),
        (lambda learned: learned.update(intercept=1e999), "inf is no float"),
        (lambda learned: learned.update(months=1), "1 is no bool"),
        (lambda learned: learned.update(windows=True), "True is no int"),
        (lambda learned: learned.update(weights=0.5), "a list is missing"),
        (lambda learned: learned.update(weights=[]), "another number of features"),
        (lambda learned: learned["weights"].append(None), "None is no float"),
    ],
)
def test_altered_weights_are_refused(saved, change, reason):
    folder = altered(saved("rank", "ridge"), lambda document: change(document["learned"]))
    assert reason in refusal(folder)


def test_altered_coefficients_are_refused(saved):
    folder = altered(saved("changes", "var"), lambda it: it["learned"]["intercept"].append(0.0))
    assert "another number of series" in refusal(folder)


@pytest.mark.parametrize("learned", [None, {}, {"months": True, "columns": 4}])
def test_trees_without_what_belongs_to_them_are_refused(saved, learned):
    folder = altered(saved("rank", "boosting"), lambda document: document.update(learned=learned))
    assert "lacks fields" in refusal(folder)


def test_trees_of_another_kind_are_refused(saved):
    folder = altered(saved("rank", "boosting"), lambda it: it["learned"].update(columns=5))
    assert "does not hold the trees" in refusal(folder)
    altered(folder, lambda it: it["learned"].update(columns=4))
    assert baselines.load(folder).columns == 4
    altered(folder, lambda it: it.update(task="direction"))
    assert "does not hold the trees" in refusal(folder)


def test_trees_of_another_scikit_learn_are_refused(saved):
    folder = altered(saved("rank", "boosting"), lambda it: it.update({"scikit-learn": "0.24.2"}))
    assert "is of scikit-learn 0.24.2, this is" in refusal(folder)


def test_damaged_trees_are_refused(saved):
    folder = saved("rank", "boosting")
    path = folder / "boosting.skops"
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    for number in range(40):
        damaged = bytearray(whole)
        if number % 4:
            for at in draw.integers(len(whole), size=8):
                damaged[at] ^= 1 + draw.integers(255)
        else:
            del damaged[draw.integers(len(whole)) :]
        path.write_bytes(damaged)
        assert "cannot be read safely" in refusal(folder)


class Foreign:
    """What no baseline is made of."""

    def __init__(self):
        self.given = 1

    def __setstate__(self, state):
        raise AssertionError("rebuilt from an untrusted file")


def test_untrusted_types_are_refused(saved):
    import skops.io

    folder = saved("rank", "boosting")
    skops.io.dump({"trees": Foreign()}, folder / "boosting.skops")
    reason = refusal(folder)
    assert "cannot be read safely" in reason
    assert "Foreign" in reason


def test_a_pickle_is_refused(saved, fitted):
    import pickle

    folder = saved("rank", "boosting")
    (folder / "boosting.skops").write_bytes(pickle.dumps(fitted["rank", "boosting"]))
    assert "cannot be read safely" in refusal(folder)


def test_trusted_but_foreign_estimators_are_refused(saved):
    import skops.io
    from sklearn.linear_model import LinearRegression

    folder = saved("rank", "boosting")
    fitted = LinearRegression().fit(np.ones((5, 4)), np.arange(5.0))
    skops.io.dump(fitted, folder / "boosting.skops")
    assert "does not hold the trees" in refusal(folder)


def test_other_files_in_the_folder_are_not_looked_at(saved, fitted, of_task):
    folder = saved("level", "drift")
    (folder / "boosting.skops").write_bytes(b"rubbish")
    shutil.copy(folder / "baseline.json", folder / "copy.json")
    assert baselines.load(folder) == fitted["level", "drift"]


def test_what_is_not_finite_is_not_saved(fitted, tmp_path):
    broken = replace(fitted["rank", "ridge"], intercept=np.nan)
    with pytest.raises(ValueError, match="not JSON compliant"):
        baselines.save(broken, tmp_path)


# --------------------------------------------------------------------------- reference data


@pytest.mark.reference
def test_one_step_errors_on_the_pair_of_the_book(reference_data, make_pair):
    """The last 24 months to the end of 2017, in the book's units, whose network has 1.71."""
    series = [
        pd.read_csv(reference_data / f"{name}.csv", parse_dates=["date"], index_col="date")[name]
        for name in ("UMCSENT", "IPGMFN")
    ]
    levels = pd.concat([series[0], np.log(series[1])], axis=1, sort=True).loc["1980-01":"2017-12"]
    assert len(levels) == 456
    pair = make_pair(levels.to_numpy(), "1980-01-01")
    pair = pair.take(pair.labelled)
    train, test = pair.take(slice(0, len(pair) - 24)), pair.take(slice(len(pair) - 24, None))
    assert test.index["as_of"].iloc[0] == pd.Timestamp("2015-12-01")
    error = {
        name: np.abs(baselines.fit(name, "changes", train).predict(test) - test.y).mean()
        for name in baselines.NAMES["changes"]
    }
    # keeping the level, and not its difference over a year, is what nothing beats
    assert error == pytest.approx(
        {"persistence": 2.109, "unmoved": 1.113, "seasonal_naive": 4.728, "var": 1.496}, abs=1e-3
    )
    assert baselines.fit("var", "changes", train).order == 13
