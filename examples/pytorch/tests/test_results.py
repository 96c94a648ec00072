"""The picture, the table and the JSON of a run."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as xml

import numpy as np
from test_judge import case

from federation.picture import LINES, TOP, across, draw, up
from federation.results import Results, as_json, heading, owner, table

SVG = "{http://www.w3.org/2000/svg}"


def results() -> Results:
    receipts, views, death = case()
    return Results(7, 0.5, np.arange(40).reshape(4, 10), 2, [0.1, 0.5, 0.9, 0.95, 0.985], views, receipts, death, [])


def classes(picture: str, tag: str) -> "list[str]":
    return [e.get("class", "") for e in xml.fromstring(picture).iter(SVG + tag)]


def test_the_picture_shows_all() -> None:
    r = results()
    picture = draw(r)
    assert classes(picture, "rect").count("cell") == r.split.size and classes(picture, "circle").count("dot") == len(r.accuracies)
    assert classes(picture, "path").count("event") == 2 and "away" in classes(picture, "rect")
    said = [e.text for e in xml.fromstring(picture).iter() if e.text]
    for text in ("peer b killed", "back again", "c2.2: 39 times the digit 9", "round 4: 0.9850"):
        assert text in said
    assert "3 peers, 2 combiners, 4 clients, Dirichlet 0.5, seed 7" in said
    peaceful = draw(dataclasses.replace(r, death=None))
    assert "event" not in classes(peaceful, "path") and "killed" not in peaceful


def test_the_picture_of_next_to_nothing() -> None:
    xml.fromstring(draw(dataclasses.replace(results(), accuracies=[1.0])))


def test_axes() -> None:
    assert across(0, 12) < across(5.5, 12) < across(12, 12)
    heights = [up(a) for a in LINES]
    assert heights == sorted(heights, reverse=True) and up(1.0) == up(2.0) == heights[-1] == TOP and up(-1.0) == heights[0]


def test_owner() -> None:
    assert [owner(n, 4, 2) for n in range(4)] == ["c1.1", "c1.2", "c2.1", "c2.2"]


def test_the_table() -> None:
    r = results()
    lines = table(r)
    assert [line.split()[:3] for line in lines[1:5]] == [[str(n), "2", "20"] for n in (1, 2, 3, 4)]
    assert lines[2].endswith("b killed after 1 updates") and lines[4].endswith("b is back") and lines[1].endswith("m1")
    assert "8 updates acknowledged, 8 of them counted exactly once by every peer" in lines and lines[-1] == "all is well"
    assert any(line.startswith("c2.2") and line.endswith("345") for line in heading(r))
    spoilt = table(dataclasses.replace(r, wrong=["x"]))
    assert "WRONG: x" in spoilt and "all is well" not in spoilt


def test_the_json() -> None:
    told = json.loads(as_json(results()))
    assert told["wrong"] == [] and told["counted_once"] == told["acknowledged"] == 8 and told["death"]["returned"] == 4
    assert [one["accuracy"] for one in told["rounds"]] == [0.5, 0.9, 0.95, 0.985] and told["rounds"][0]["models"] == {"a": "m1", "b": "m1", "c": "m1"}
