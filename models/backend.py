"""The one module that knows the Keras backend: TensorFlow, JAX or PyTorch.

`KERAS_BACKEND` chooses it; TensorFlow is the default. Nothing is imported until a
function that needs the backend is called (TensorFlow's import takes 5-17 s).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version

DEFAULT_BACKEND = "tensorflow"

QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
    "ABSL_MIN_LOG_LEVEL": "3",
}

# Steps of the optimizer that run in one compiled call: 0.45 s an epoch of 92 steps
# instead of 0.75 s (2 cores, LSTM(20), 63-session windows, batch 20).
STEPS_PER_CALL = 32


def prepare(seed: int, threads: int | None = None) -> None:
    """Seed every generator and make the backend repeat itself bit by bit.

    On a CPU the fit is compiled by XLA, which repeats itself without TensorFlow's op
    determinism (a test holds this); Keras would switch XLA off beside it, and an epoch
    would take three times as long. On a GPU op determinism is switched on.

    Parameters
    ----------
    seed : int
        Seed of Python's, NumPy's and the backend's generators.
    threads : int, optional
        Threads that one operation may use; the backend's own choice if left out.
    """
    configure(threads)
    import keras

    keras.utils.set_random_seed(seed)
    if name() == "tensorflow" and _tensorflow_gpus():
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def configure(threads: int | None = None) -> None:
    """Choose the backend, silence its start, and let GPU memory grow as it is needed."""
    os.environ.setdefault("KERAS_BACKEND", DEFAULT_BACKEND)
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    if name() == "jax":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if name() == "tensorflow":
        _configure_tensorflow(threads)
    if name() == "torch" and threads:
        import_module("torch").set_num_threads(threads)


def name() -> str:
    """Name of the Keras backend: `tensorflow`, `jax` or `torch`; imports nothing."""
    return os.environ.get("KERAS_BACKEND") or DEFAULT_BACKEND


def described() -> str:
    """Backend and its version, for example `tensorflow 2.21.0`; imports nothing."""
    return f"{name()} {version(name())}"


def versions() -> dict[str, str]:
    """Versions of the frameworks that a training depends on; imports nothing."""
    return {package: version(package) for package in ("keras", name(), "numpy")}


def environment(device: str | None) -> dict[str, str]:
    """Environment variables that give a process its device.

    Parameters
    ----------
    device : str, optional
        `cpu`, or the number of a CUDA device (`0`); whatever there is if left out.
    """
    variables = dict(QUIET)
    if device is not None:
        variables["CUDA_VISIBLE_DEVICES"] = "-1" if device == "cpu" else device
    return variables


def recurrent_options() -> dict[str, object]:
    """Arguments for recurrent layers that suit the device.

    Keras takes a layer that may use the fused GPU kernel for one that XLA cannot
    compile, so without a GPU the kernel is declined.
    """
    if name() == "tensorflow" and not _tensorflow_gpus():
        return {"use_cudnn": False}
    return {}


def fit_options() -> dict[str, object]:
    """Arguments for `compile` that make small batches fast on this backend and device."""
    if name() == "torch":
        return {"jit_compile": False}
    if name() == "tensorflow" and _tensorflow_gpus():
        return {"jit_compile": False, "steps_per_execution": STEPS_PER_CALL}
    return {"jit_compile": True, "steps_per_execution": STEPS_PER_CALL}


def _tensorflow_gpus() -> list[object]:
    import tensorflow as tf

    gpus: list[object] = tf.config.list_physical_devices("GPU")
    return gpus


@contextmanager
def _muted() -> Iterator[None]:
    """Keep what C++ writes to standard error off a terminal; said after all if it ends badly.

    TensorFlow looks for CUDA, and says so, before its logging can be told to be silent.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _configure_tensorflow(threads: int | None) -> None:
    with _muted():
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")
    tf.get_logger().setLevel("ERROR")
    try:
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in _tensorflow_gpus():
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        # TensorFlow has started already in this process and keeps what it has.
        return
