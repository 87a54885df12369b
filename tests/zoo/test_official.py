"""Official weights, from a real HTTP server on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tapc import zoo
from tapc.base.errors import DataError
from tapc.frontend.torch_source import read_zoo
from tapc.zoo.official import official_path, official_weights


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", folder
        http.shutdown()


@pytest.fixture
def entry(server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zoo.ZooEntry:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    known = zoo.get("resnet8")
    assert known.bundled is not None
    file = server[1] / "tiny.pth"
    torch.save(known.build().state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    official = known.bundled.model_copy(
        update={"weights": "tiny.pth", "url": f"{server[0]}/tiny.pth", "sha256": digest[:8], "mean": (0.5,)}
    )
    return known.model_copy(update={"bundled": None, "official": official})


def test_download_once_then_cache(entry: zoo.ZooEntry, server: tuple[str, Path]) -> None:
    seen: list[tuple[int, int]] = []
    path = official_weights(entry, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == (server[1] / "tiny.pth").read_bytes()
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    (server[1] / "tiny.pth").unlink()
    assert official_weights(entry) == path
    imported = read_zoo(entry, Path("imagenet"))
    assert imported.mean == (0.5,)
    assert "official" in imported.provenance
    assert read_zoo(entry, None).provenance == imported.provenance


def test_offline_says_where_to_put_the_file(entry: zoo.ZooEntry, server: tuple[str, Path]) -> None:
    assert entry.official is not None
    (server[1] / "tiny.pth").unlink()
    with pytest.raises(DataError) as error:
        official_weights(entry)
    for part in (entry.official.url, entry.official.sha256, str(official_path(entry.official)), "--weights FILE"):
        assert part in str(error.value)
    assert not list(official_path(entry.official).parent.iterdir())


def test_another_file_is_refused(entry: zoo.ZooEntry, server: tuple[str, Path]) -> None:
    assert entry.official is not None
    (server[1] / "tiny.pth").write_bytes(b"something else")
    with pytest.raises(DataError, match="is not the registered"):
        official_weights(entry)
    assert not list(official_path(entry.official).parent.iterdir())
    official_path(entry.official).write_bytes(b"damaged in the cache")
    with pytest.raises(DataError, match="is not the registered"):
        official_weights(entry)


def test_networks_without_official_weights() -> None:
    with pytest.raises(DataError, match="no official weights of resnet8"):
        official_weights(zoo.get("resnet8"))


def test_a_file_without_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = zoo.get("efficientnet_lite0")
    with pytest.raises(DataError, match=r"no address(.|\n)*efficientnet-lite0-57934424.pth(.|\n)*--weights FILE"):
        official_weights(entry)
