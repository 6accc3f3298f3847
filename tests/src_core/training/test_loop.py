"""The loop: an interrupted run ends with the same weights, bit by bit, and the test split stays unseen."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from src_core import zoo
from src_core.errors import CheckpointError, SamError, VolumeError
from src_core.frames import BOOL_LOGIT
from src_core.model.sam import Features
from src_core.training import data, episodes
from src_core.training.config import TrainConfig, training_files
from src_core.training.loop import learning_rate, train
from src_core.training.samples import OPTIONS, Samples
from tests.src_core.networks import random_nano

# PyTorch starts its data worker by fork; Python 3.12 and later warn of it in a process with threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

SMALL = {"side": 64, "crops": 1, "objects_per_crop": 1, "frames": 2, "objects_per_stack": 1}


@pytest.fixture(autouse=True)
def _small_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "STACK_SHAPE", (4, 64, 64))


def _config(out: Path, steps: int = 3) -> TrainConfig:
    return TrainConfig(out, steps=steps, warmup=2, n_stacks=2, checkpoint_every=1, samples=SMALL)


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "run"
    weights = train(_config(out), progress=lambda step, steps, loss: seen.append((step, steps)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    whole, state = load_file(weights), torch.load(out / "state.pt", weights_only=True)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [0, 1, 2]
    assert all(math.isfinite(record["loss"]) and 0 <= record["corrected"] <= 1 for record in log)

    for name in ("state.pt", "nano.safetensors", "log.jsonl"):
        (out / name).unlink()
    done: list[int] = []
    train(_config(out), progress=lambda step, *_: done.append(step), cancelled=lambda: len(done) == 1)
    assert done == [1]
    half = load_file(weights)
    assert any(not torch.equal(half[k], whole[k]) for k in whole)
    train(_config(out), progress=lambda step, *_: done.append(step))
    assert done == [1, 2, 3]
    resumed, resumed_state = load_file(weights), torch.load(out / "state.pt", weights_only=True)
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)
    for part in ("model", "average"):
        assert all(torch.equal(resumed_state[part][k], state[part][k]) for k in state[part])

    # More processes draw the same.
    other = train(replace(_config(tmp_path / "many"), workers=2))
    assert all(torch.equal(v, whole[k]) for k, v in load_file(other).items())

    # What was written is a model of the zoo; a finished run has nothing left to do.
    assert zoo.load_model(weights, "cpu").network == "nano"
    assert train(_config(out), progress=lambda *_: pytest.fail("trained on")) == weights
    with pytest.raises(CheckpointError, match=r"other settings \(learning_rate\)"):
        train(replace(_config(out), learning_rate=1.0))
    (out / "state.pt").write_bytes((out / "state.pt").read_bytes()[:20000])
    with pytest.raises(CheckpointError, match=r"state\.pt.*damaged"):
        train(_config(out))


def test_a_run_may_begin_with_weights_that_lack_a_part(tmp_path: Path) -> None:
    kept = {
        k: v.clone().contiguous()
        for k, v in random_nano().state_dict().items()
        if not k.startswith("evidence.")
    }
    save_file(kept, tmp_path / "first.safetensors")
    config = replace(
        _config(tmp_path / "run", steps=1), start=tmp_path / "first.safetensors", learning_rate=0.0
    )
    state = load_file(train(config))
    name = "mask_decoder.iou_token.weight"
    assert torch.allclose(state[name].float(), kept[name], atol=1e-3)
    assert any(k.startswith("evidence.") for k in state)

    save_file({name: kept[name].contiguous(), "other": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    # A layer that saw fewer channels takes no notice of the others yet.
    lift = "mask_decoder.lift.weight"
    save_file(
        {**{k: v.clone().contiguous() for k, v in kept.items()}, lift: kept[lift][:, :8].contiguous()},
        tmp_path / "narrow.safetensors",
    )
    state = load_file(train(replace(config, out=tmp_path / "grown", start=tmp_path / "narrow.safetensors")))
    assert torch.allclose(state[lift][:, :8].float(), kept[lift][:, :8], atol=1e-3)
    assert state[lift].shape == kept[lift].shape and not state[lift][:, 8:].any()

    with pytest.raises(CheckpointError, match="cannot be trained further as nano: 1 of its tensors fit"):
        train(replace(config, out=tmp_path / "other", start=tmp_path / "foreign.safetensors"))


def test_a_cancelled_run_loses_no_step_and_may_move(tmp_path: Path) -> None:
    for folder in ("images", "elsewhere"):
        (tmp_path / folder).mkdir()
        labels = np.zeros((80, 90), np.uint8)
        labels[10:70, 10:80] = 1
        np.savez(tmp_path / folder / "a.npz", image=labels * 200, labels=labels)
    config = replace(_config(tmp_path / "run"), images=tmp_path / "images", checkpoint_every=100)
    done: list[int] = []
    weights = train(config, lambda step, *_: done.append(step), cancelled=lambda: True)
    assert not weights.exists()
    train(config, lambda step, *_: done.append(step), cancelled=lambda: len(done) == 2)
    assert weights.exists()
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = replace(config, out=tmp_path / "moved", images=tmp_path / "elsewhere")
    np.savez(tmp_path / "elsewhere" / "b.npz", image=labels, labels=labels)
    with pytest.raises(CheckpointError, match=r"\(images\)"):
        train(moved)
    train(replace(moved, excluded=("b.npz",)), lambda step, *_: done.append(step))
    assert done == [1, 2, 3]


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SamError, match="workers"):
        TrainConfig(tmp_path, workers=0)
    with pytest.raises(SamError, match="nonsense"):
        train(replace(_config(tmp_path), device="nonsense"))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ({"colour": 3}, "unknown options of samples colour"),
        ({"crops": 0}, "crops must be a whole number"),
        ({"crops": "4"}, "crops must be a whole number"),
        ({"side": 100}, "multiple of 32"),
        ({"side": 1024}, "multiple of 32"),
        ({"frames": 99}, "frames asks for more"),
    ],
)
def test_options_of_samples_that_cannot_be(samples: dict[str, int], words: str) -> None:
    with pytest.raises(SamError, match=words):
        TrainConfig(Path(), samples=samples)


def test_every_option_of_samples_is_known(tmp_path: Path) -> None:
    stacks = data.StackSource(tmp_path, 1, 0)
    made = Samples(stacks, None, seed=0, steps=1, **dict.fromkeys(OPTIONS, 32))
    assert {made.side, made.crops, made.objects_per_crop, made.frames, made.objects_per_stack} == {32}


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.zeros((40, 40), np.uint8))
    with pytest.raises(VolumeError, match=r"a\.npz"):
        train(replace(_config(tmp_path / "run"), images=tmp_path))


def test_the_test_split_is_never_opened(tmp_path: Path) -> None:
    for name in ("a", "b", "test_1"):
        labels = np.ones((40, 40), np.uint8)
        np.savez(tmp_path / f"{name}.npz", image=labels, labels=labels)
    (tmp_path / "notes.txt").write_text("no image")
    config = TrainConfig(tmp_path / "out", images=tmp_path, excluded=("test_1.npz",))
    assert [f.name for f in training_files(config)] == ["a.npz", "b.npz"]
    assert len(data.ImageSource(training_files(config)).pairs) == 2
    assert training_files(TrainConfig(tmp_path)) == []
    with pytest.raises(CheckpointError, match=r"no \.npz"):
        training_files(replace(config, excluded=("a.npz", "b.npz", "test_1.npz")))


def test_the_learning_rate_rises_then_falls() -> None:
    config = TrainConfig(Path(), steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0.01)


@pytest.mark.parametrize("step", range(6))
def test_every_kind_of_episode_has_a_finite_loss_and_a_gradient(tmp_path: Path, step: int) -> None:
    samples = Samples(data.StackSource(tmp_path, 2, 5), None, seed=step, steps=9, **SMALL)
    model = random_nano()
    model.requires_grad_(True)
    try:
        outcome = episodes.run(model, samples[0], np.random.default_rng(step))
        loss = outcome.loss
        loss.backward()  # type: ignore[no-untyped-call]
        assert math.isfinite(loss.item())
        assert loss.item() > 0
        assert {"ends", "affinity"} <= outcome.scores.keys()
        assert outcome.scores.keys() <= {"first", "corrected", "walk", "ends", "affinity"}
        assert all(0 <= score <= 1 for score in outcome.scores.values())
        used = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
        assert used == {"image_encoder", "prompt_encoder", "mask_decoder", "evidence"}
    finally:
        model.zero_grad()
        model.requires_grad_(False)


def test_each_stack_is_walked_through_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SMALL | {"frames": 3, "stacks": 2, "crops": 2}
    sample = Samples(data.StackSource(tmp_path, 2, 5), None, seed=1, steps=9, **options)[0]
    assert sample.images.shape[0] == len(sample.labels) == 2 + 2 * 3
    assert sample.stack_masks.shape[:3] == (2, 3, 1)
    model, seen = random_nano(), []
    answer = model.decode_all

    def numbered(images: torch.Tensor) -> Features:
        side, which = images.shape[-1], torch.arange(float(len(images))).reshape(-1, 1, 1, 1)
        return tuple(
            which.expand(-1, channels, side // px, side // px) for channels, px in ((96, 8), (38, 4), (16, 2))
        )

    def decode_all(features: Features, *prompts: Any) -> Any:
        seen.append(features[0][:, 0, 0, 0].tolist())
        return answer(features, *prompts)

    monkeypatch.setattr(model, "encode", numbered)
    monkeypatch.setattr(model, "decode_all", decode_all)
    episodes.run(model, sample, np.random.default_rng(0))
    assert [images for images in seen if images != [0, 1]] == [[2, 5], [3, 6], [4, 7]]


def test_clicks_on_nothing_replace_some_objects_where_background_is_known() -> None:
    truths = np.zeros((200, 8, 8), np.bool_)
    truths[:, :4] = True
    background = np.zeros_like(truths)
    background[:100, 6:] = True
    clicked, there = episodes._somewhere(np.random.default_rng(0), truths, background)
    assert there[100:].all()
    assert 5 < (~there).sum() < 30
    assert np.array_equal(clicked[there], truths[there])
    assert (clicked[~there].sum((1, 2)) == 1).all()
    assert (clicked[~there] & background[~there]).any((1, 2)).all()


def test_bool_masks_become_the_logits_that_the_predictor_gives() -> None:
    assert episodes.as_logits(np.array([[[True, False]]]), torch.device("cpu")).tolist() == [
        [[[BOOL_LOGIT, -BOOL_LOGIT]]]
    ]
