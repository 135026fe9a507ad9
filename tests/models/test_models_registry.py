import json
import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from db.clock import Night
from db.errors import RegistryError
from db.warehouse import open_warehouse
from models import artefacts, registry, training
from models.artefacts import Manifest
from models.recipes import SP500_NEXT_CLOSE
from models.spans import split
from models.training import TrainedVersion

RECIPE = SP500_NEXT_CLOSE.with_changes(
    validation_sessions=30, test_sessions=30, train_from=None, max_epochs=1
)
MODEL = RECIPE.name


@dataclass
class FakeNetwork:
    """Tomorrow is today plus a bias."""

    bias: float

    def predict(self, X):
        return X[:, -1, 0].astype("float64") + self.bias


class Desk:
    """A registry whose trainings take no time: the file of a network holds its bias."""

    def __init__(self, warehouse, windows):
        self.warehouse = warehouse
        self.settings = warehouse.settings
        self.windows = windows
        self.bias = 1.0
        self.trainings = 0

    def until(self, count):
        """The windows that were there `count` sessions before the end."""
        return self.windows.take(np.arange(len(self.windows) - count))

    def night(self, windows):
        session = windows.index["as_of"].max().date()
        cutoff = datetime(session.year, session.month, session.day, tzinfo=UTC)
        return Night(session, cutoff + timedelta(hours=27), cutoff, replayed=True)

    def fit(self, recipe, windows, folder, progress=None, device=None):
        """Stands in for `training.train`."""
        self.trainings += 1
        spans = split(windows, recipe.validation_sessions, recipe.test_sessions)
        forecast = FakeNetwork(self.bias).predict(spans.test.X)
        rmse = float(np.sqrt(np.mean((forecast - spans.test.y) ** 2)))
        folder.mkdir(parents=True)
        (folder / artefacts.NETWORK).write_text(f"{self.bias} {self.trainings}")
        names = ("train", "validation", "test")
        manifest = Manifest(
            model=recipe.name,
            view=windows.view,
            feature_version=windows.version,
            data_snapshot=windows.data_snapshot,
            recipe=recipe.to_json(),
            window=windows.X.shape[1],
            n_features=1,
            spans={name: training._describe(getattr(spans, name)) for name in names},
            trained_labels_known_at=spans.labels_known_at.isoformat(),
            seed=recipe.seed,
            backend="none",
            parameters=1,
            epochs=1,
            best_epoch=1,
            metrics={"rmse": rmse},
            baselines={"persistence": {"rmse": 1.0}},
            scaler={},
            versions={},
            weights_sha256="",
            files={artefacts.NETWORK: artefacts.sha256(folder / artefacts.NETWORK)},
        )
        return TrainedVersion(folder, manifest, artefacts.write_manifest(folder, manifest))

    def train(self, windows=None, recipe=RECIPE, bias=1.0):
        self.bias = bias
        windows = windows or self.windows
        return registry.train(self.settings, recipe, windows, self.night(windows))

    def register(self, candidate, run_id="run"):
        return registry.register(self.warehouse, candidate, self.night(candidate.windows), run_id)

    def champion(self):
        return registry.champion(self.warehouse, MODEL)

    def folder(self, version):
        return self.settings.home / "models" / version.artefact

    def promotions(self):
        return self.warehouse.sql(
            """
            SELECT model_version, replaced, reason, run_id
            FROM ops.promotions WHERE model = ? ORDER BY promoted_at
            """,
            MODEL,
        )


def load_fake(settings, version):
    folder = settings.home / "models" / version.artefact
    artefacts.verify(folder, version.artefact_sha256)
    return FakeNetwork(float((folder / artefacts.NETWORK).read_text().split()[0]))


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    from db.settings import Settings

    home = tmp_path_factory.mktemp("empty")
    with open_warehouse(Settings(home=home, profile="sample"), "test"):
        pass
    return home / "warehouse.duckdb"


@pytest.fixture
def warehouse(settings, empty_store):
    settings.home.mkdir(parents=True)
    shutil.copy(empty_store, settings.warehouse)
    with open_warehouse(settings, "test") as opened:
        yield opened


@pytest.fixture
def desk(warehouse, windows, monkeypatch):
    desk = Desk(warehouse, windows)
    monkeypatch.setattr(training, "train", desk.fit)
    monkeypatch.setattr(registry, "load", load_fake)
    return desk


# ----------------------------------------------------------------- champion, challenger


