"""Killed without warning and called again: the same weights as if nothing had happened."""

import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf

import zoo

CALL = """
import json, sys
import zoo
network, data, out = sys.argv[1:4]
zoo.fine_tune(network, data, out, **json.loads(sys.argv[4]))
"""


def test_resume_after_sigkill_in_each_stage(done, folder, network, quick, tmp_path, run_and_die):
    out = tmp_path / "digits"
    # What a sum rounds to is told by the number of threads that share it.
    threads = str(tf.config.threading.get_intra_op_parallelism_threads())
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": threads}

    def call(deadly):
        arguments = [network, folder, out, json.dumps(quick)]
        return run_and_die(CALL, *arguments, deadly=deadly, env=environment).returncode

    head_epochs = sum(entry["stage"] == "head" for entry in done.history) - 1
    # Renamed are the recipe, the maps, and a checkpoint per epoch: dead in the third epoch of the head.
    assert call(5) == -signal.SIGKILL
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
        ".head.npz",
        "head.npz",
        "maps.npy",
    ]
    # The rest of the head, and one epoch of the top.
    assert call(head_epochs - 2 + 2) == -signal.SIGKILL
    assert (out / "checkpoints" / "top.npz").exists()
    result = zoo.fine_tune(network, folder, out, **quick)
    assert result.metrics == done.metrics
    assert result.history == done.history
    for unbroken, resumed in zip(done.model.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(unbroken, resumed)


def test_a_half_done_folder_is_not_gone_on_with_by_another_job(
    folder, arrays, network, quick, tmp_path, run_and_die
):
    out = tmp_path / "digits"
    died = run_and_die(CALL, network, folder, out, json.dumps(quick), deadly=2)
    assert died.returncode == -signal.SIGKILL
    images, labels = arrays
    with pytest.raises(zoo.ZooError, match="other recipe"):
        zoo.fine_tune(network, folder, out, **quick | {"epochs": 5})
    with pytest.raises(zoo.ZooError, match="other data"):
        zoo.fine_tune(network, (images[1:], labels[1:]), out, **quick)


# Trains the smallest of networks on arrays, with a checkpoint after every batch; dies as that does.
SMALL_CALL = """
import sys
import keras
import numpy as np
import zoo
data, network, out = sys.argv[1:4]
arrays = np.load(data)
zoo.fine_tune(
    zoo.load(network), (arrays["images"], arrays["labels"]), out, checkpoint_minutes=0,
    top=1.0, head_epochs=0, epochs=3, batch_size=32, mixup=0.3, ema=0.9, patience=9,
)
"""


def test_resume_after_sigkill_in_the_middle_of_an_epoch(tiny, arrays, tmp_path, run_and_die):
    """With dropout, changed and mixed pictures, and averaged weights: all that a batch draws is repeated."""
    zoo.save(tiny(), tmp_path / "tiny.keras")
    np.savez(tmp_path / "data.npz", images=arrays[0], labels=arrays[1])

    def call(out, deadly):
        names = [tmp_path / name for name in ("data.npz", "tiny.keras", out)]
        done = run_and_die(SMALL_CALL, *names, deadly=deadly)
        assert done.returncode == (-signal.SIGKILL if deadly else 0), done.stderr
        return zoo.load(tmp_path / out) if not deadly else None

    # Renamed are the recipe, and a checkpoint for each of the six batches of an epoch.
    call("killed", 1 + 6 + 4)
    with np.load(tmp_path / "killed" / "checkpoints" / "top.npz") as stored:
        assert json.loads(stored["facts"].item())["steps"] == 3
    resumed, unbroken = call("killed", 0), call("unbroken", 0)
    for one, other in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    histories = [(tmp_path / out / "history.csv").read_text() for out in ("killed", "unbroken")]
    assert histories[0] == histories[1]
