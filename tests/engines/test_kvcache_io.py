"""The comparison with fio and with the upstream script, on small files and for a moment."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kvcache_io.py"
MIB = 2**20

# Takes the documented options, writes 3 entries, reads them twice, and says so.
UPSTREAM = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
for name in ("config model num-users duration gpu-mem-gb cpu-mem-gb max-concurrent-allocs"
             " generation-mode seed storage-capacity-gb cache-dir output").split():
    parser.add_argument("--" + name, required=True)
chosen = parser.parse_args()
assert chosen.config == str(pathlib.Path(__file__).with_name("config.yaml"))
assert pathlib.Path(chosen.cache_dir).is_dir()
stats = {"read_iops": 6, "write_iops": 3,
         "tier_storage_kv_bytes_read_gb": 6 / 1024, "tier_storage_kv_bytes_written_gb": 3 / 1024}
pathlib.Path(chosen.output).write_text(json.dumps({"summary": {"cache_stats": stats}}))
"""


@pytest.fixture
def script(monkeypatch):
    """The benchmark with files of 8 MiB and one block size."""
    # As Python does for a script that it is started with.
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("kvcache_io", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "kvcache_io", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FILE_BYTES", 8 * MIB)
    monkeypatch.setattr(module, "CELLS", module.CELLS[:2])
    return module


@pytest.mark.skipif(shutil.which("fio") is None, reason="there is no fio")
def test_every_cell_has_a_line_and_nothing_is_left_behind(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["kvcache_io", str(tmp_path), "--pairs", "1", "--seconds", "0.2"]
    )
    script.main()
    huge, header, read, write, *_ = capsys.readouterr().out.splitlines()
    assert huge.startswith("transparent huge pages: ")
    assert header.split()[:2] == ["fio", "GiB/s"]
    assert read.startswith("read 128 KiB QD 32")
    assert write.startswith("write 128 KiB QD 32")
    assert float(write.split()[-1]) > 0
    assert list(tmp_path.iterdir()) == []


def test_the_upstream_script_is_compared_at_equal_bytes(script, tmp_path, capsys):
    upstream = tmp_path / "kv-cache.py"
    upstream.write_text(UPSTREAM)
    paths = script.make_files(tmp_path, 1)
    script.carry_out(paths, script.all_rows(1, MIB), script.settings_of(MIB, 8))
    script.compare_with_upstream(upstream, paths, tmp_path, 1, seed=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:5] == ["kv-cache.py", "6", "0.01", "3", "0.00"]
    assert lines[3].split()[:5] == ["executor", "6", "0.01", "3", "0.00"]
    assert lines[4].startswith("CPU s/GiB: kv-cache.py / executor ")


def test_an_upstream_script_that_fails_is_shown(script, tmp_path):
    upstream = tmp_path / "kv-cache.py"
    upstream.write_text("raise SystemExit('no such model')")
    with pytest.raises(SystemExit, match="no such model"):
        script.upstream_run(upstream, tmp_path, 1, 1)
