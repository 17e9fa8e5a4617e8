"""Keras's callbacks in a fine-tuning."""

import csv

import keras
import pytest
from tensorflow.python.summary.summary_iterator import summary_iterator

import zoo

SHORT = {"top": 1.0, "head_epochs": 2, "epochs": 3, "batch_size": 64, "patience": 9, "augment": "none"}


class Heard(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.events = []

    def on_train_begin(self, logs=None):
        self.events.append(f"{self.params['stage']} begins, {self.params['epochs']} x {self.params['steps']}")

    def on_epoch_begin(self, epoch, logs=None):
        self.events.append(f"epoch {epoch} begins")

    def on_train_batch_end(self, batch, logs=None):
        assert logs["loss"] > 0
        self.events.append(f"batch {batch}")

    def on_epoch_end(self, epoch, logs=None):
        assert set(logs) == {"loss", "accuracy", "val_loss", "val_accuracy"}
        assert isinstance(self.model.optimizer, keras.optimizers.Optimizer)
        self.events.append(f"epoch {epoch} ends")

    def on_train_end(self, logs=None):
        self.events.append("end")


class StopAfter(keras.callbacks.Callback):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch == self.batch


def test_a_callback_hears_every_stage_epoch_and_batch(tiny, arrays):
    heard = Heard()
    zoo.fine_tune(tiny(), arrays, callbacks=heard, **SHORT)
    assert heard.events[0] == "head begins, 2 x 3"
    assert heard.events.count("end") == 2
    assert "top begins, 3 x 3" in heard.events
    ended = [event for event in heard.events if event.endswith("ends")]
    assert ended == [f"epoch {i} ends" for i in range(5)]
    first = heard.events.index("epoch 0 begins")
    assert heard.events[first : first + 5] == [
        "epoch 0 begins",
        "batch 0",
        "batch 1",
        "batch 2",
        "epoch 0 ends",
    ]


def test_stop_training_ends_the_stage(tiny, arrays):
    heard = Heard()
    result = zoo.fine_tune(tiny(), arrays, callbacks=[StopAfter(1), heard], **SHORT)
    assert [entry["epoch"] for entry in result.history] == [0, 1, 0, 1]
    assert "batch 2" not in heard.events


def test_tensorboard_and_csv_by_name_write_into_the_folder(tiny, arrays, tmp_path):
    out = tmp_path / "out"
    result = zoo.fine_tune(tiny(), arrays, out, callbacks=["tensorboard", "csv"], **SHORT)
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    learnt = [entry for entry in result.history if entry["epoch"]]
    assert [int(row["epoch"]) for row in rows] == list(range(5))
    assert [float(row["val_loss"]) for row in rows] == pytest.approx([e["val_loss"] for e in learnt])
    written = {
        (value.tag, event.step)
        for path in (out / "tensorboard" / "validation").iterdir()
        for event in summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {step for tag, step in written if tag == "epoch_loss"} == set(range(5))


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ("tensorbord", r'unknown callback "tensorbord"; did you mean "tensorboard"\?'),
        ("csv", 'the callback "csv" writes into the out folder: give fine_tune one'),
        (3, r"3 is no callback; give a keras\.callbacks\.Callback or one of tensorboard, csv"),
    ],
    ids=["unknown", "no-folder", "no-callback"],
)
def test_what_is_no_callback_is_refused(tiny, arrays, callbacks, message):
    with pytest.raises(zoo.ZooError, match=message):
        zoo.fine_tune(tiny(), arrays, callbacks=callbacks, **SHORT)


def test_a_second_run_into_the_same_folder_meanwhile_is_refused(tiny, arrays, tmp_path):
    out, network, refusals = tmp_path / "digits", tiny(), []

    class CallsAgain(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            with pytest.raises(
                zoo.ZooError, match='digits" is being written by another run: wait for it'
            ) as e:
                zoo.fine_tune(network, arrays, out, **SHORT)
            refusals.append(e)

    zoo.fine_tune(network, arrays, out, callbacks=CallsAgain(), **SHORT)
    assert len(refusals) == 5
    assert (out / "model.keras").exists()
    assert not (out / "checkpoints").exists()
