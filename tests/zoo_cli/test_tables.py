"""docs/zoo.md: up to date, complete, and its figures drawn."""

import re
from pathlib import Path

from PIL import Image

import zoo
from zoo_cli import tables

DOCS = Path(__file__).parents[2] / "docs"


def rows():
    lines = [line for line in tables.page().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_is_up_to_date():
    written = (DOCS / "zoo.md").read_text("utf-8")
    assert written == tables.page(), "docs/zoo.md lags behind the catalog: run `make docs`"


def test_every_architecture_has_a_row_and_nothing_is_blank():
    names = [row[1] for row in rows() if len(row) == 9 and row[0].isdigit()]
    assert sorted(names) == sorted(zoo.list_models())
    assert all(all(row) for row in rows())
    assert not re.search(r"\bNone\b|\bnan\b", tables.page())


def test_a_row_says_what_the_catalog_does():
    (row,) = [row for row in rows() if len(row) == 9 and row[1] == "vgg16"]
    assert row[:7] == ["2014", "vgg16", "16", "138.4 M", "15.47 G", "224", "71.6"]
    (row,) = [row for row in rows() if len(row) == 9 and row[1] == "darknet19"]
    assert row[6:] == ["72.9", "no public weights", "no public weights"]
    (row,) = [row for row in rows() if len(row) == 9 and row[1] == "seresnet18"]
    assert row[6:] == ["not stated", "no public weights", "no public weights"]


def test_the_figures_that_the_page_shows_are_there():
    for name in re.findall(r"!\[.*?\]\((.*?)\)", tables.page()):
        with Image.open(DOCS / name) as figure:
            assert figure.format == "PNG"
        assert (DOCS / name).stat().st_size < 300_000


def test_the_figures_are_drawn_the_same_twice(tmp_path):
    twice = [tables.draw_timeline, tables.draw_timeline, tables.draw_cost, tables.draw_cost]
    for i, draw in enumerate(twice):
        draw(tmp_path / f"{i}.png")
    drawn = [(tmp_path / f"{i}.png").read_bytes() for i in range(4)]
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]