def test_the_first_version_becomes_champion(desk):
    candidate = desk.train()
    registered = desk.register(candidate, "first run")
    assert (registered.stage, registered.reason) == (
        "champion",
        "first version: there was no champion",
    )
    assert desk.champion() == registered
    assert registered == registry.find(desk.warehouse, MODEL, candidate.model_version)
    assert registered.artefact == f"{MODEL}/{candidate.model_version}"
    assert registered.labels_known_at == candidate.trained.manifest.labels_known_at
    assert registered.metrics == {"rmse": candidate.trained.manifest.metrics["rmse"]}
    assert desk.promotions() == [(candidate.model_version, None, registered.reason, "first run")]
    assert registered.summary["persistence_rmse"] == 1.0


def test_the_row_says_what_the_version_was_made_of(desk):
    candidate = desk.train()
    desk.register(candidate, "first run")
    row = desk.warehouse.one(
        """
        SELECT status, feature_view, feature_version, data_snapshot, cutoff, seed, backend,
            parameters, run_id, recipe, spans
        FROM main.model_versions
        """
    )
    night = desk.night(desk.windows)
    assert row[:9] == (
        "trained", "sp500_close", "v1", "snap", night.cutoff, 42, "none", 1, "first run",
    )  # fmt: skip
    assert json.loads(row[9]) == RECIPE.to_json()
    spans = json.loads(row[10])
    assert spans["test"]["windows"] == 30
    assert spans["validation"]["last_as_of"] < spans["test"]["first_as_of"]


BETTER, WORSE = 0.5, 40.0


def test_a_version_that_is_no_worse_takes_over(desk):
    first = desk.register(desk.train(desk.until(20), bias=WORSE))
    second = desk.register(desk.train(bias=BETTER), "second run")
    assert second.stage == "champion"
    spans = split(desk.windows, 30, 30)
    rmse = [
        np.sqrt(np.mean((spans.test.X[:, -1, 0].astype(float) + bias - spans.test.y) ** 2))
        for bias in (BETTER, WORSE)
    ]
    assert second.reason == (
        f"test RMSE {rmse[0]:.2f} against the champion's {rmse[1]:.2f}, 30 windows"
    )
    retired = registry.find(desk.warehouse, MODEL, first.model_version)
    assert (retired.stage, retired.reason) == ("retired", f"replaced by {second.model_version}")
    assert desk.promotions()[1] == (
        second.model_version,
        first.model_version,
        second.reason,
        "second run",
    )


def test_an_equal_version_takes_over(desk):
    desk.register(desk.train(desk.until(20)))
    assert desk.register(desk.train()).stage == "champion"


def test_a_worse_version_is_a_challenger(desk):
    first = desk.register(desk.train(desk.until(20), bias=BETTER))
    second = desk.register(desk.train(bias=WORSE))
    assert second.stage == "challenger"
    assert "against the champion's" in second.reason
    assert desk.champion() == first
    assert len(desk.promotions()) == 1


def test_without_a_span_that_neither_has_seen_the_champion_stays(desk):
    """The candidate's test span begins before the champion's last label was known."""
    first = desk.register(desk.train(bias=WORSE))
    second = desk.register(desk.train(desk.until(40), bias=BETTER))
    assert second.stage == "challenger"
    assert second.reason == "no span that neither version has seen: the champion stays"
    assert desk.champion() == first


def test_one_moment_decides_whether_the_champion_has_seen_the_span(desk):
    first = desk.register(desk.train(bias=WORSE))
    begins = split(desk.windows, 30, 30).test.index["known_at"].min()
    candidate = desk.train(recipe=RECIPE.with_changes(seed=1), bias=BETTER)
    for labels_known_at, stage in (
        (begins, "challenger"),
        (begins - timedelta(0, 0, 1), "champion"),
    ):
        desk.warehouse.native.execute(
            "UPDATE main.model_versions SET labels_known_at = ? WHERE model_version = ?",
            (labels_known_at, first.model_version),
        )
        desk.warehouse.native.execute(
            "DELETE FROM main.model_versions WHERE model_version = ?", (candidate.model_version,)
        )
        assert desk.register(candidate).stage == stage


def test_a_champion_that_cannot_be_loaded_does_not_stay(desk):
    """Even where there is no span to compare on: it could not score any more."""
    first = desk.register(desk.train(bias=BETTER))
    (desk.folder(first) / artefacts.NETWORK).write_text("damaged")
    second = desk.register(desk.train(desk.until(40), bias=WORSE))
    assert second.stage == "champion"
    assert second.reason.startswith("the champion cannot be loaded (")
    assert "was altered after training" in second.reason


