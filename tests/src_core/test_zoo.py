"""The zoo: registry, downloads from a local server, and weights files of every good and bad kind."""

from __future__ import annotations

import functools
import json
import os
import pickle
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import xxhash
from safetensors.torch import save_file
from torch import nn

from src_core import zoo
from src_core.errors import CheckpointError, SamError
from src_core.zoo import downloads

SHARED = Path(__file__).parents[3] / "shared"
BODY = bytes(range(256)) * 4000
"""About 1 MB: four chunks of a download."""


# ---------------------------------------------------------------- a server that can misbehave


@dataclass
class Server:
    url: str = ""
    body: bytes = BODY
    ranges: bool = True
    stop_after: int | None = None
    stall: bool = False
    seen_ranges: list[str | None] = field(default_factory=list)


def _handler(state: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.seen_ranges.append(wanted)
            if not self.path.endswith("weights.pth"):
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(state.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            rest = state.body[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: state.stop_after])
            if state.stall:
                self.wfile.flush()
                threading.Event().wait(0.6)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "models"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    state = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(state)) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/weights.pth"
        thread = threading.Thread(target=functools.partial(http.serve_forever, poll_interval=0.01))
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def info(url: str, body: bytes = BODY) -> zoo.ModelInfo:
    return zoo.ModelInfo("test", "vit_b", "MIT", "test.pth", url=url, xxh128=xxhash.xxh128(body).hexdigest())


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


# ---------------------------------------------------------------- registry


def test_registry_is_complete_and_its_files_do_not_collide(folder: Path) -> None:
    found = zoo.models()
    assert found[0].name == "nano" and found[0].bundled
    assert {m.network for m in found} == {"nano", "vit_t", "vit_b", "vit_l", "vit_h", "med2d_b"}
    assert len({m.file for m in found}) == len(found)
    for model in found:
        if model.url is not None:
            assert model.xxh128 is not None and len(model.xxh128) == 32 and int(model.xxh128, 16)
            assert model.downloaded is None and model.path.parent == folder
    assert zoo.named("vit_b_lm").network == "vit_b"


def test_registry_agrees_with_the_shared_facts() -> None:
    path = SHARED / "models.json"
    if not path.exists():
        pytest.skip("no shared facts here")
    facts = {k: v for k, v in json.loads(path.read_text()).items() if k != "about"}
    ours = {m.name: m for m in zoo.models() if not m.bundled}
    assert ours.keys() == facts.keys()
    for name, fact in facts.items():
        assert (ours[name].url, ours[name].xxh128, ours[name].licence) == (
            fact["url"],
            fact["xxh128"],
            fact["licence"],
        )
        assert ours[name].network == fact["network"].split()[0]


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"vit_q.*vit_b"):
        zoo.named("vit_q")
    with pytest.raises(CheckpointError, match=r"neither a file nor a model.*vit_b"):
        zoo.load_model("vit_q")


def test_models_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path))
    assert zoo.models_folder() == tmp_path
    monkeypatch.delenv("NAPARI_SAM_MODELS")
    assert "napari-sam" in zoo.models_folder().parts


# ---------------------------------------------------------------- downloads


