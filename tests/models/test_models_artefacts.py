import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from db.errors import RegistryError
from models import artefacts, training


def test_round_trip_gives_the_forecasts_of_training(trained, spans):
    model = artefacts.load(trained.folder, trained.manifest_sha256)
    forecast = model.forecast(spans.test)
    errors = forecast - spans.test.y.astype(float)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(trained.manifest.metrics["rmse"], rel=1e-12)
    assert (forecast.shape, forecast.dtype) == ((30, 1, 1), np.float64)


def test_the_graph_forecasts_what_keras_does(trained, spans):
    graph = artefacts.load(trained.folder)
    run = artefacts.keras_runner(artefacts.load_network(trained.folder))
    keras = artefacts.LoadedNetwork(graph.manifest, graph.encoding, run)
    np.testing.assert_allclose(
        graph.forecast(spans.test), keras.forecast(spans.test), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("runner", ["graph", "keras"])
def test_a_forecast_does_not_depend_on_its_neighbours(trained, examples, runner):
    model = artefacts.load(trained.folder)
    if runner == "keras":
        run = artefacts.keras_runner(artefacts.load_network(trained.folder))
        model = replace(model, run=run)
    together = model.forecast(examples)
    for row in range(0, len(examples), 50):
        assert model.forecast(examples.take(slice(row, row + 1)))[0] == together[row]
    many = examples.take(np.tile(np.arange(len(examples)), 6))
    assert len(many) > artefacts.CHUNK
    np.testing.assert_array_equal(model.forecast(many), np.tile(together, (6, 1, 1)))


def test_windows_of_another_shape_are_refused(trained, examples):
    model = artefacts.load(trained.folder)
    assert model.forecast(examples.take(slice(0, 0))).shape == (0, 1, 1)
    with pytest.raises(RegistryError, match=r"\(n, 12, 1\)"):
        model.forecast(replace(examples, X=examples.X[:, 1:]))


def test_verify_gives_the_manifest(trained):
    assert artefacts.verify(trained.folder, trained.manifest_sha256) == trained.manifest


def damage_network(folder):
    path = folder / artefacts.NETWORK
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_manifest(folder, **changes):
    path = folder / artefacts.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES = {
    "altered": damage_network,
    "model.onnx was altered": lambda folder: (folder / artefacts.GRAPH).write_bytes(b"graph"),
    "is missing": lambda folder: (folder / "metrics.json").unlink(),
    "does not belong": lambda folder: (folder / "payload.py").write_text("print(1)"),
    "manifest.json is missing": lambda folder: (folder / "manifest.json").unlink(),
    "cannot be read": lambda folder: (folder / "manifest.json").write_text("{"),
    "no manifest of format": lambda folder: change_manifest(folder, format="other"),
    "unknown ones": lambda folder: change_manifest(folder, extra=1),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_damaged_artefact_is_refused_in_one_line(artefact, reason):
    DAMAGES[reason](artefact)
    with pytest.raises(RegistryError, match=reason) as caught:
        artefacts.load(artefact)
    assert "\n" not in str(caught.value)


def test_a_link_is_refused(artefact, tmp_path):
    network = artefact / artefacts.NETWORK
    network.rename(tmp_path / "elsewhere.keras")
    network.symlink_to(tmp_path / "elsewhere.keras")
    with pytest.raises(RegistryError, match="not a plain file"):
        artefacts.verify(artefact)


def test_another_manifest_than_the_registry_remembers_is_refused(artefact, trained):
    change_manifest(artefact, trained_labels_known_at="1990-01-01T00:00:00+00:00")
    with pytest.raises(RegistryError, match="registry remembers"):
        artefacts.verify(artefact, trained.manifest_sha256)


def test_refusal_imports_no_framework(artefact):
    damage_network(artefact)
    code = (
        "import sys\nfrom pathlib import Path\nfrom models import artefacts\n"
        "try:\n    artefacts.load(Path(sys.argv[1]))\n"
        "except artefacts.RegistryError:\n"
        "    print(sorted({'keras', 'tensorflow'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(artefact)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_network_with_code_in_it_is_not_run(artefact):
    """Keras' safe mode refuses a Lambda layer, even under a manifest that fits."""
    path = artefact / artefacts.NETWORK
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    function = {"class_name": "__lambda__", "config": {"code": "", "defaults": None}}
    layer = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"name": "code", "trainable": True, "function": function},
        "registered_name": None,
    }
    config["config"]["layers"].append(layer)
    content["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    files = json.loads((artefact / artefacts.MANIFEST).read_text())["files"]
    change_manifest(artefact, files=files | {artefacts.NETWORK: artefacts.sha256(path)})
    with pytest.raises(RegistryError, match="safe mode"):
        artefacts.load_network(artefact)


def test_scoring_imports_no_framework(trained, spans, tmp_path):
    """The graph is read by its own runtime: a night needs no TensorFlow."""
    np.save(tmp_path / "X.npy", spans.test.X)
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom models import artefacts\n"
        "model = artefacts.load(Path(sys.argv[1]))\n"
        "model.run({'window': np.load(sys.argv[2])})\n"
        "print(sorted({'keras', 'tensorflow'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(trained.folder), str(tmp_path / "X.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_baseline_is_a_version_like_any_other(small_recipe, spans, tmp_path):
    recipe = small_recipe.baseline("persistence")
    version = training.fit_baseline(recipe, spans, tmp_path / "v1")
    assert (version.manifest.kind, version.manifest.labels_known_at) == ("baseline", None)
    loaded = artefacts.load(version.folder, version.manifest_sha256)
    forecast = loaded.forecast(spans.test)
    assert forecast[:, 0, 0].tolist() == spans.test.last[:, 0].tolist()
    damaged = version.folder / "baseline.json"
    damaged.write_text("{}")
    with pytest.raises(RegistryError, match="altered"):
        artefacts.load(version.folder)