def test_a_champion_of_another_feature_version_does_not_stay(desk):
    """Its forecasts of these windows would mean nothing, and scoring refuses it."""
    desk.register(desk.train(bias=BETTER))
    changed = desk.windows.__class__(
        **{**vars(desk.windows), "version": "v2", "data_snapshot": "other"}
    )
    second = desk.register(desk.train(changed, bias=WORSE))
    assert second.stage == "champion"
    assert second.reason == ("the champion reads version v1 of the feature view, which is now v2")


def test_models_do_not_know_each_other(desk):
    first = desk.register(desk.train())
    other = desk.register(desk.train(recipe=RECIPE.with_changes(name="another"), bias=WORSE))
    assert (other.stage, other.model) == ("champion", "another")
    assert desk.champion() == first


# ---------------------------------------------------------------------------- promotion


def test_promoting_by_hand_and_back(desk):
    first = desk.register(desk.train(desk.until(20), bias=BETTER))
    second = desk.register(desk.train(bias=WORSE))
    with desk.warehouse.transaction():
        registry.promote(desk.warehouse, MODEL, second.model_version, "by hand", "run 3")
    assert desk.champion().model_version == second.model_version
    assert desk.champion().reason == "by hand"
    with desk.warehouse.transaction():
        registry.promote(desk.warehouse, MODEL, first.model_version, "rolled back", "run 4")
    assert desk.champion().model_version == first.model_version
    assert [promotion[1:] for promotion in desk.promotions()[1:]] == [
        (first.model_version, "by hand", "run 3"),
        (second.model_version, "rolled back", "run 4"),
    ]
    stages = desk.warehouse.sql("SELECT stage FROM main.model_versions ORDER BY stage")
    assert stages == [("champion",), ("retired",)]


def test_promoting_an_unknown_version_is_one_line_and_changes_nothing(desk):
    first = desk.register(desk.train())
    with pytest.raises(RegistryError, match="see: lookback models list") as caught:
        registry.promote(desk.warehouse, MODEL, "20990101-00000000", "by hand", "run")
    assert f"model {MODEL} has no version 20990101-00000000" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert desk.champion() == first
    assert len(desk.promotions()) == 1


