"""The predictor: batches, candidates, dense prompts, tiles, any image, and no memory between calls."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_core import zoo
from src_core.asking import BATCH
from src_core.embedding import Embedding
from src_core.errors import PromptError, VolumeError
from src_core.model.prompt_encoder import PromptEncoder
from src_core.model.sam import Decoded, Features, Sam
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.questions import TIGHTER
from src_core.types import Candidates
from src_core.volumes import open_volume
from tests.src_core.networks import random_nano


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(random_nano(), "random")


def _image(shape: tuple[int, ...] = (96, 128), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


@pytest.fixture(scope="module")
def embedding(predictor: Predictor) -> Embedding:
    return predictor.embed(_image())


def _prompts() -> list[Prompts]:
    """Every kind there is, mixed."""
    mask = np.zeros((96, 128), bool)
    mask[20:50, 30:80] = True
    return [
        Prompts([(10, 20)]),
        Prompts([(50, 60), (5, 5)], [1, 0]),
        Prompts(box_yxyx=(10, 10, 40, 60)),
        Prompts([(80, 100)]),
        Prompts([(30, 40)], mask=mask),
        Prompts(mask=mask),
        Prompts([(20, 20)], box_yxyx=(10, 10, 40, 60)),
        Prompts(mask=~mask),
        Prompts([(12, 90), (60, 6)], [0, 1]),
    ]


def _assert_same(a: Candidates, b: Candidates) -> None:
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
    np.testing.assert_allclose(a.logits, b.logits, atol=1e-3)
    assert np.count_nonzero(a.masks != b.masks) <= 0.002 * a.masks.size
    assert a.window == b.window
    assert a.presence == pytest.approx(b.presence, abs=1e-4)


def test_a_batch_answers_as_one_by_one_and_in_order(predictor: Predictor, embedding: Embedding) -> None:
    prompts = _prompts()
    together = predictor.predict_many(embedding, prompts)
    assert len(together) == len(prompts)
    for prompt, found in zip(prompts, together, strict=True):
        _assert_same(found, predictor.predict(embedding, prompt))
    # else agreement would say nothing
    assert not np.array_equal(together[0].masks, together[3].masks)
    assert not np.array_equal(together[5].masks, together[7].masks)


def test_more_objects_than_one_batch_holds(predictor: Predictor) -> None:
    embedding = predictor.embed(_image((24, 32)))
    prompts = [Prompts([(y, x)]) for y in range(0, 24, 3) for x in range(0, 32, 7)]
    assert len(prompts) > BATCH
    found = predictor.predict_many(embedding, prompts, multimask=False)
    _assert_same(found[-1], predictor.predict(embedding, prompts[-1], multimask=False))
    assert predictor.predict_many(embedding, []) == []


def test_candidates_come_best_first(predictor: Predictor, embedding: Embedding) -> None:
    for found in predictor.predict_many(embedding, _prompts(), multimask=True):
        assert len(found) == 3
        assert found.masks.shape == (3, 96, 128)
        assert found.masks.dtype == np.bool_
        assert found.scores.dtype == found.logits.dtype == np.float32
        assert (np.diff(found.scores) <= 0).all()
        assert 0 <= found.presence <= 1
        # masks, scores and logits belong together
        for mask, logits in zip(found.masks, found.logits, strict=True):
            assert np.array_equal(predictor.mask_of(logits, found.window, embedding.shape), mask)


def test_only_a_single_click_is_ambiguous(predictor: Predictor, embedding: Embedding) -> None:
    found = predictor.predict_many(embedding, _prompts())
    assert [len(c) for c in found] == [3, 1, 1, 3, 1, 1, 1, 1, 1]
    assert len(predictor.predict(embedding, Prompts([(1, 1)]), multimask=False)) == 1
    assert len(predictor.predict(embedding, Prompts(box_yxyx=(1, 1, 9, 9)), multimask=True)) == 3


def test_logits_go_back_in_with_or_without_their_window(predictor: Predictor, embedding: Embedding) -> None:
    first = predictor.predict(
        embedding, Prompts(box_yxyx=(5, 5, 90, 120))
    )  # so large that it is not enlarged
    with_window = Prompts([(40, 60)], mask=first.logits[0], mask_window=first.window)
    without = Prompts([(40, 60)], mask=first.logits[0])
    a, b = predictor.predict_many(embedding, [with_window, without])
    np.testing.assert_allclose(a.logits, b.logits, atol=1e-4)  # sums differ by alignment of memory
    nothing = predictor.predict(embedding, Prompts([(40, 60)]), multimask=False)
    assert not np.allclose(a.logits, nothing.logits, atol=1e-2)


def test_logits_of_another_shape_need_their_window(predictor: Predictor, embedding: Embedding) -> None:
    with pytest.raises(PromptError, match="mask_window"):
        predictor.predict(embedding, Prompts(mask=np.full((7, 9), -1.0, np.float32)))
    predictor.predict(embedding, Prompts(mask=np.zeros((7, 9), np.float32), mask_window=(0, 0, 96, 128)))


def test_prompts_beside_the_plane_are_refused_before_anything_is_computed(predictor: Predictor) -> None:
    lazy = predictor.embed(_image(), lazily=True)
    for prompts in (
        Prompts([(96, 0)]),
        Prompts(box_yxyx=(0, 200, 9, 300)),
        Prompts(mask=np.ones((128, 96), bool)),
    ):
        with pytest.raises(PromptError):
            predictor.predict_many(lazy, [Prompts([(0, 0)]), prompts])
    assert not lazy._features


def test_the_embedding_of_another_network_is_refused(predictor: Predictor, embedding: Embedding) -> None:
    other = Predictor(random_nano(seed=3), "another")
    with pytest.raises(PromptError, match=r"another network.*embed the plane"):
        other.predict(embedding, Prompts([(1, 1)]))
    assert embedding.model is predictor.model
    bare = Embedding(embedding.picture, embedding.tiles)
    with pytest.raises(PromptError, match="no network"):
        predictor.predict(bare, Prompts([(1, 1)]))


def test_the_picture_is_what_the_network_sees(predictor: Predictor, embedding: Embedding) -> None:
    assert embedding.picture.shape == (96, 128, 3)
    assert embedding.picture.dtype == np.uint8
    assert np.array_equal(embedding.picture, open_volume(_image()).plane().rgb8())


def test_a_float_mask_is_the_bool_mask_it_stands_for(predictor: Predictor) -> None:
    image = _image((256, 256))  # the low-resolution logits have the same shape
    embedding = predictor.embed(image)
    mask = np.zeros(image.shape, bool)
    mask[40:90, 60:150] = True
    a, b = predictor.predict_many(embedding, [Prompts(mask=mask), Prompts(mask=mask.astype(np.float32))])
    np.testing.assert_allclose(a.logits, b.logits, atol=1e-4)  # sums differ by alignment of memory


def test_loading_hands_progress_and_cancel_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(zoo, "load", lambda *given: seen.extend(given) or random_nano())
    progress, cancelled = (lambda done, total: None), (lambda: False)
    assert Predictor.load("vit_t", "cpu", progress=progress, cancelled=cancelled).name == "vit_t"
    assert seen == ["vit_t", "cpu", progress, cancelled]


def test_a_window_of_another_plane_is_refused(predictor: Predictor) -> None:
    with pytest.raises(PromptError, match="window"):
        predictor.mask_of(np.zeros((8, 8), np.float32), (0, 0, 3, 3), (96, 128))


def test_lazy_and_eager_embeddings_answer_alike(predictor: Predictor, embedding: Embedding) -> None:
    lazy = predictor.embed(_image(), lazily=True)
    prompt = Prompts([(40, 60)])
    np.testing.assert_array_equal(
        predictor.predict(lazy, prompt).logits, predictor.predict(embedding, prompt).logits
    )


def test_nothing_is_remembered_between_calls(predictor: Predictor, embedding: Embedding) -> None:
    other = predictor.embed(_image(seed=1))
    prompts = _prompts()[:5]
    before = [predictor.predict(embedding, p) for p in prompts]
    for prompt in reversed(prompts):
        predictor.predict(other, prompt)
    after = [predictor.predict(embedding, p) for p in reversed(prompts)][::-1]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-4)  # sums differ by alignment of memory
        np.testing.assert_array_equal(a.masks, b.masks)


def test_two_threads_get_what_one_gets(predictor: Predictor) -> None:
    prompts = _prompts()
    expected = [predictor.predict(predictor.embed(_image()), p) for p in prompts]
    shared = predictor.embed(_image(), lazily=True)
    answers: dict[int, list[Candidates]] = {}

    def work(name: int, order: list[Prompts]) -> None:
        answers[name] = [predictor.predict(shared, p) for p in order]

    threads = [threading.Thread(target=work, args=(k, prompts[:: 1 - 2 * k])) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b, c in zip(expected, answers[0], answers[1][::-1], strict=True):
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-4)  # sums differ by alignment of memory
        np.testing.assert_array_equal(a.logits, c.logits)


IMAGES: dict[str, NDArray[Any]] = {
    "bool": _image((40, 50)) > 128,
    "uint8 colour": _image((40, 50, 3)),
    "float colour": _image((40, 50, 3)) / np.float32(255),
    "uint16 colour": _image((40, 50, 3)).astype(np.uint16) * 257,
    "uint16": _image((40, 50)).astype(np.uint16) * 200,
    "int32": _image((40, 50)).astype(np.int32) - 99,
    "float64": _image((40, 50)) * 1e-9,
    "big-endian": _image((40, 50)).astype(">f4"),
    "all NaN": np.full((40, 50), np.nan),
    "some NaN and inf": np.where(_image((40, 50)) > 250, np.nan, np.where(_image((40, 50)) < 3, np.inf, 1.0)),
    "constant": np.full((40, 50), 7, np.uint16),
    "one pixel": np.zeros((1, 1), np.uint8),
    "one row": _image((1, 1500)),
    "one column": _image((1500, 1)),
    "flat": _image((3, 700)),
    "read-only view": np.broadcast_to(np.uint8(3), (40, 50)),
    "transposed": _image((50, 40)).T,
}


@pytest.mark.parametrize("kind", IMAGES)
def test_any_plane_can_be_asked_about(predictor: Predictor, kind: str) -> None:
    image = IMAGES[kind]
    embedding = predictor.embed(image)
    assert embedding.shape == image.shape[:2]
    found = predictor.predict(embedding, Prompts([(0, image.shape[1] - 1)]))
    assert found.masks.shape == (3, *image.shape[:2])
    assert np.isfinite(found.logits).all()
    mask = np.ones(image.shape[:2], bool)
    assert predictor.predict(embedding, Prompts(mask=mask)).masks.shape == (1, *image.shape[:2])


def test_colour_is_seen_as_colour_whatever_its_dtype(predictor: Predictor) -> None:
    image = np.zeros((40, 50, 3), np.uint8)
    image[:20, :, 0], image[20:, :, 2] = 255, 255
    answers = [
        predictor.predict(predictor.embed(i), Prompts([(4, 4)])).logits for i in (image, image / 255.0)
    ]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-2)


@pytest.mark.parametrize("shape", [(5,), (0, 5), (4, 40, 50), (2, 3, 40, 50), (40, 50, 2)])
def test_what_is_no_plane_is_refused(predictor: Predictor, shape: tuple[int, ...]) -> None:
    with pytest.raises(VolumeError):
        predictor.embed(np.zeros(shape))


def test_what_is_no_array_is_refused(predictor: Predictor) -> None:
    for thing in ([[1, 2], [3, 4]], 7, None):
        with pytest.raises(VolumeError, match=f"type {type(thing).__name__}"):
            predictor.embed(thing)  # type: ignore[arg-type]


def test_planes_of_a_volume_in_every_direction(predictor: Predictor) -> None:
    volume = open_volume(_image((6, 20, 30)))
    for axis, shape in (("z", (20, 30)), ("y", (6, 30)), ("x", (6, 20))):
        assert predictor.embed(volume.plane(**{axis: 2})).shape == shape


class _Threshold(Sam):
    """Answers with whatever is bright in the tile and connected to nothing: no weights, only geometry."""

    native_tiles = True

    def __init__(self) -> None:
        super().__init__(
            torch.nn.Identity(), PromptEncoder(8, (64, 64), (512, 512), mask_in_chans=4), torch.nn.Identity()
        )  # type: ignore[arg-type]
        self.calls: list[tuple[int, tuple[int, ...]]] = []

    def encode(self, image: Tensor) -> Features:
        return (image[:, :1, ::2, ::2],)

    def decode(
        self,
        features: Features,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask_output: bool = True,
    ) -> Decoded:
        asked = next(p for p in (None if points is None else points[0], boxes, masks) if p is not None)
        count, number = len(asked), 3 if multimask_output else 1
        self.calls.append((count, tuple(features[0].shape[-2:])))
        logits = features[0].expand(count, number, -1, -1).clone()
        return Decoded(logits, torch.linspace(0.2, 0.9, number).expand(count, -1), None)


def _bright(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    image = np.zeros(shape, np.uint8)
    for y0, x0, y1, x1 in boxes:
        image[y0:y1, x0:x1] = 255
    return image


@pytest.mark.usefixtures("one_look")
def test_a_small_object_is_answered_at_native_resolution_from_the_tile_that_shows_it() -> None:
    model = _Threshold()
    image = _bright((600, 1000), (300, 700, 340, 760))
    found = Predictor(model).predict(Predictor(model).embed(image), Prompts([(310, 720)]))
    assert [call[1] for call in model.calls] == [(160, 256), (256, 256)], "the overview tells how small it is"
    assert np.array_equal(found.masks[0], image > 0)
    y0, x0, y1, x1 = found.window
    assert (y1 - y0, x1 - x0) == (512, 512)
    assert found.presence == 1.0


def test_an_object_larger_than_tiles_is_answered_from_the_overview() -> None:
    model = _Threshold()
    image = _bright((512, 1000), (100, 100, 140, 900))
    predictor = Predictor(model)
    found = predictor.predict(predictor.embed(image), Prompts([(120, 500)]))
    assert [call[1] for call in model.calls] == [(128, 256), (256, 256)], "a tile cuts it"
    assert found.window == (0, 0, 512, 1000), "stretched a little, not padded"
    agree = np.count_nonzero(found.masks[0] & (image > 0)) / np.count_nonzero(found.masks[0] | (image > 0))
    assert agree > 0.9


@pytest.mark.usefixtures("one_look")
def test_an_object_at_the_border_of_the_plane_is_whole_in_its_tile() -> None:
    model = _Threshold()
    image = _bright((600, 1000), (0, 0, 40, 60))
    found = Predictor(model).predict(Predictor(model).embed(image), Prompts([(10, 10)]))
    assert len(model.calls) == 2
    assert np.array_equal(found.masks[0], image > 0)


@pytest.mark.usefixtures("one_look")
def test_objects_of_one_tile_share_a_batch_and_each_tile_is_encoded_once() -> None:
    model = _Threshold()
    image = _bright((600, 1000), (50, 50, 60, 60))
    predictor = Predictor(model)
    embedding = predictor.embed(image, lazily=True)
    points = [(40.0, 40.0 + k) for k in range(5)] + [(560.0, 900.0 + k) for k in range(4)]
    predictor.predict_many(embedding, [Prompts([p]) for p in points])
    assert [call[0] for call in model.calls] == [9, 5, 4], (
        "from (560, 900), what is bright is too far for a tile: that one looks once at what is there"
    )
    assert len(embedding._features) == 3


def test_logits_of_the_overview_guide_a_tile_and_the_other_way_round() -> None:
    model = _Threshold()
    image = _bright((512, 1000), (100, 110, 140, 200))
    predictor = Predictor(model)
    embedding = predictor.embed(image)
    small = predictor.predict(embedding, Prompts(box_yxyx=(100, 130, 140, 200)))
    large = predictor.predict(embedding, Prompts(box_yxyx=(0, 0, 512, 1000)))
    assert small.window != large.window
    seen = []
    decode = model.decode

    def watch(features: Features, *args: Any, masks: Tensor | None = None, **kwargs: Any) -> Decoded:
        assert masks is not None
        seen.append(masks[0, 0].numpy())
        return decode(features, *args, masks=masks, **kwargs)

    model.decode = watch  # type: ignore[method-assign, assignment]
    predictor.predict(embedding, Prompts(mask=large.logits[0], mask_window=large.window))
    assert seen[0].shape == (256, 256)
    on_plane = np.kron(seen[0] > 0, np.ones((2, 2), bool))
    truth = image[:, :512] > 0
    assert np.count_nonzero(on_plane & truth) / np.count_nonzero(on_plane | truth) > 0.8
    with pytest.raises(PromptError, match="mask_window"):
        predictor.predict(embedding, Prompts(mask=large.logits[0]))


class _Reference(_Threshold):
    """The same in the frame of a reference network: always square, zeros beside the tile."""

    native_tiles = False

    def normalise(self, image: Tensor) -> Tensor:
        return image - 127

    def encode(self, image: Tensor) -> Features:
        return (image[:, :1, ::4, ::4] - (image[:, :1, ::4, ::4] == 0) * 127.0,)


def _iou(mask: NDArray[np.bool_], image: NDArray[np.uint8]) -> float:
    return float(np.count_nonzero(mask & (image > 0)) / np.count_nonzero(mask | (image > 0)))


def _seen(predictor: Predictor, image: NDArray[np.uint8], prompt: Prompts) -> tuple[Candidates, list[float]]:
    """The answer, and how much every tile was enlarged that had to be encoded for it."""
    embedding = predictor.embed(image)
    found = predictor.predict(embedding, prompt)
    mask = predictor.mask_of(found.logits[0], found.window, embedding.shape)
    np.testing.assert_array_equal(mask, found.masks[0])
    return found, [embedding.tiles.zoom(i) for i in embedding._features]


@pytest.mark.usefixtures("one_look")
@pytest.mark.parametrize("model", [_Threshold, _Reference])
def test_every_network_sees_large_planes_at_native_resolution(model: type[_Threshold]) -> None:
    image = _bright((1100, 1500), (300, 700, 380, 785))
    found, zooms = _seen(Predictor(model()), image, Prompts([(310, 720)]))
    assert zooms == pytest.approx([512 / 1500, 1])
    assert found.window[3] - found.window[1] == 512
    assert _iou(found.masks[0], image) > 0.93


@pytest.mark.parametrize(("model", "zoom"), [(_Threshold, 0.5), (_Reference, 1)])
def test_only_a_network_that_likes_small_objects_sees_large_ones_coarser(
    model: type[_Threshold], zoom: float
) -> None:
    image = _bright((1100, 1500), (300, 600, 480, 790))
    for prompt in (Prompts([(310, 720)]), Prompts(box_yxyx=(300, 600, 480, 790))):
        found, zooms = _seen(Predictor(model()), image, prompt)
        assert zoom in zooms and found.window[3] - found.window[1] == pytest.approx(512 / zoom)


def test_whole_planes_only_where_that_is_asked_for() -> None:
    image = _bright((1100, 1500), (300, 700, 420, 790))
    predictor = Predictor(_Reference(), whole=True)
    found, zooms = _seen(predictor, image, Prompts([(310, 720)]))
    assert zooms == pytest.approx([512 / 1500])
    assert len(predictor.tiles((9000, 9000))) == 1
    assert found.window == pytest.approx((0, 0, 1500, 1500), rel=0.01)


@pytest.mark.parametrize("model", [_Threshold, _Reference])
@pytest.mark.parametrize(
    ("side", "zoom", "native", "beside"),
    [
        (10, 4, 4, []),
        (90, 1, 1, [0.5]),
        (150, 1, 0.5, [0.25, 1]),
        (380, 0.5, 0.25, [512 / 2600]),
        (900, 0.25, 256 / 2600, [128 / 2600]),
    ],
)
def test_a_box_is_answered_where_it_fits_and_looked_at_on_the_levels_beside(
    model: type[_Threshold], side: int, zoom: float, native: float, beside: list[float]
) -> None:
    zoom, beside = (native, beside) if model is _Threshold else (zoom, [])
    image = _bright((2600, 2600), (1000, 1100, 1000 + side, 1100 + side))
    box = (1000, 1100, 1000 + side, 1100 + side)
    found, zooms = _seen(Predictor(model()), image, Prompts(box_yxyx=box))
    assert zooms == pytest.approx([zoom, *beside])
    assert _iou(found.masks[0], image) > 0.8
    again, zooms = _seen(Predictor(model()), image, Prompts(mask=image > 0))
    assert zooms == [zoom]
    assert again.window == found.window


def test_clicks_are_looked_at_on_the_levels_beside_masks_that_travel_are_not() -> None:
    image = _bright((2600, 2600), (1000, 1100, 1090, 1190))
    predictor = Predictor(_Threshold())
    click, mask = Prompts([(1040.0, 1140.0)]), Prompts(mask=image > 0)
    for prompt, levels in ((click, [512 / 2600, 1, 0.5]), (mask, [1])):
        found, zooms = _seen(predictor, image, prompt)
        assert zooms == pytest.approx(levels)
        assert _iou(found.masks[0], image) > 0.9 and found.window[2] - found.window[0] == 512


def test_looks_beside_are_at_a_tighter_box() -> None:
    class Boxed(_Threshold):
        def decode(self, *args: Any, boxes: Tensor | None = None, **kwargs: Any) -> Decoded:
            assert boxes is not None
            sides.append((boxes[0, 2:] - boxes[0, :2]).tolist())
            return super().decode(*args, boxes=boxes, **kwargs)

    sides: list[list[float]] = []
    image = _bright((2600, 2600), (1000, 1100, 1050, 1150))
    predictor = Predictor(Boxed())
    predictor.predict(predictor.embed(image, lazily=True), Prompts(box_yxyx=(1000, 1100, 1050, 1150)))
    tighter = 50 * (1 - 2 * TIGHTER)
    np.testing.assert_allclose(sides, [[50, 50], [tighter / 2] * 2, [tighter * 2] * 2], atol=0.1)


def test_a_click_on_something_small_is_asked_again_enlarged() -> None:
    image = _bright((2000, 2000), (1000, 1100, 1010, 1112))
    found, zooms = _seen(Predictor(_Reference()), image, Prompts([(1005, 1105)]))
    assert zooms == [0.256, 1, 4]
    assert found.window[2] - found.window[0] == 128
    blunt, zooms = _seen(Predictor(_Reference(), whole=True), image, Prompts([(1005, 1105)]))
    assert len(zooms) == 1
    assert _iou(found.masks[0], image) > 0.8 > _iou(blunt.masks[0], image)


def test_a_closer_look_that_trusts_itself_less_changes_nothing() -> None:
    class Unsure(_Reference):
        def decode(self, *args: Any, **kwargs: Any) -> Decoded:
            logits, iou, presence = super().decode(*args, **kwargs)
            return Decoded(logits, iou * (0.5 if len(self.calls) > 2 else 1.0), presence)

    image = _bright((2000, 2000), (1000, 1100, 1010, 1112))
    found, zooms = _seen(Predictor(Unsure()), image, Prompts([(1005, 1105)]))
    assert zooms == [0.256, 1, 4]
    assert found.window[2] - found.window[0] == 512
    assert found.scores[0] == pytest.approx(0.9)


@pytest.mark.parametrize("model", [_Threshold, _Reference])
def test_what_a_tile_cuts_is_asked_at_the_next_coarser_level_until_it_is_whole(
    model: type[_Threshold],
) -> None:
    image = _bright((2600, 2600), (850, 850, 1500, 1450))
    small = Prompts(box_yxyx=(970, 970, 1030, 1030))
    found, zooms = _seen(Predictor(model()), image, small)
    assert zooms[0] == 1 and len(zooms) <= 4
    wanted = 0.5 if model is _Reference else 0.25
    assert any(z == wanted for z in zooms) and found.window[3] - found.window[1] == pytest.approx(
        512 / wanted
    )
    assert _iou(found.masks[0], image) > 0.97
    image = _bright((2600, 2600), (100, 100, 2500, 2400))
    found, zooms = _seen(Predictor(model()), image, small)
    assert zooms[0] == 1 and zooms[-1] == pytest.approx(512 / 2600)
    assert _iou(found.masks[0], image) > 0.97


def test_who_is_lost_on_an_enlarged_plane_sees_it_closer_and_then_as_it_is() -> None:
    class Lost(_Threshold):
        def decode(self, *args: Any, **kwargs: Any) -> Decoded:
            logits, iou, presence = super().decode(*args, **kwargs)
            return Decoded(logits, torch.full_like(iou, 0.1 + 0.1 * len(self.calls)), presence)

    image = _bright((250, 250), (60, 60, 180, 190))
    found, zooms = _seen(Predictor(Lost()), image, Prompts([(120, 120)]))
    assert zooms == pytest.approx([2.048, 4, 1])
    assert _iou(found.masks[0], image) > 0.95


def test_points_outside_the_object_and_the_tile_are_left_out() -> None:
    model = _Threshold()
    seen = []
    decode = model.decode

    def watch(features: Features, points: Any = None, **kwargs: Any) -> Decoded:
        seen.append(points[1].tolist())
        return decode(features, points=points, **kwargs)

    model.decode = watch  # type: ignore[method-assign, assignment]
    predictor = Predictor(model)
    embedding = predictor.embed(_bright((600, 1000), (300, 700, 340, 760)))
    predictor.predict(embedding, Prompts([(310, 720), (320, 800), (10, 5)], [1, 0, 0]))
    assert seen[0] == [[1, 0, 0]], "the overview shows all of them"
    assert seen[1] == [[1, 0]]
    assert [[1, 0, 0]] in seen[2:], "its score is low, so it is looked at from afar"
    seen.clear()
    predictor.predict(embedding, Prompts([(10, 5), (590, 990)], [0, 0]))
    assert seen[0] == [[0, 0]]


class _Overlooking(_Threshold):
    """Takes a small object for everything when it sees the whole plane, and says how sure it is of that."""

    def __init__(self, sure: float) -> None:
        super().__init__()
        self.sure = sure

    def decode(self, features: Features, *args: Any, **kwargs: Any) -> Decoded:
        found = super().decode(features, *args, **kwargs)
        if features[0].shape[-2:] == (160, 256):
            return found._replace(logits=found.logits.abs() + 1, iou=torch.full_like(found.iou, self.sure))
        return found


@pytest.mark.usefixtures("one_look")
@pytest.mark.parametrize(("sure", "zooms"), [(0.4, [1.024, 2]), (0.9, [1.024])])
def test_what_the_network_does_not_trust_it_looks_at_more_closely(sure: float, zooms: list[float]) -> None:
    image = _bright((300, 500), (150, 350, 180, 390))
    found, seen = _seen(Predictor(_Overlooking(sure)), image, Prompts([(155, 360)]))
    assert seen == pytest.approx(zooms)
    assert (_iou(found.masks[0], image) > 0.9) == (len(zooms) > 1)


@pytest.mark.usefixtures("one_look")
@pytest.mark.parametrize(("sure", "native"), [(0.4, True), (0.95, True), (1.0, False)])
def test_what_nano_has_seen_shrunk_only_it_looks_at_again(sure: float, native: bool) -> None:
    image = _bright((600, 1000), (300, 700, 340, 760))
    found, seen = _seen(Predictor(_Overlooking(sure)), image, Prompts([(310, 720)]))
    assert seen[:2] == pytest.approx([0.512, 1])
    assert (_iou(found.masks[0], image) > 0.9) == native, "a little less trust in it does not count"


@pytest.mark.parametrize("shape", [(1, 1), (1, 20000), (20000, 1), (3, 700), (640, 2), (100, 90)])
def test_reference_networks_answer_on_planes_of_any_shape(shape: tuple[int, int]) -> None:
    image = np.full(shape, 10, np.uint8)
    y, x = (n // 2 if n > 8 else 0 for n in shape)  # the fake network looks at every fourth pixel
    image[y : y + 60, x : x + 60] = 250
    predictor = Predictor(_Reference())
    embedding = predictor.embed(open_volume(image, contrast_limits=(0, 255)).plane())
    asked = [Prompts([(y, x)]), Prompts(box_yxyx=(y, x, min(y + 60, shape[0]), min(x + 60, shape[1])))]
    for found in predictor.predict_many(embedding, [*asked, Prompts(mask=image > 200)]):
        assert found.masks.shape[1:] == shape
        overlap = np.count_nonzero(found.masks[0] & (image > 200))
        assert overlap / np.count_nonzero(found.masks[0] | (image > 200)) > 0.85