def test_download_reports_progress_and_is_not_repeated(server: Server, folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    path = zoo.download(info(server.url), progress=lambda done, total: calls.append((done, total)))
    assert path == folder / "test.pth" and path.read_bytes() == BODY
    assert names(folder) == ["test.pth"]
    assert len(calls) > 2 and calls == sorted(calls) and calls[-1] == (len(BODY), len(BODY))
    assert zoo.download(info(server.url)) == path
    assert len(server.seen_ranges) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_download_continues(server: Server, folder: Path, ranges: bool) -> None:
    server.stop_after = 600_000
    with pytest.raises(CheckpointError, match=r"bytes are kept.*by hand.*test.pth"):
        zoo.download(info(server.url))
    kept = (folder / "test.pth.part").stat().st_size
    assert 0 < kept <= 600_000
    server.stop_after, server.ranges = None, ranges
    calls: list[tuple[int, int]] = []
    path = zoo.download(info(server.url), progress=lambda *c: calls.append(c))
    assert path.read_bytes() == BODY and names(folder) == ["test.pth"]
    assert server.seen_ranges == [None, f"bytes={kept}-"]
    assert (calls[0][0] > kept) == ranges and calls[-1] == (len(BODY), len(BODY))


def test_complete_part_needs_no_more_bytes(server: Server, folder: Path) -> None:
    folder.mkdir()
    (folder / "test.pth.part").write_bytes(BODY)
    assert zoo.download(info(server.url)).read_bytes() == BODY
    assert names(folder) == ["test.pth"]


def test_part_of_another_file_is_dropped(server: Server, folder: Path) -> None:
    folder.mkdir()
    (folder / "test.pth.part").write_bytes(b"x" * 1000)
    assert zoo.download(info(server.url)).read_bytes() == BODY
    (folder / "test.pth").unlink()
    (folder / "test.pth.part").write_bytes(BODY + b"x")
    with pytest.raises(CheckpointError, match="was deleted"):
        zoo.download(info(server.url))
    assert names(folder) == []


def test_wrong_checksum_leaves_nothing(server: Server, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checksum.*deleted.*by hand"):
        zoo.download(replace(info(server.url), xxh128="0" * 32))
    assert names(folder) == []


def test_damaged_file_on_disk_is_fetched_again(server: Server, folder: Path) -> None:
    folder.mkdir()
    (folder / "test.pth").write_bytes(b"damaged")
    assert zoo.download(info(server.url)).read_bytes() == BODY


def test_missing_page_says_where_to_put_the_file(server: Server, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="404") as caught:
        zoo.download(info(server.url + "x"))
    assert str(folder) in str(caught.value) and "test.pth" in str(caught.value)
    assert names(folder) == []


def test_no_network_says_how_to_fetch_by_hand(folder: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/weights.pth"
    with pytest.raises(CheckpointError) as caught:
        zoo.download(info(url))
    assert all(part in str(caught.value) for part in (url, "test.pth", str(folder), "by hand"))
    assert names(folder) == []


def test_silent_server_does_not_hang(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", (1.0, 0.2))
    server.stop_after, server.stall = 1000, True
    with pytest.raises(CheckpointError, match="timed out"):
        zoo.download(info(server.url))


def test_cancel_keeps_what_has_arrived(server: Server, folder: Path) -> None:
    with pytest.raises(zoo.DownloadCancelled):
        zoo.download(info(server.url), cancelled=lambda: True)
    assert names(folder) == ["test.pth.part"]
    assert zoo.download(info(server.url)).read_bytes() == BODY
    assert server.seen_ranges[1] is not None


def test_folder_that_cannot_be_written(server: Server, folder: Path) -> None:
    folder.write_bytes(b"a file where the folder should be")
    with pytest.raises(CheckpointError, match="NAPARI_SAM_MODELS"):
        zoo.download(info(server.url))


def test_models_without_address(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"no public address.*sam-med2d_b\.pth"):
        zoo.download("med2d_b")
    folder.mkdir()
    (folder / "sam-med2d_b.pth").write_bytes(b"here")
    assert zoo.download("med2d_b") == folder / "sam-med2d_b.pth"
    monkeypatch.setattr("src_core.zoo.registry._WEIGHTS", tmp_path)
    with pytest.raises(CheckpointError, match="reinstall"):
        zoo.download(zoo.ModelInfo("nano", "nano", "BSD-3-Clause", "nano.safetensors", bundled=True))


# ---------------------------------------------------------------- weights files


class Tiny(nn.Module):
    """Small, but with the tell-tale names and shapes of a ViT."""

    def __init__(self, width: int = 768) -> None:
        super().__init__()
        self.image_encoder = nn.ParameterDict({"pos_embed": nn.Parameter(torch.randn(1, 1, 1, width))})
        self.image_encoder["blocks"] = nn.ModuleList([nn.Module()])
        block = self.image_encoder["blocks"][0]
        block.attn = nn.ParameterDict({"rel_pos_h": nn.Parameter(torch.randn(3, 2))})
        self.prompt_encoder = nn.BatchNorm1d(2)
        self.mask_decoder = nn.Linear(2, 2)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Replace the builder by one of tiny networks; return a state dict that fits vit_b."""
    widths = {"vit_b": 768, "vit_l": 1024, "vit_h": 1280}
    builder = types.ModuleType("src_core.model.builder")
    builder.build_sam = lambda name: Tiny(widths[name])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "src_core.model.builder", builder)
    return Tiny().state_dict()


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


def test_load_gives_the_weights_in_eval_mode(tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
    loaded = zoo.load_model(saved(tiny, tmp_path / "mine.pth"), device="cpu")
    assert isinstance(zoo.load(tmp_path / "mine.pth", "cpu"), Tiny)
    assert loaded.network == "vit_b" and not loaded.sam.training
    assert not any(p.requires_grad for p in loaded.sam.parameters())
    for name, tensor in loaded.sam.state_dict().items():
        assert torch.equal(tensor, tiny[name])
    assert loaded.fingerprint == xxhash.xxh128((tmp_path / "mine.pth").read_bytes()).hexdigest()


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state"])
@pytest.mark.parametrize("prefix", ["", "sam.", "module.", "model.", "module.sam."])
def test_wrapped_and_prefixed_files_load(
    tiny: dict[str, torch.Tensor], tmp_path: Path, wrapper: str, prefix: str
) -> None:
    content = {"epoch": 3, wrapper: {prefix + name: tensor for name, tensor in tiny.items()}}
    loaded = zoo.load_model(saved(content, tmp_path / "w.pt"), "cpu")
    assert torch.equal(loaded.sam.state_dict()["mask_decoder.weight"], tiny["mask_decoder.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(
    tiny: dict[str, torch.Tensor], tmp_path: Path, dtype: torch.dtype
) -> None:
    half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tiny.items()}
    save_file(half, tmp_path / "half.safetensors")
    sam = zoo.load_model(tmp_path / "half.safetensors", "cpu").sam
    assert {p.dtype for p in sam.parameters()} == {torch.float32}
    assert torch.equal(sam.state_dict()["mask_decoder.weight"], half["mask_decoder.weight"].float())


def test_old_torch_format_loads(tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(tiny, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert zoo.load_model(tmp_path / "old.pth", "cpu").network == "vit_b"


def test_a_path_may_hold_any_network_but_a_name_promises_one(
    tiny: dict[str, torch.Tensor], folder: Path
) -> None:
    folder.mkdir()
    path = saved(Tiny(1024).state_dict(), folder / "sam-med2d_b.pth")
    assert zoo.load_model(path, "cpu").network == "vit_l"
    with pytest.raises(CheckpointError, match=r"should hold med2d_b.*holds vit_l"):
        zoo.load_model("med2d_b", "cpu")


def test_name_downloads_checks_and_loads(
    tiny: dict[str, torch.Tensor], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body = saved(tiny, tmp_path / "source.pth").read_bytes()
    entry = info(server.url, server.body)
    monkeypatch.setattr("src_core.zoo.loading.models", lambda: (entry,))
    loaded = zoo.load_model("test", "cpu")
    assert (loaded.name, loaded.network, loaded.fingerprint) == ("test", "vit_b", entry.xxh128)


@pytest.mark.parametrize("network", ["vit_t", "nano"])
def test_real_networks_load(tmp_path: Path, network: str) -> None:
    from src_core.model.builder import build_sam

    state = {k: torch.full(v.shape, 0.5).to(v.dtype) for k, v in build_sam(network).state_dict().items()}
    path = saved({"model": state}, tmp_path / "real.pth")
    loaded = zoo.load_model(path, "cpu")
    assert loaded.network == network
    assert all(torch.equal(v, state[k]) for k, v in loaded.sam.state_dict().items())


@pytest.mark.parametrize("network", ["vit_b", "vit_l", "vit_h", "vit_t", "med2d_b"])
def test_official_names_are_recognised(network: str) -> None:
    path = SHARED / "golden" / f"{network}_keys.json"
    if not path.exists():
        pytest.skip("no lists of official names here")
    shapes = json.loads(path.read_text())
    assert zoo.recognise({k: torch.empty(s, device="meta") for k, s in shapes.items()}) == network


def _without(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.items() if k != "mask_decoder.bias"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without, "missing mask_decoder.bias"),
        (lambda s: s | {"mask_decoder.hf_token": torch.zeros(1)}, "not known mask_decoder.hf_token"),
        (lambda s: s | {"mask_decoder.bias": torch.zeros(7)}, r"mask_decoder.bias has shape \(7,\).*\(2,\)"),
        (lambda s: s | {"mask_decoder.bias": torch.zeros(2, dtype=torch.int8)}, "dtype torch.int8"),
        (lambda s: s | {"image_encoder.pos_embed": torch.zeros(1, 1, 1, 384)}, "384 channels"),
        (
            lambda s: {"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(2)},
            "not the weights.*conv1.weight",
        ),
        (lambda s: {"model": {"a": 1, "b": "c"}}, "no state dict"),
        (lambda s: [1, 2], "no state dict.*list"),
        (lambda s: {}, "no state dict.*nothing"),
    ],
)
def test_foreign_contents_are_refused(
    tiny: dict[str, torch.Tensor], tmp_path: Path, change: Callable[[object], object], message: str
) -> None:
    path = saved(change(tiny), tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        zoo.load_model(path, "cpu")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.95])
def test_truncated_files_are_refused(
    tiny: dict[str, torch.Tensor], tmp_path: Path, kind: str, keep: float
) -> None:
    path = tmp_path / ("cut.safetensors" if kind == "safetensors" else "cut.pth")
    if kind == "safetensors":
        save_file(tiny, path)
    else:
        torch.save(tiny, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(CheckpointError, match="empty" if keep == 0 else "cut short|weights file"):
        zoo.load_model(path, "cpu")


def test_folders_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="folder"):
        zoo.load_model(tmp_path, "cpu")
    with pytest.raises(CheckpointError, match="does not exist"):
        zoo.read_state_dict(tmp_path / "nothing.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("<html>not found</html>" * 50)
        with pytest.raises(CheckpointError, match=r"weights"):
            zoo.load_model(tmp_path / name, "cpu")


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["zip", "old", "bare"])
def test_code_in_a_file_is_not_run(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "evil.pth", tmp_path / "it-ran"
    content = {"image_encoder.x": Malicious(target)}
    if kind == "bare":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError, match="run code"):
        zoo.load_model(path, "cpu")
    assert not target.exists()


def test_devices() -> None:
    assert zoo.choose_device("cpu") == torch.device("cpu")
    assert zoo.choose_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(SamError, match="not a device"):
        zoo.choose_device("gpu please")
    with pytest.raises(SamError, match="cuda:77' is not available"):
        zoo.choose_device("cuda:77")
    with pytest.raises(SamError, match="not available"):
        zoo.choose_device("meta")


def test_fingerprint_tells_weights_apart(tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
    network = Tiny()
    network.load_state_dict(tiny)
    assert zoo.fingerprint(network) == zoo.fingerprint(tiny) == zoo.fingerprint(dict(reversed(tiny.items())))
    changed = tiny | {"mask_decoder.bias": tiny["mask_decoder.bias"] + 1e-6}
    renamed = {k.replace("mask_decoder.bias", "mask_decoder.bios"): v for k, v in tiny.items()}
    half = {k: v.half() for k, v in tiny.items()}
    assert len({zoo.fingerprint(s) for s in (tiny, changed, renamed, half)}) == 4
    with pytest.raises(CheckpointError, match="cannot be read"):
        zoo.fingerprint(tmp_path / "nothing")
