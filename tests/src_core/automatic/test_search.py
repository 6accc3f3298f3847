"""The search: every object is found, what is known is not asked again, windows lie where they say."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from src_core import samples
from src_core.automatic import SearchSettings, automatic_masks, label_image, look, select
from src_core.automatic.points import grid, suggested
from src_core.automatic.search import COARSER, crops, plan
from src_core.automatic.views import Levels, Window, _spans
from src_core.errors import PromptError
from src_core.evaluation.instances import average_precision
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.synthetic import make_stack
from src_core.types import Candidates
from tests.src_core.automatic.stub import LabelPredictor
from tests.src_core.networks import random_nano


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((120, 160), np.int64)
    for k, (y, x) in enumerate([(20, 20), (20, 100), (70, 50), (90, 130), (100, 15)], start=1):
        labels[np.hypot(*np.ogrid[-y : 120 - y, -x : 160 - x]) < 12] = k
    labels[50:52, 120:122] = 6
    return labels


def search(labels: np.ndarray, **settings: Any) -> tuple[LabelPredictor, Any]:
    predictor = LabelPredictor(labels)
    found = look(cast(Predictor, predictor), predictor.embed(None), SearchSettings(**settings))
    return predictor, found


def test_the_full_grid_finds_every_object_that_a_point_hits(labels: np.ndarray) -> None:
    predictor, found = search(labels, adaptive=False)
    assert found.calls == len(predictor.asked) == 32 * 24 + 5, "every point, then a box for each object"
    drawn = label_image(select(found.records), labels.shape)
    assert average_precision(np.where(labels == 6, 0, labels), drawn.astype(np.int64), 0.99) == 1.0


def test_the_adaptive_search_finds_the_same_with_a_quarter_of_the_calls(labels: np.ndarray) -> None:
    predictor, found = search(labels)
    assert found.calls == len(predictor.asked) <= 32 * 24 / 4
    drawn = label_image(select(found.records), labels.shape)
    assert average_precision(np.where(labels == 6, 0, labels), drawn.astype(np.int64), 0.99) == 1.0


def test_no_point_is_asked_in_a_mask_that_a_round_before_has_made_certain(labels: np.ndarray) -> None:
    predictor, _ = search(np.ones_like(labels) + (np.arange(160) > 80))
    # Both halves are known after the first round of suggestions.
    assert 0 < len(predictor.asked) < 60


def test_a_plane_without_contrast_is_not_asked_about() -> None:
    predictor, found = search(np.zeros((50, 60), np.int64))
    assert found.calls == 0 and found.records == [] and predictor.asked == []


def test_a_cancelled_search_keeps_what_it_has(labels: np.ndarray) -> None:
    predictor = LabelPredictor(labels)
    seen: list[tuple[int, int]] = []
    found = look(
        cast(Predictor, predictor),
        predictor.embed(None),
        progress=lambda done, total: seen.append((done, total)),
        cancelled=lambda: True,
    )
    full = search(labels)[1]
    assert 0 < found.calls < full.calls and len(seen) == 1


def test_progress_ends_at_its_total(labels: np.ndarray) -> None:
    predictor, seen = LabelPredictor(labels), []
    look(cast(Predictor, predictor), predictor.embed(None), progress=lambda *n: seen.append(n))
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)


def test_grid_points_lie_evenly_and_away_from_the_rim() -> None:
    points = grid((40, 80), 10)
    assert points.shape == (32, 2)
    assert points[0].tolist() == [4.5, 4.5] and points[-1].tolist() == [34.5, 74.5]
    assert grid((3, 5), 100).tolist() == [[1.0, 2.0]]


def test_suggestions_are_the_middles_of_bright_and_dark_regions(labels: np.ndarray) -> None:
    for picture in (labels > 0, labels == 0):
        image = np.repeat(np.where(picture, 200, 50).astype(np.uint8)[..., None], 3, 2)
        points = suggested(image, 1.0)
        for y, x in [(20, 20), (20, 100), (70, 50), (90, 130), (100, 15)]:
            assert np.hypot(*(points - (y, x)).T).min() < 3
    assert suggested(np.full((20, 20, 3), 7, np.uint8), 1.0).shape == (0, 2)


def test_of_many_slices_only_what_the_network_sees_is_asked_if_it_can_tell(labels: np.ndarray) -> None:
    embedding, spacing = LabelPredictor(labels).embed(None), 5.0
    full, coarse = grid(labels.shape, spacing), grid(labels.shape, COARSER * spacing)
    seen = [np.array([[20.0, 21.0], [70.0, 50.0]])]
    assert [p.tolist() for p in plan(embedding, seen, full, spacing, sparing=True) if len(p)] == [
        seen[0].tolist(),
        coarse.tolist(),
    ]
    everything = plan(embedding, seen, full, spacing)
    assert sum(map(len, everything)) > 2 + len(coarse)
    blind = plan(embedding, [], full, spacing, sparing=True)
    assert [p.tolist() for p in blind] == [p.tolist() for p in everything[1:]]


def test_nano_sees_the_nuclei_of_a_drawn_slice_before_it_is_asked() -> None:
    stack = make_stack(8_000_300, (3, 256, 256), "nuclei", 14.0)
    embedding = Predictor.load("nano", "cpu").embed(stack.image[1])
    points = embedding.seeds(embedding.tiles.native[0])
    assert points is not None
    found = set(stack.labels[1][tuple(np.rint(points).astype(int).T)].tolist()) - {0}
    assert len(found) > 0.5 * len(set(np.unique(stack.labels[1]).tolist()) - {0})


def test_windows_cover_their_tile_and_overlap_by_half() -> None:
    assert _spans(64, 16) == [slice(8 * k, 8 * k + 16) for k in range(7)]
    assert _spans(12, 16) == [slice(0, 12)]
    covered = np.zeros(50, int)
    for s in _spans(50, 16):
        covered[s] += 1
    assert covered.min() >= 1 and (covered[8:-8] >= 2).all()


def test_a_window_that_is_the_whole_tile_answers_as_the_predictor_does() -> None:
    predictor = Predictor(random_nano())
    image = np.random.default_rng(0).integers(0, 255, (100, 90), np.uint8)
    embedding = predictor.embed(image)
    levels = Levels(predictor, embedding)
    points = np.array([(30.0, 40.0), (70.0, 20.0)])
    ((view, members),) = levels.split(1, points)
    assert isinstance(view, Window) and members.tolist() == [0, 1], "200 px of the network fit in 256"
    once = Predictor(predictor.model, whole=True)  # never looks a second time, closer by
    for point, found in zip(points, view.ask(predictor, points), strict=True):
        whole = once.predict(once.embed(image), Prompts([point]))
        masks = [m for m in whole.masks if m.any()]
        assert len(found) == len(masks) > 0
        for f, mask in zip(found, masks, strict=True):
            assert np.count_nonzero(f.mask.unpack() != mask) <= 0.002 * mask.size
            assert not f.cut


class Disks:
    """Stands in for a network: answers a point with a disk of `radius` network pixels around it."""

    def __init__(self, radius: float) -> None:
        self.model, self.radius = random_nano(), radius

    def predict_many(
        self, embedding: Any, prompts: Any, *, multimask: bool, beside: bool
    ) -> list[Candidates]:
        height, width = embedding.shape
        y, x = np.mgrid[: height // 2, : width // 2] * 2 + 0.5
        found = []
        for prompt in prompts:
            py, px = prompt.points_yx[0]
            logits = (self.radius - np.hypot(y - py, x - px)).astype(np.float32)[None]
            window = (0.0, 0.0, float(height), float(width))
            found.append(Candidates(logits > 0, np.ones(1, np.float32), logits, window))
        return found


@pytest.mark.parametrize("side", [100, 200, 360, 700])
def test_answers_of_windows_lie_where_the_points_are(side: int) -> None:
    predictor = Predictor(random_nano())
    embedding = predictor.embed(np.zeros((side, side), np.uint8), lazily=True)
    stub, zoom = Disks(18), embedding.tiles[embedding.tiles.native[-1]].zoom_yx[0]
    points = np.random.default_rng(side).uniform(15, side - 15, (20, 2))
    seen = 0
    for view, members in Levels(predictor, embedding).split(0, points):
        for i, (found,) in zip(members, view.ask(stub, points[members]), strict=True):  # type: ignore[arg-type]
            y, x = np.nonzero(found.mask.unpack())
            assert not found.cut
            assert np.allclose((y.mean(), x.mean()), points[i], atol=0.5)
            assert found.area == pytest.approx(np.pi * (18 / zoom) ** 2, rel=0.06)
            seen += 1
    assert seen == 20


def test_a_mask_that_a_window_cuts_is_asked_about_in_the_next() -> None:
    predictor = Predictor(random_nano())
    embedding = predictor.embed(np.zeros((512, 512), np.uint8), lazily=True)
    levels = Levels(predictor, embedding)
    point = np.array([[250.0, 260.0]])
    cut = []
    for level in (0, 1):
        ((view, _),) = levels.split(level, point)
        ((found,),) = view.ask(Disks(80), point)  # type: ignore[arg-type]
        cut.append(found.cut)
    assert cut == [True, False] and len(levels) == 3


def test_crops_of_a_layer_cover_the_plane_and_overlap() -> None:
    for layer in (1, 2):
        covered = np.zeros((300, 400), int)
        for y0, x0, y1, x1 in crops((300, 400), layer):
            covered[y0:y1, x0:x1] += 1
        assert covered.min() == 1 and len(crops((300, 400), layer)) == 4**layer
        assert (covered > 1).mean() > 0.2


def test_layers_add_what_their_crops_show() -> None:
    volume = samples.open_sample("plant_nuclei")
    predictor = Predictor.load("nano", "cpu")
    embedding = predictor.embed(volume.plane(z=24))
    plain = look(predictor, embedding, SearchSettings(points_per_side=8))
    layered = look(predictor, embedding, SearchSettings(points_per_side=8, layers=1))
    assert len(layered.records) > len(plain.records) and layered.calls > plain.calls
    assert all(r.mask.shape == embedding.shape for r in layered.records)
    height, width = embedding.shape
    assert all(
        0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width
        for y0, x0, y1, x1 in (r.box for r in layered.records)
    )


def test_nano_finds_the_nuclei_of_a_drawn_slice() -> None:
    stack = make_stack(8_000_310, (3, 96, 96), "nuclei", 10.0)
    truth = stack.labels[1].astype(np.int64)
    found = automatic_masks(Predictor.load("nano", "cpu"), stack.image[1])
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)
    assert average_precision(truth, label_image(found, truth.shape).astype(np.int64)) > 0.5


@pytest.mark.parametrize("settings", [{"points_per_side": 0}, {"layers": 9}, {"points_per_side": 2.5}])
def test_impossible_searches_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match="whole number"):
        SearchSettings(**settings)
