import re
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

import zoo
from zoo.training.report import confusion, curves, shown


def test_the_page_is_whole_and_needs_no_network(done, tmp_path):
    path = done.report(tmp_path / "report")
    assert path == tmp_path / "report" / "report.html"
    html = path.read_text("utf-8")
    assert "efficientnet_lite0.ml_illustrated_in1k" in html
    assert f"{100 * done.metrics['accuracy']:.1f} %" in html
    assert done.metrics["held_out"] in html
    assert html.count("<svg") == 3
    for heading in (
        "Learning",
        "Confusion matrix",
        "Calibration",
        "Classes",
        "Worst mistakes",
        "Near duplicates",
        "Network",
        "Pictures",
        "Recipe",
    ):
        assert f">{heading}</h2>" in html
    assert "label smoothing" in html
    outside = [
        address
        for address in re.findall(r'(?:src|href)="([^"]+)"', html)
        if not address.startswith(("data:", "#"))
    ]
    assert outside == []
    assert not re.search(r"url\((?!#)|<script|@import", html)


def test_mistakes_are_shown_with_their_pictures_and_names_are_escaped(done, tmp_path):
    pixel = "data:image/png;base64,iVBORw0KGgo="
    mistake = {
        "index": 3,
        "name": "1/<b>.png",
        "label": "1",
        "predicted": "7",
        "probability": 0.91,
        "probability_of_label": 0.05,
        "thumbnail": pixel,
    }
    html = replace(done, mistakes=[mistake]).report(tmp_path).read_text("utf-8")
    assert f'<img src="{pixel}"' in html
    assert '<div class="cell" id="cell-1-3">' in html
    assert "1/&lt;b&gt;.png" in html
    assert "91 %" in html
    assert "where it saw" not in html
    none = replace(done, mistakes=[]).report(tmp_path).read_text("utf-8")
    assert "None: every test picture was right." in none


def test_figures_hold_what_they_show():
    history = [
        {"stage": "head", "epoch": i, "val_loss": 1 / (i + 1), "val_accuracy": i / 3} for i in range(3)
    ]
    svg = curves(history)
    assert svg.startswith("<svg")
    assert "validation" in svg
    table = confusion([[41, 2], [3, 57]], ["cat", "dog"])
    for text in ("41", "57", "cat", "dog", "predicted"):
        assert f">{text}</text>" in table
    assert set(re.findall(r'xlink:href="(#cell[^"]*)"', table)) == {"#cell-0-1", "#cell-1-0"}
    assert confusion([[41, 2], [3, 57]], ["cat", "dog"]) == table


def test_labels_in_letters_that_the_plots_font_lacks_are_text_for_the_browser(recwarn):
    assert ">東京</text>" in confusion([[1, 0], [0, 1]], ["東京", "ไทย"])
    assert not recwarn.list


def test_of_many_classes_those_that_are_confused_are_shown():
    counts = 9 * np.eye(61, dtype=int)
    counts[50, 7], counts[7, 60], counts[3, 4] = 5, 2, 1
    assert shown(counts[:60, :60].tolist()) == list(range(60))
    chosen = shown(counts.tolist())
    assert len(chosen) == 30
    assert {3, 4, 7, 50, 60} <= set(chosen)
    counts[8:38, 8:38] += 3
    assert {7, 50} <= set(shown(counts.tolist()))
    assert not {3, 4, 60} & set(shown(counts.tolist()))
    table = confusion(counts.tolist(), [f"class {i}" for i in range(61)])
    assert "#cell-50-7" in table
    assert ">class 50</text>" in table
    assert ">class 60</text>" not in table


def test_the_table_of_many_classes_is_folded(done, tmp_path):
    html = done.report(tmp_path).read_text("utf-8")
    assert "<details>" not in html
    assert "most frequent mistakes" not in html
    many = [f"class {i}" for i in range(70)]
    figures = next(iter(done.metrics["classes"].values()))
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(70)])
    metrics = done.metrics | {"classes": dict.fromkeys(many, figures), "confusion": np.eye(70).tolist()}
    facts = zoo.Facts("own", tuple(many), zoo.Preprocessing((8, 8)))
    data = done.data | {"per_class": dict.fromkeys(many, 1)}
    changed = replace(done, model=zoo.attach(model, facts), metrics=metrics, data=data, mistakes=[])
    html = changed.report(tmp_path / "many").read_text("utf-8")
    assert "<details><summary>All 70</summary>" in html
    assert html.count("</details>") == 1
    assert "Of 70 classes the 30 of the most frequent mistakes" in html


def test_near_duplicates_are_shown_in_pairs(done, tmp_path):
    pixel = "data:image/png;base64,iVBORw0KGgo="
    pair = {
        "names": ["1/a.png", "7/b.png"],
        "labels": ["1", "7"],
        "sides": ["test", "training"],
        "likeness": 0.9912,
        "indices": [0, 1],
        "thumbnails": [pixel, pixel],
    }
    html = replace(done, near_duplicates=[pair]).report(tmp_path).read_text("utf-8")
    assert "test and training, likeness 0.991, of two classes" in html
    assert html.count(f'<img src="{pixel}" alt=') == 2
    assert "1/a.png (1), 7/b.png (7)" in html


def test_without_the_extra_the_error_says_what_to_install(done, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(zoo.ZooError, match=r"pip install 'cnn-zoo\[train\]'"):
        done.report(tmp_path)
