"""The picture of the pipeline shows every stage and every arrow of the graph, and nothing runs into anything."""

import dataclasses
import itertools

import pytest
from matplotlib.patches import FancyArrowPatch

from r1lib.errors import R1Error
from r1lib.paper import PIPELINE
from r1lib.report import pipeline


def test_every_stage_and_arrow_is_drawn() -> None:
    axes = pipeline.draw(PIPELINE).axes[0]
    written = [text.get_text() for text in axes.texts]
    for stage in PIPELINE.values():
        assert written.count(stage.title) == 1
        assert stage.data.replace(" of ", "\nof ") in written or stage.data in written
        assert all(gives in written for gives in stage.uses.values())
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    uses = sum(len(stage.uses) for stage in PIPELINE.values())
    assert len(arrows) == len(PIPELINE) - 1 + uses                      # all stages but the base have an arrow that brings weights


def test_no_two_words_overlap_and_none_leaves_the_page() -> None:
    figure = pipeline.draw(PIPELINE)
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts]
    for words, box in boxes:
        assert page.x0 < box.x0 and box.x1 < page.x1 and page.y0 < box.y0 and box.y1 < page.y1, words
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1), (one, other)


def test_highlighting_makes_the_others_pale() -> None:
    titles = {text.get_text(): text.get_alpha() for text in pipeline.draw(PIPELINE, highlight=("zero",)).axes[0].texts}
    assert titles["R1-Zero"] == 1.0 and titles["R1 Dev2"] < 0.5


def test_a_stage_without_a_place_is_named() -> None:
    with pytest.raises(R1Error, match="'dev9' has no place"):
        pipeline.draw(PIPELINE, highlight=("dev9",))
    with pytest.raises(R1Error, match="'dev9' has no place"):
        pipeline.draw({"dev9": dataclasses.replace(PIPELINE["dev1"], name="dev9")})
