import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from db.errors import RegistryError
from models import artefacts


def test_round_trip_gives_the_forecasts_of_training(trained, windows):
    model = artefacts.load(trained.folder, trained.manifest_sha256)
    forecast = model.predict(windows.X[-31:-1])
    errors = forecast - windows.y[-31:-1].astype(float)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(trained.manifest.metrics["rmse"], rel=1e-12)
    assert (forecast.shape, forecast.dtype) == ((30,), np.float64)


def test_a_forecast_does_not_depend_on_its_neighbours(trained, windows):
    model = artefacts.load(trained.folder)
    together = model.predict(windows.X)
    alone = [model.predict(windows.X[row : row + 1])[0] for row in range(0, len(windows), 50)]
    assert alone == together[::50].tolist()
    many = np.tile(windows.X, (6, 1, 1))
    assert len(many) > artefacts.CHUNK
    np.testing.assert_array_equal(model.predict(many), np.tile(together, 6))


def test_windows_of_another_shape_are_refused(trained, windows):
    model = artefacts.load(trained.folder)
    assert model.predict(windows.X[:0]).shape == (0,)
    with pytest.raises(RegistryError, match=r"\(n, 12, 1\)"):
        model.predict(windows.X[:, 1:])


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
        artefacts.load(artefact)
