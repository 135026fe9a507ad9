import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from db.clock import Night
from db.errors import DivergedError, RegistryError, TrainingError
from db.warehouse import open_warehouse
from features.catalog import feature_view
from models import artefacts, registry, tasks, training
from models.artefacts import Manifest
from models.catalog import SP500_NEXT_CLOSE
from models.spans import split
from models.training import TrainedVersion

RECIPE = SP500_NEXT_CLOSE.with_changes(validation=30, test=30, train_from=None, max_epochs=1)
MODEL = RECIPE.model


@dataclass
class FakeNetwork:
    """Tomorrow is what it was, plus a bias: with 0 it knows the label."""

    manifest: Manifest
    bias: float

    def forecast(self, examples):
        return examples.y.astype("float64") + self.bias


class Desk:
    """A registry whose trainings take no time: the file of a network holds its bias."""

    def __init__(self, warehouse, examples):
        self.warehouse = warehouse
        self.settings = warehouse.settings
        self.examples = replace(examples, version=feature_view("sp500_close").version)
        self.bias = 1.0
        self.trainings = 0

    def until(self, count):
        """The examples that were there `count` sessions before the end."""
        return self.examples.take(slice(0, len(self.examples) - count))

    def night(self, examples):
        session = examples.index["as_of"].max().date()
        cutoff = datetime(session.year, session.month, session.day, tzinfo=UTC)
        return Night(session, cutoff + timedelta(hours=27), cutoff, replayed=True)

    def fit(self, recipe, spans, folder, baselines=None, progress=None, device=None):
        """Stands in for `training.train`."""
        self.trainings += 1
        forecast = spans.test.y + self.bias
        folder.mkdir(parents=True)
        (folder / artefacts.NETWORK).write_text(f"{self.bias} {self.trainings}")
        manifest = Manifest(
            kind="network",
            **training.lineage(recipe, spans),
            shape={"window": 12, "n_features": 1, "outputs": 1, "steps": 1},
            spans=training.described(spans),
            trained_labels_known_at=spans.labels_known_at.isoformat(),
            backend="none",
            parameters=1,
            epochs=1,
            best_epoch=1,
            layers=[],
            metrics=tasks.evaluate(recipe, forecast, spans.test, spans.train),
            baselines=dict(baselines or {}),
            quantiles=None,
            gives_probability=False,
            encoding={},
            versions={},
            weights_sha256="",
            files={artefacts.NETWORK: artefacts.sha256(folder / artefacts.NETWORK)},
        )
        return TrainedVersion(folder, manifest, artefacts.write_manifest(folder, manifest))

    def spans(self, examples=None):
        return split(examples or self.examples, RECIPE.validation, RECIPE.test)

    def train(self, examples=None, recipe=RECIPE, bias=1.0, beside=()):
        self.bias = bias
        spans = self.spans(examples)
        return registry.train(self.settings, recipe, spans, self.night(spans.test), beside)

    def baselines(self, examples=None):
        spans = self.spans(examples)
        return registry.fit_baselines(self.settings, RECIPE, spans, self.night(spans.test))

    def register(self, *candidates, run_id="run"):
        return registry.register(
            self.warehouse, candidates, self.night(candidates[0].test), run_id
        )[-1]

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
def desk(warehouse, examples, monkeypatch):
    desk = Desk(warehouse, examples)
    real = artefacts.load

    def load_fake(folder, manifest_sha256=None):
        manifest = artefacts.verify(folder, manifest_sha256)
        if manifest.kind == "baseline":
            return real(folder, manifest_sha256)
        return FakeNetwork(manifest, float((folder / artefacts.NETWORK).read_text().split()[0]))

    monkeypatch.setattr(training, "train", desk.fit)
    monkeypatch.setattr(artefacts, "load", load_fake)
    return desk


# ----------------------------------------------------------------- champion, challenger