def test_killed_while_registering_there_is_no_row_and_then_one(desk, monkeypatch):
    candidate = desk.train()
    with monkeypatch.context() as patched:
        patched.setattr(registry, "promote", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            desk.register(candidate)
    assert registry.find(desk.warehouse, MODEL, candidate.model_version) is None
    assert desk.register(candidate).stage == "champion"
    assert len(desk.promotions()) == 1


def test_registering_twice_changes_nothing(desk):
    candidate = desk.train()
    first = desk.register(candidate)
    assert desk.register(candidate, "again") == first
    assert desk.register(desk.train(), "and again") == first
    assert desk.trainings == 1
    assert len(desk.promotions()) == 1


# -------------------------------------------------------------------------------- names


def test_the_same_inputs_give_the_same_name(desk):
    night = desk.night(desk.windows)
    name = registry.version_name(RECIPE, desk.windows, night)
    assert name == registry.version_name(RECIPE.with_changes(), desk.windows, night)
    assert name.startswith(f"{night.session:%Y%m%d}-")
    assert len(name) == 17


CHANGES = {
    "recipe": lambda recipe, windows: (recipe.with_changes(seed=7), windows),
    "start": lambda recipe, windows: (recipe.with_changes(train_from=date(2010, 1, 4)), windows),
    "data": lambda recipe, windows: (recipe, changed(windows, data_snapshot="other")),
    "view": lambda recipe, windows: (recipe, changed(windows, version="v2")),
}


def changed(windows, **changes):
    return windows.__class__(**{**vars(windows), **changes})


@pytest.mark.parametrize("what", CHANGES)
def test_other_inputs_give_another_name(desk, what):
    night = desk.night(desk.windows)
    name = registry.version_name(RECIPE, desk.windows, night)
    assert registry.version_name(*CHANGES[what](RECIPE, desk.windows), night) != name


def test_another_backend_or_night_gives_another_name(desk, monkeypatch):
    night = desk.night(desk.windows)
    names = {registry.version_name(RECIPE, desk.windows, night)}
    names.add(registry.version_name(RECIPE, desk.windows, desk.night(desk.until(5))))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    names.add(registry.version_name(RECIPE, desk.windows, night))
    assert len(names) == 3


# ------------------------------------------------------------------- folders and kills


def test_a_training_that_was_killed_before_its_row_is_taken_up(desk):
    first = desk.train()
    second = desk.train()
    assert desk.trainings == 1
    assert (first.taken_up, second.taken_up) == (False, True)
    assert second.trained == first.trained
    assert desk.register(second).stage == "champion"


def test_a_damaged_folder_without_a_row_is_replaced(desk):
    candidate = desk.train()
    (candidate.trained.folder / artefacts.NETWORK).write_text("half of it")
    again = desk.train()
    assert (desk.trainings, again.taken_up) == (2, False)
    assert artefacts.verify(again.trained.folder) == again.trained.manifest
    assert load_fake(desk.settings, desk.register(again)).bias == 1.0


def test_a_damaged_artefact_of_a_registered_version_is_healed_by_training_again(desk):
    first = desk.register(desk.train())
    (desk.folder(first) / artefacts.NETWORK).write_text("damaged")
    with pytest.raises(RegistryError, match="altered"):
        load_fake(desk.settings, desk.champion())
    healed = desk.register(desk.train())
    assert healed.artefact_sha256 != first.artefact_sha256
    assert (healed.stage, healed.reason) == (first.stage, first.reason)
    assert load_fake(desk.settings, desk.champion()).bias == 1.0
    assert len(desk.promotions()) == 1


def test_a_foreign_artefact_in_the_place_of_a_registered_one_is_not_taken_up(desk):
    """Whole in itself, but not what the registry remembers."""
    first = desk.register(desk.train())
    shutil.rmtree(desk.folder(first))
    desk.bias = 9.0
    desk.fit(RECIPE, desk.windows, desk.folder(first))
    with pytest.raises(RegistryError, match="not the artefact that the registry remembers") as e:
        desk.register(desk.train())
    assert "\n" not in str(e.value)
    assert desk.champion() == first


def test_nothing_but_versions_lies_in_the_models_folder(desk):
    registered = desk.register(desk.train())
    found = [path.name for path in (desk.settings.home / "models" / MODEL).iterdir()]
    assert found == [registered.model_version]


# ------------------------------------------------------------------------ a real network


@pytest.fixture
def orphan(warehouse, windows, trained, small_recipe, monkeypatch):
    """A real artefact where the next training of the same inputs will look for it."""
    desk = Desk(warehouse, windows)
    night = desk.night(windows)
    name = registry.version_name(small_recipe, windows, night)
    folder = warehouse.settings.home / "models" / small_recipe.name / name
    shutil.copytree(trained.folder, folder)
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
    return desk, registry.train(warehouse.settings, small_recipe, windows, night)


def test_a_real_orphan_is_taken_up_and_scores(orphan, windows, trained):
    desk, candidate = orphan
    version = desk.register(candidate)
    assert (version.stage, version.parameters) == ("champion", trained.manifest.parameters)
    forecast = registry.load(desk.settings, version).predict(windows.X[-31:-1])
    rmse = np.sqrt(np.mean((forecast - windows.y[-31:-1].astype(float)) ** 2))
    assert rmse == pytest.approx(version.metrics["rmse"], rel=1e-12)
    assert version.summary["test_rmse"] == version.metrics["rmse"]


def test_a_real_champion_is_measured_on_the_candidates_test_span(orphan, windows, small_recipe):
    """Against itself under another seed's name: the same error on the same windows."""
    desk, candidate = orphan
    first = desk.register(candidate)
    renamed = registry.Candidate(small_recipe, "20990101-00000000", candidate.trained, windows, 0.0)
    second = desk.register(renamed)
    rmse = f"{first.metrics['rmse']:.2f}"
    assert second.reason == f"test RMSE {rmse} against the champion's {rmse}, 30 windows"


@pytest.mark.parametrize("name", [artefacts.NETWORK, artefacts.MANIFEST])
def test_a_corrupted_champion_is_refused_in_one_line(orphan, name):
    desk, candidate = orphan
    version = desk.register(candidate)
    path = desk.folder(version) / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(RegistryError, match="roll back to another version or train it again") as e:
        registry.load(desk.settings, version)
    assert str(path) in str(e.value)
    assert "\n" not in str(e.value)


def test_a_champion_whose_folder_is_gone_is_refused_in_one_line(orphan):
    desk, candidate = orphan
    version = desk.register(candidate)
    shutil.rmtree(desk.folder(version))
    with pytest.raises(RegistryError, match=r"manifest\.json is missing"):
        registry.load(desk.settings, version)
