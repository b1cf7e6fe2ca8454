"""Models and data sets of the hub, fetched by its own client from a server of this test, which speaks as much of it as a fetch needs."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from r1lib import hub, paths, stages
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.tasks import benchmarks

COMMIT = "0123456789" * 4
PROBLEM = {"question": "Ann has 3 bags of 4 nuts. How many nuts?", "answer": "3*4=12 nuts.\n#### 12"}


class LocalHub(BaseHTTPRequestHandler):
    """Repositories are the folders models/owner/name and datasets/owner/name below `root`."""

    root: Path

    def answer(self, *, body: bool) -> None:
        self.server.asked.append(self.path)
        parts = self.path.strip("/").split("/")
        if parts[0] == "api":                                                    # /api/models/owner/name/revision/main, or tree/commit
            folder = self.root.joinpath(*parts[1:4])
            files = [{"type": "file", "path": str(file.relative_to(folder)), "size": file.stat().st_size, "oid": file.name}
                     for file in sorted(folder.rglob("*")) if file.is_file()]
            content = json.dumps(files if parts[4] == "tree" else {"id": "/".join(parts[2:4]), "sha": COMMIT}).encode()
        else:                                                                    # [/datasets]/owner/name/resolve/commit/file
            kind = ["datasets"] if parts[0] == "datasets" else ["models"]
            parts = parts[parts[0] == "datasets":]
            folder, content = self.root.joinpath(*kind, *parts[:2]), None
            file = folder.joinpath(*parts[4:])
            content = file.read_bytes() if file.is_file() else None
        if not folder.is_dir() or content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            return
        self.send_response(200)
        for name, value in (("Content-Length", len(content)), ("ETag", f'"{len(content)}"'), ("X-Repo-Commit", COMMIT)):
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (LocalHub,), {"root": tmp_path / "hub"}))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def in_a_process(server: ThreadingHTTPServer, code: str, tmp_path: Path) -> str:
    """What a process prints that may ask the hub; the client reads its settings when it is imported, so it takes one of its own."""
    here = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "home"),
            "R1_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(Path(hub.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | here, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_is_fetched_once_and_then_found_without_the_hub(served, tiny_policy: Policy, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "hub" / "models" / "owner" / "tiny"
    tiny_policy.save(folder)
    for name in ("modeling_tiny.py", "pytorch_model.bin", "original/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("never fetched")
    said = in_a_process(served, "from r1lib import stages; print(stages.base_folder('owner/tiny'))", tmp_path)
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    there = paths.bases() / "owner--tiny"
    assert said.splitlines() == ["owner/tiny: fetched from the hub", str(there)]
    assert {file.name for file in there.iterdir() if not file.name.startswith(".")} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert not [path for path in served.asked if "never" in path or path.endswith((".py", ".bin"))]
    asked = len(served.asked)
    read = Policy.load(stages.base_folder("owner/tiny"))
    assert read.decode(read.encode(["the 12"])[0]) == "the 12" and len(served.asked) == asked


def test_a_file_of_a_data_set_is_fetched_once(served, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "hub" / "datasets" / "owner" / "sums" / "main" / "train.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(PROBLEM) + "\n")
    address = "hf://datasets/owner/sums/main/train.jsonl"
    said = in_a_process(served, f"from r1lib.tasks import benchmarks; print(benchmarks.read('gsm8k', {address!r})[0].gold)", tmp_path)
    assert said.splitlines() == [f"{address}: fetched from the hub", "12"]
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    assert benchmarks.read("gsm8k", address)[0].question == PROBLEM["question"]


def test_what_the_hub_does_not_have_is_one_line(served, tiny_policy: Policy, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models" / "owner" / "pickled"
    tiny_policy.save(folder)
    (folder / "model.safetensors").unlink()
    code = ("from r1lib import hub\nfrom r1lib.errors import R1Error\n"
            "for name in ('owner/missing', 'owner/pickled'):\n"
            "    try:\n        hub.model_folder(name)\n    except R1Error as error:\n        print(error)")
    missing, pickled = [line for line in in_a_process(served, code, tmp_path).splitlines() if "fetched from the hub" not in line]
    assert missing.startswith("owner/missing: could not be fetched (") and "copy the model to " in missing
    assert pickled == "owner/pickled: has no weights as safetensors on the hub. Take another model."


def test_the_hub_is_not_asked_unless_it_is_allowed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    with pytest.raises(R1Error, match="owner/model: not fetched yet, .*HF_HUB_OFFLINE=0"):
        stages.base_folder("owner/model")
    with pytest.raises(R1Error, match="hf://datasets/o/n/x.json: not fetched yet"):
        benchmarks.read("gsm8k", "hf://datasets/o/n/x.json")
    with pytest.raises(R1Error, match="an address of a data set's file is"):
        benchmarks.read("gsm8k", "hf://owner/name")


@pytest.mark.parametrize("base", ["base-9m", "./owner/model", "../model", "~/model", "a/b/c", "/absolute"])
def test_a_path_is_no_name_of_the_hub(base: str) -> None:
    assert not hub.is_name(base)
    with pytest.raises(R1Error, match="is neither one of"):
        stages.base_folder(base)