def test_the_first_version_becomes_champion(desk):
    candidate = desk.train()
    registered = desk.register(candidate, run_id="first run")
    assert registered.stage == "champion"
    assert registered.reason.endswith("no baseline to compare with")
    assert desk.champion() == registered
    assert registered == registry.find(desk.warehouse, MODEL, candidate.model_version)
    assert registered.artefact == f"{MODEL}/{candidate.model_version}"
    assert registered.labels_known_at == candidate.trained.manifest.labels_known_at
    assert desk.promotions() == [(candidate.model_version, None, registered.reason, "first run")]


def test_baselines_are_versions_and_one_is_champion_where_the_network_beats_none(desk):
    baselines = desk.baselines()
    assert [each.recipe.variant for each in baselines] == ["persistence", "drift"]
    network = desk.register(*baselines, desk.train(bias=80.0, beside=baselines))
    champion = desk.champion()
    assert champion.recipe["variant"] in {"persistence", "drift"}
    assert champion.reason.startswith("no network beats this baseline: RMSE")
    assert network.model_version in champion.reason
    assert network.stage == "challenger"
    assert network.reason == f"{champion.model_version} is champion: {champion.reason}"
    assert set(network.baselines) == {"persistence", "drift"}
    shown = network.summary
    assert (shown["metric"], shown["baseline_test"]) == (
        "rmse",
        min(figures["rmse"] for figures in network.baselines.values()),
    )
    assert champion.labels_known_at is None  # it learned nothing, and may score any date


def test_a_network_that_beats_the_baselines_takes_over_from_one(desk):
    desk.register(*desk.baselines(desk.until(20)), desk.train(desk.until(20), bias=80.0))
    assert desk.champion().recipe["variant"] != "chapter"
    network = desk.register(*desk.baselines(), desk.train(bias=0.5))
    assert network.stage == "champion"
    assert network.reason.startswith("the network beats every baseline: RMSE 0.5")


def test_the_row_says_what_the_version_was_made_of(desk):
    desk.register(desk.train(), run_id="first run")
    row = desk.warehouse.one(
        """
        SELECT status, feature_view, feature_version, data_snapshot, cutoff, seed, backend,
            parameters, run_id, recipe, spans
        FROM main.model_versions
        """
    )
    night = desk.night(desk.spans().test)
    assert row[:9] == (
        "trained",
        "sp500_close",
        desk.examples.version,
        "snap",
        night.cutoff,
        42,
        "none",
        1,
        "first run",
    )
    assert json.loads(row[9]) == RECIPE.to_json()
    spans = json.loads(row[10])
    assert spans["test"]["windows"] == 30
    assert spans["validation"]["last_as_of"] < spans["test"]["first_as_of"]


BETTER, WORSE = 0.5, 40.0


def test_a_version_that_is_no_worse_takes_over(desk):
    first = desk.register(desk.train(desk.until(20), bias=WORSE))
    second = desk.register(desk.train(bias=BETTER), run_id="second run")
    assert second.stage == "champion"
    assert "RMSE 0.5 against the champion's 40 on 30 dates" in second.reason
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
    assert "the champion stays: RMSE 40 against the champion's" in second.reason
    assert "worse beyond noise" in second.reason
    assert desk.champion() == first
    assert len(desk.promotions()) == 1


def test_without_a_span_that_neither_has_seen_the_champion_stays(desk):
    """The candidate's test span begins before the champion's last label was known."""
    first = desk.register(desk.train(bias=WORSE))
    second = desk.register(desk.train(desk.until(40), bias=BETTER))
    assert second.stage == "challenger"
    assert "no span that neither version has seen: the champion stays" in second.reason
    assert desk.champion() == first


def test_one_moment_decides_whether_the_champion_has_seen_the_span(desk):
    first = desk.register(desk.train(bias=WORSE))
    begins = desk.spans().test.index["known_at"].min()
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
    assert second.reason.startswith(f"the champion {first.model_version} cannot score any more (")
    assert "was altered after training" in second.reason


