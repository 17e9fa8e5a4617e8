"""Killed without warning and called again: the same weights as if nothing had happened."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

import zoo

# Dies just before its n-th file would be renamed into place, and leaves the partial file.
CALL = """
import json, os, signal, sys
import zoo
network, data, out = sys.argv[1:4]
quick, deadly = json.loads(sys.argv[4]), int(sys.argv[5])
replace, count = os.replace, 0
def replace_or_die(source, target):
    global count
    count += 1
    if count == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = replace_or_die
zoo.fine_tune(network, data, out, **quick)
"""


def test_resume_after_sigkill_in_each_stage(done, folder, network, quick, tmp_path):
    out = tmp_path / "digits"

    def call(deadly):
        arguments = [
            sys.executable,
            "-c",
            CALL,
            network,
            str(folder),
            str(out),
            json.dumps(quick),
            str(deadly),
        ]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False).returncode

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


def test_a_half_done_folder_is_not_gone_on_with_by_another_job(folder, arrays, network, quick, tmp_path):
    out = tmp_path / "digits"
    arguments = [sys.executable, "-c", CALL, network, str(folder), str(out), json.dumps(quick), "2"]
    assert (
        subprocess.run(arguments, capture_output=True, timeout=300, check=False).returncode == -signal.SIGKILL
    )
    images, labels = arrays
    with pytest.raises(zoo.ZooError, match="other recipe"):
        zoo.fine_tune(network, folder, out, **quick | {"epochs": 5})
    with pytest.raises(zoo.ZooError, match="other data"):
        zoo.fine_tune(network, (images[1:], labels[1:]), out, **quick)
