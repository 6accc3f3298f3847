"""Every network against the outputs of its reference implementation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from src_core.model.sam import Sam
from tests.src_core.model.golden import CASES, NETWORKS, TOLERANCE, Golden, load

SLOW = {"vit_l", "vit_h"}
# med2d_b has no recorded path from pixels; vit_t's own covers the shared functions at a tenth of vit_b's time
PIXEL_SLOW = {*SLOW, "vit_b"}


class Encoded(NamedTuple):
    sam: Sam
    golden: Golden
    embedding: Tensor


def _mark(network: str, slow: set[str]) -> Any:
    return pytest.param(network, marks=pytest.mark.slow if network in slow else ())


@pytest.fixture(scope="module", params=[_mark(n, SLOW) for n in NETWORKS])
def encoded(request: pytest.FixtureRequest) -> Iterator[Encoded]:
    sam, golden = load(request.param), Golden(request.param)
    with torch.inference_mode():
        yield Encoded(sam, golden, sam.encode(golden.image(sam))[0])


def test_embedding(encoded: Encoded) -> None:
    assert encoded.golden.embedding(encoded.sam, encoded.embedding) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_prompts(encoded: Encoded, case: str) -> None:
    assert encoded.golden.case(encoded.sam, encoded.embedding, case) <= TOLERANCE


@pytest.mark.parametrize("encoded", [_mark(n, PIXEL_SLOW) for n in NETWORKS[:4]], indirect=True)
def test_from_pixels_to_logits(encoded: Encoded) -> None:
    assert encoded.golden.predictor(encoded.sam) <= TOLERANCE