def test_a_champion_of_another_feature_version_does_not_stay(desk):
    """Its forecasts of these windows would mean nothing, and scoring refuses it."""
    first = desk.register(desk.train(bias=BETTER))
    desk.warehouse.native.execute("UPDATE main.model_versions SET feature_version = 'v0'")
    second = desk.register(desk.train(desk.until(3), bias=WORSE))
    assert second.stage == "champion"
    assert f"the champion {first.model_version} cannot score any more" in second.reason
    assert f"reads version v0 of sp500_close, which is now {desk.examples.version}" in second.reason


def test_a_forecast_that_is_no_number_is_never_champion(desk):
    with pytest.raises(TrainingError, match="no version gives a finite forecast"):
        desk.register(desk.train(bias=float("nan")))
    network = desk.register(*desk.baselines(), desk.train(bias=float("nan")))
    assert network.stage == "challenger"
    assert desk.champion().recipe["variant"] in {"persistence", "drift"}


def test_models_do_not_know_each_other(desk):
    first = desk.register(desk.train())
    other = desk.register(desk.train(recipe=RECIPE.with_changes(model="another"), bias=WORSE))
    assert (other.stage, other.model) == ("champion", "another")
    assert desk.champion() == first


# ---------------------------------------------------------------------------- failures


def test_a_diverged_training_is_remembered_and_cannot_be_promoted(desk):
    spans = desk.spans()
    night = desk.night(spans.test)
    registry.record_failure(desk.warehouse, RECIPE, spans, night, "run", "the loss is nan")
    name = registry.version_name(RECIPE, spans.train, night)
    failed = registry.find(desk.warehouse, MODEL, name)
    assert (failed.status, failed.stage, failed.artefact) == ("failed", "retired", None)
    with pytest.raises(RegistryError, match="is no version to promote: the loss is nan"):
        registry.promote(desk.warehouse, MODEL, name, "by hand", "run")
    with pytest.raises(RegistryError, match="failed: the loss is nan"):
        registry.load(desk.settings, failed)
    assert desk.champion() is None
    # tried again, with success
    registered = desk.register(desk.train())
    assert (registered.model_version, registered.status, registered.stage) == (
        name,
        "trained",
        "champion",
    )


def test_a_failure_reaches_the_one_who_trains(desk, monkeypatch):
    def diverge(*_, **__):
        raise DivergedError("the loss is nan")

    monkeypatch.setattr(training, "train", diverge)
    with pytest.raises(DivergedError):
        desk.train()
    assert not (desk.settings.home / "models" / MODEL).exists()


# ---------------------------------------------------------------------------- promotion


def test_promoting_by_hand_and_back(desk):
    first = desk.register(desk.train(desk.until(20), bias=BETTER))
    second = desk.register(desk.train(bias=WORSE))
    with desk.warehouse.transaction():
        registry.promote(desk.warehouse, MODEL, second.model_version, "by hand", "run 3")
    assert desk.champion().model_version == second.model_version
    assert desk.champion().reason == "by hand"
    back = registry.roll_back(desk.warehouse, MODEL, "run 4")
    assert back.model_version == first.model_version
    assert desk.champion().model_version == first.model_version
    assert [promotion[1:] for promotion in desk.promotions()[1:]] == [
        (first.model_version, "by hand", "run 3"),
        (second.model_version, f"rolled back from {second.model_version}", "run 4"),
    ]
    stages = desk.warehouse.sql("SELECT stage FROM main.model_versions ORDER BY stage")
    assert stages == [("champion",), ("retired",)]


def test_rolling_back_passes_over_what_cannot_score(desk):
    with pytest.raises(RegistryError, match="it never had another champion"):
        registry.roll_back(desk.warehouse, MODEL, "run")
    versions = [desk.register(desk.train(desk.until(40 - 20 * n), bias=3 - n)) for n in range(3)]
    assert [version.stage for version in versions] == ["champion"] * 3
    (desk.folder(versions[1]) / artefacts.NETWORK).write_text("damaged")
    assert registry.roll_back(desk.warehouse, MODEL, "run").model_version == (
        versions[0].model_version
    )


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
    assert desk.register(candidate, run_id="again") == first
    assert desk.register(desk.train(), run_id="and again") == first
    assert desk.trainings == 1
    assert len(desk.promotions()) == 1


# -------------------------------------------------------------------------------- names


def test_the_same_inputs_give_the_same_name(desk):
    night = desk.night(desk.examples)
    name = registry.version_name(RECIPE, desk.examples, night)
    assert name == registry.version_name(RECIPE.with_changes(), desk.examples, night)
    assert name.startswith(f"{night.session:%Y%m%d}-chapter-")
    assert len(name) == 25


CHANGES = {
    "recipe": lambda recipe, examples: (recipe.with_changes(seed=7), examples),
    "start": lambda recipe, examples: (recipe.with_changes(train_from=date(2010, 1, 4)), examples),
    "data": lambda recipe, examples: (recipe, replace(examples, data_snapshot="other")),
    "view": lambda recipe, examples: (recipe, replace(examples, version="v2")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_other_inputs_give_another_name(desk, what):
    night = desk.night(desk.examples)
    name = registry.version_name(RECIPE, desk.examples, night)
    assert registry.version_name(*CHANGES[what](RECIPE, desk.examples), night) != name


def test_another_backend_or_night_gives_another_name(desk, monkeypatch):
    night = desk.night(desk.examples)
    names = {registry.version_name(RECIPE, desk.examples, night)}
    names.add(registry.version_name(RECIPE, desk.examples, desk.night(desk.until(5))))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    names.add(registry.version_name(RECIPE, desk.examples, night))
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
    assert registry.load(desk.settings, desk.register(again)).bias == 1.0


def test_a_damaged_artefact_of_a_registered_version_is_healed_by_training_again(desk):
    first = desk.register(desk.train())
    (desk.folder(first) / artefacts.NETWORK).write_text("damaged")
    with pytest.raises(RegistryError, match="altered"):
        registry.load(desk.settings, desk.champion())
    healed = desk.register(desk.train())
    assert healed.artefact_sha256 != first.artefact_sha256
    assert (healed.stage, healed.reason) == (first.stage, first.reason)
    assert registry.load(desk.settings, desk.champion()).bias == 1.0
    assert len(desk.promotions()) == 1


def test_a_foreign_artefact_in_the_place_of_a_registered_one_is_not_taken_up(desk):
    """Whole in itself, but not what the registry remembers."""
    first = desk.register(desk.train())
    shutil.rmtree(desk.folder(first))
    desk.bias = 9.0
    desk.fit(RECIPE, desk.spans(), desk.folder(first))
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
def orphan(warehouse, examples, trained, small_recipe, spans, monkeypatch):
    """A real artefact where the next training of the same inputs will look for it."""
    desk = Desk(warehouse, examples)
    night = desk.night(examples)
    name = registry.version_name(small_recipe, examples, night)
    folder = warehouse.settings.home / "models" / small_recipe.model / name
    shutil.copytree(trained.folder, folder)
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
    return desk, registry.train(warehouse.settings, small_recipe, spans, night)


def test_a_real_orphan_is_taken_up_and_scores(orphan, trained):
    desk, candidate = orphan
    version = desk.register(candidate)
    assert (version.stage, version.parameters) == ("champion", trained.manifest.parameters)
    forecast = registry.load(desk.settings, version).forecast(candidate.test)
    rmse = np.sqrt(np.mean((forecast - candidate.test.y.astype(float)) ** 2))
    assert rmse == pytest.approx(version.metrics["rmse"], rel=1e-12)
    assert version.summary["test"] == version.metrics["rmse"]


@pytest.mark.parametrize("name", [artefacts.NETWORK, artefacts.GRAPH, artefacts.MANIFEST])
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
