# ruff: noqa: E501 - a mutation is a row of a table
"""Single changes to archives of closed-shaped runs, sealed again: each breaks the rule that it must.

Who changes an archive rebuilds what mlps itself would derive: plan, numbers, verdict, manifest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from closed_runs import FAMILIES, HERE, closed_runs  # noqa: F401 - a fixture

from mlps.engine import archive as files
from mlps.engine.archive import Archive
from mlps.engine.canonical import canonical_json, pretty_json, sha256_hex
from mlps.engine.errors import ArchiveError
from mlps.engine.evidence import overrides_text, read_evidence, read_job
from mlps.engine.job_page import UNDRAWABLE, draw_page
from mlps.engine.plan import make_plan
from mlps.engine.verdict import make_result, make_verdict
from mlps.engine.verify import verify_archive

pytestmark = [pytest.mark.mpi, pytest.mark.xdist_group("closed runs")]


@dataclass(frozen=True)
class Forged:
    """An archive that is being changed. Files are replaced, never written into: they are links."""

    archive: Archive

    def path(self, name: str) -> Path:
        return self.archive.path(name)

    def read(self, name: str) -> Any:
        return json.loads(self.path(name).read_bytes())

    def put(self, name: str, data: bytes) -> None:
        self.path(name).unlink(missing_ok=True)
        self.path(name).write_bytes(data)

    def edit(self, name: str, change: Callable[[Any], object]) -> None:
        document = self.read(name)
        change(document)
        if name == files.JOB:
            self.put(name, canonical_json(document))
        elif name.endswith("/result.json"):
            self.put(name, canonical_json(document) + b"\n")
        else:
            self.put(name, pretty_json(document))

    def stages(self, word: str) -> list[str]:
        return [path.name for path in sorted(self.path("stages").iterdir()) if word in path.name]

    def stage(self, word: str, file: str = files.RESULT) -> str:
        return files.stage_file(self.stages(word)[0], file)

    def result(self, word: str, change: Callable[[Any], object]) -> None:
        self.edit(self.stage(word), change)

    def results(self, word: str, change: Callable[[Any], object]) -> None:
        for name in self.stages(word):
            self.edit(files.stage_file(name, files.RESULT), change)

    def outcome(self, word: str, change: Callable[[Any], object]) -> None:
        self.edit(self.stage(word, files.OUTCOME), change)

    def job(self, change: Callable[[Any], object], *, everywhere: bool = True) -> None:
        """Another job; where `everywhere`, all ranks say that they had it."""
        self.edit(files.JOB, change)
        sha256 = sha256_hex(self.path(files.JOB).read_bytes())
        for name in self.stages("") if everywhere else ():
            self.edit(
                files.stage_file(name, files.OUTCOME),
                lambda outcome: outcome.update(job_sha256={sha256: "0"}),
            )

    # ------------------------------------------------------------ seals

    def rebuild(self) -> None:
        """Everything that mlps derives, as it follows from what is there now."""
        evidence = read_evidence(self.archive)
        document = evidence.spec.document
        self.put(files.PLAN, pretty_json(evidence.plan.as_document()))
        self.put(files.JOB_YAML, files.to_yaml(document))
        self.put(files.SYSTEM, files.to_yaml(document["system"]))
        self.put(files.OVERRIDES, overrides_text(self.read(files.PROVENANCE)["overrides"]))
        for launch in evidence.plan.launches:
            if self.archive.stage(launch.name, files.ARGV).exists():
                self.put(files.stage_file(launch.name, files.ARGV), pretty_json([*launch.argv]))
        self.publish()

    def replan(self) -> None:
        """Only what follows from the job alone: too little is there for numbers."""
        spec = read_job(self.archive)
        environment = self.read(files.ENVIRONMENT)
        plan = make_plan(
            spec,
            python=environment["python"]["executable"],
            program=environment["launcher"]["program"],
            present=environment["rank_variables"],
        )
        self.put(files.PLAN, pretty_json(plan.as_document()))
        self.put(files.JOB_YAML, files.to_yaml(spec.document))
        self.bind()

    def publish(self) -> None:
        """Numbers, verdict and manifest."""
        evidence = read_evidence(self.archive)
        result = make_result(self.archive, evidence)
        self.put(files.RESULT, pretty_json(result))
        _, verdict = make_verdict(self.archive, evidence, result)
        self.put(files.VERDICT, pretty_json(verdict))
        self.draw()
        self.seal()

    def draw(self) -> None:
        """The page that shows the numbers as they are now; none where it cannot be drawn."""
        self.path(files.PAGE).unlink(missing_ok=True)
        with contextlib.suppress(ArchiveError, *UNDRAWABLE):
            archive, evidence = self.archive, read_evidence(self.archive)
            result, verdict = self.read(files.RESULT), self.read(files.VERDICT)
            self.put(files.PAGE, draw_page(archive, evidence, result, verdict))

    def bind(self) -> None:
        """The old numbers and findings, bound to the files as they are now."""
        digests = {
            name: sha256_hex(self.path(name).read_bytes())
            for name in files.file_names(self.archive)
            if name not in (files.VERDICT, files.PAGE)
        }
        self.edit(files.VERDICT, lambda verdict: verdict.update(evidence=digests))
        self.draw()
        self.seal()

    def seal(self) -> None:
        self.put(files.MANIFEST, files.manifest_text(self.archive))

    def leave(self) -> None:
        """No new seal at all."""


@dataclass(frozen=True)
class Mutation:
    name: str
    family: str
    change: Callable[[Forged], object]
    rules: set[str]
    seal: Callable[[Forged], None] = Forged.rebuild


def update(**values: object) -> Callable[[Any], object]:
    return lambda document: document.update(values)


def inside(*keys: object, **values: object) -> Callable[[Any], object]:
    """Change values in a part of a document."""

    def change(document: Any) -> None:
        for key in keys:
            document = document[key]
        document.update(values)

    return change


def scale(factor: float, *keys: object) -> Callable[[Any], object]:
    """Change one number."""

    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = type(document[keys[-1]])(document[keys[-1]] * factor)

    return change


def of_result(word: str, change: Callable[[Any], object]) -> Callable[[Forged], None]:
    return lambda forged: forged.result(word, change)


def of_outcome(word: str, change: Callable[[Any], object]) -> Callable[[Forged], None]:
    return lambda forged: forged.outcome(word, change)


def of_job(change: Callable[[Any], object], everywhere: bool = True) -> Callable[[Forged], None]:
    return lambda forged: forged.job(change, everywhere=everywhere)


def of_file(name: str, change: Callable[[Any], object]) -> Callable[[Forged], None]:
    return lambda forged: forged.edit(name, change)


def swap(one: str, other: str, file: str | None = None) -> Callable[[Forged], None]:
    """Exchange two stages, or a file of theirs."""

    def change(forged: Forged) -> None:
        first, second = (forged.path(f"stages/{forged.stages(word)[0]}") for word in (one, other))
        if file is not None:
            first, second = first / file, second / file
        aside = first.with_name("aside")
        first.rename(aside)
        second.rename(first)
        aside.rename(second)

    return change


def copy_stage(one: str, other: str, change: Callable[[Any], object]) -> Callable[[Forged], None]:
    """One trial's result in the place of another's, with its name and its times put right."""

    def copy(forged: Forged) -> None:
        source = forged.read(forged.stage(one))
        target = forged.read(forged.stage(other))
        source["trial"] = target["trial"]
        source["window"]["start_unix_s"] = target["window"]["start_unix_s"]
        for point in (source.get("vectordb") or {}).get("points", ()):
            point["start_unix_s"] = target["window"]["start_unix_s"]
        change(source)
        forged.put(forged.stage(other), canonical_json(source) + b"\n")

    return copy


def drop_stage(word: str) -> Callable[[Forged], None]:
    return lambda forged: shutil.rmtree(forged.path(f"stages/{forged.stages(word)[-1]}"))


def shift(word: str, by_s: float) -> Callable[[Forged], None]:
    """A stage's measurement at another time."""
    return of_result(
        word,
        lambda result: result["window"].update(
            start_unix_s=result["window"]["start_unix_s"] + by_s
        ),
    )


def slow(epoch: Any) -> None:
    """An epoch in which accelerators waited, told in all of its numbers."""
    counted_s = epoch["block_sum_s"] - epoch["first_step_sum_s"]
    epoch["block_sum_s"] = epoch["first_step_sum_s"] + 9 * counted_s
    for name in ("au_nominal_sum_pct", "au_dlio_sum_pct", "samples_dlio_per_s"):
        epoch[name] /= 9


def fast(epoch: Any) -> None:
    """An utilisation that is better in some of its numbers."""
    for name in ("au_nominal_sum_pct", "au_dlio_sum_pct", "samples_dlio_per_s"):
        epoch[name] *= 1.3


def nothing(_document: Any) -> None:
    """No further change."""


def ticks(
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
) -> Callable[[Forged], None]:
    """Other lines in the time series."""
    import gzip

    def pack(forged: Forged) -> None:
        lines = gzip.decompress(forged.path(files.SERIES_GZ).read_bytes()).splitlines()
        changed = change([json.loads(line) for line in lines])
        text = b"".join(json.dumps(line).encode() + b"\n" for line in changed)
        forged.put(files.SERIES_GZ, gzip.compress(text, 6, mtime=0))

    return pack


def facts(name: str, change: Callable[[Any], object]) -> Callable[[Forged], None]:
    """Other facts of the hosts, in the form in which mlps writes them."""
    from mlps.engine.host_documents import hosts_text, read_hosts

    def edit(forged: Forged) -> None:
        document = forged.read(name)
        change(document)
        forged.put(name, hosts_text(read_hosts(document)))

    return edit


COMMON = [
    # What is not sealed again.
    ("a log changed", lambda f: f.put(f.stage("run", files.STDOUT), b"x"), {"EVD-01"}, Forged.leave),
    ("a file added", lambda f: f.put("notes.txt", b"x"), {"EVD-01"}, Forged.leave),
    ("a result removed", lambda f: f.path(f.stage("run")).unlink(), {"EVD-01"}, Forged.leave),
    (
        "a line of the manifest removed",
        lambda f: f.put(
            files.MANIFEST, b"".join(f.path(files.MANIFEST).read_bytes().splitlines(True)[1:])
        ),
        {"EVD-01"},
        Forged.leave,
    ),
    # Sealed again, and nothing else.
    ("argv", lambda f: f.edit(f.stage("run", files.ARGV), lambda a: a.append("-x")), {"EVD-02"}, Forged.seal),
    ("plan", of_file(files.PLAN, update(ranks=64)), {"EVD-02"}, Forged.seal),
    ("job.yaml", lambda f: f.put(files.JOB_YAML, b"{}\n"), {"EVD-02"}, Forged.seal),
    ("system.yaml", lambda f: f.put(files.SYSTEM, b"name: better\n"), {"EVD-02"}, Forged.seal),
    ("overrides.txt", lambda f: f.put(files.OVERRIDES, b"seed=1\n"), {"EVD-02"}, Forged.seal),
    ("overrides", of_file(files.PROVENANCE, lambda p: p["overrides"].pop()), {"EVD-02"}, Forged.bind),
    ("version", of_file(files.ENVIRONMENT, inside("mlps", version="9")), {"EVD-03"}, Forged.bind),
    ("verdict", of_file(files.VERDICT, update(exit_code=7)), {"EVD-04"}, Forged.seal),
    ("fewer findings", of_file(files.VERDICT, update(findings=[])), {"EVD-04"}, Forged.seal),
    ("verdict's binding", of_file(files.VERDICT, update(evidence={})), {"EVD-04"}, Forged.seal),
    ("published number", of_file(files.RESULT, scale(2, "metrics", 0, "values", "window_s", "mean")), {"EVD-03"}, Forged.bind),
    ("published hosts", of_file(files.RESULT, update(hosts=8)), {"EVD-03"}, Forged.bind),
    ("published trials", of_file(files.RESULT, inside("metrics", 0, trials_planned=9)), {"EVD-03"}, Forged.bind),
    # Everything rebuilt.
    ("a stage that is none", lambda f: (f.path("stages/99-run-9").mkdir(), f.put("stages/99-run-9/x", b"")), {"EVD-06"}),
    ("a file that is none", lambda f: f.put("better.json", b"{}"), {"EVD-06"}),
    ("job of other ranks", of_job(update(seed=43), everywhere=False), {"EVD-02", "EVD-06"}, Forged.replan),
    ("another host", of_outcome("clean", update(hosts=["other"])), {"EVD-06"}),
    ("job begins late", of_file(files.ENVIRONMENT, update(started_utc="2099-01-01T00:00:00+00:00")), {"EVD-05"}),
    ("a failed stage", of_outcome("clean", update(status="failed", reason="exit", message="x")), {"RUN-01"}),
    ("no facts", facts(files.HOSTS_END, update(own={}, shared={}, without_facts={"localhost": "x"})), {"MON-01"}),
    ("started anew", facts(files.HOSTS_END, inside("own", "localhost", "identity", boot_id="0")), {"MON-02"}),
    ("gaps in samples", ticks(lambda t: [t[0], t[1], t[2] | {"missed": 9}, *t[3:]]), {"MON-03"}),
    ("no samples of the host", ticks(lambda t: t[:1]), {"MON-03"}),
    ("a killed sampler", ticks(lambda t: t[:-1]), {"MON-03"}),
]  # fmt: skip

MUTATIONS = [
    *(Mutation(name, FAMILIES[number % 4], *rest) for number, (name, *rest) in enumerate(COMMON)),
    # ------------------------------------------------------------ training
    Mutation("a trial missing", "training", drop_stage("run-4"), {"EVD-06"}, Forged.seal),
    Mutation("trials swapped", "training", swap("run-0", "run-1"), {"EVD-02", "EVD-06"}, Forged.seal),
    Mutation("results swapped", "training", swap("run-0", "run-1", files.RESULT), {"EVD-06"}, Forged.seal),
    Mutation("outcomes swapped", "training", swap("run-0", "run-1", files.OUTCOME), {"EVD-05", "EVD-06"}),
    Mutation("a trial copied", "training", copy_stage("run-0", "run-1", nothing), {"EVD-06"}),
    Mutation("partial ranks", "training", of_outcome("run-0", update(ranks_reported=1)), {"EVD-06"}, Forged.seal),
    Mutation("fewer hosts", "training", of_result("run-0", inside("ranks", hosts=["vm2"])), {"EVD-06"}),
    Mutation("no result", "training", lambda f: f.path(f.stage("run-0")).unlink(), {"EVD-06"}),
    Mutation("low AU", "training", of_result("run-0", lambda r: [slow(e) for e in r["training"]["epochs"]]), {"TRN-02"}),
    Mutation("a better AU", "training", of_result("run-0", scale(1.01, "training", "epochs", 0, "au_nominal_sum_pct")), {"EVD-07"}),
    Mutation("a better AU and rate", "training", of_result("run-0", lambda r: [fast(e) for e in r["training"]["epochs"]]), {"EVD-07"}),
    Mutation("a shorter window", "training", of_result("run-0", inside("window", elapsed_s=0.01)), {"EVD-07"}),
    Mutation("an epoch missing", "training", of_result("run-0", lambda r: r["training"]["epochs"].pop()), {"TRN-06"}),
    Mutation("fewer steps", "training", of_result("run-0", lambda r: r["training"]["epochs"][0].update(steps=3)), {"EVD-07", "TRN-06"}),
    Mutation("dataset too small", "training", of_job(inside("benchmark", "dataset", "train", files=6)), {"EVD-02", "TRN-01", "TRN-08"}),
    Mutation("other files", "training", of_result("generate", inside("dataset", train_files=800)), {"TRN-08"}),
    Mutation("foreign dataset", "training", of_result("generate", inside("dataset", made_by="other")), {"TRN-07"}),
    Mutation("measured too early", "training", shift("run-0", -60), {"EVD-05"}),
    Mutation("measured for longer", "training", of_result("run-0", inside("window", elapsed_s=90.0)), {"EVD-05"}),
    Mutation("bytes of ranks", "training", of_result("run-0", inside("ranks", read_bytes=[1, 1])), {"EVD-07"}),
    Mutation("more bytes", "training", of_result("run-0", scale(2, "io", "read", "window_bytes")), {"EVD-07"}),
    Mutation("more operations", "training", of_result("run-0", scale(2, "io", "read", "window_operations")), {"EVD-06"}),
    Mutation("quick latencies", "training", of_result("run-0", scale(0.01, "io", "read", "latency", "sum")), {"EVD-07"}),
    Mutation("counts of latencies", "training", of_result("run-0", scale(9, "io", "read", "latency", "count", 0)), {"EVD-06"}),
    Mutation("time of steps", "training", of_result("run-0", scale(9, "training", "epochs", 0, "compute_sum_s")), {"EVD-06"}),
    Mutation("another division", "training", of_file(files.PROVENANCE, lambda p: p["values"]["seed"].update({"from": "user"})), {"EVD-02", "JOB-02"}),
    Mutation("stages left out", "training", of_job(update(stages=["generate", "run"])), {"EVD-02", "EVD-06"}, Forged.replan),
    Mutation("mismatches", "training", of_result("generate", inside("verify", mismatches=3)), {"RES-02"}),
    Mutation("preflight skipped", "training", of_file(files.ENVIRONMENT, lambda e: e["preflight"].append({"rule": "CAP-03", "severity": "error", "key": "results_dir", "text": "same file system", "hint": None, "host": None})), {"CAP-03"}),
    # A job that nobody was given: its files and overrides make another one.
    Mutation("fewer epochs asked for", "training", of_job(inside("benchmark", "train", epochs=1)), {"EVD-02", "TRN-06"}),
    Mutation("a shorter computation", "training", of_job(inside("benchmark", "train", computation_s=0.01)), {"EVD-02"}),
    Mutation("a lower AU asked for", "training", of_job(inside("benchmark", au_least_pct=1)), {"EVD-02"}),
    Mutation("another seed", "training", of_job(update(seed=43)), {"EVD-02"}),
    # ------------------------------------------------------------ checkpointing
    Mutation("fewer written", "checkpointing", of_result("write", lambda r: (r["checkpointing"]["checkpoints"].pop(), r["checkpointing"].update(planned=9))), {"CKP-03"}),
    Mutation("fewer read", "checkpointing", of_result("read", lambda r: r["checkpointing"]["checkpoints"].pop()), {"EVD-06"}, Forged.seal),
    Mutation("nine of ten", "checkpointing", of_job(inside("benchmark", writes=9)), {"EVD-02", "CKP-08", "CKP-03"}),
    Mutation("gap too long", "checkpointing", of_result("read", scale(0, "checkpointing", "source", "end_unix_s")), {"CKP-05", "EVD-05"}),
    Mutation("negative gap", "checkpointing", of_result("read", lambda r: r["checkpointing"]["source"].update(end_unix_s=r["window"]["start_unix_s"] + 9)), {"CKP-05", "EVD-05"}),
    Mutation("no fsync", "checkpointing", of_job(lambda j: j["benchmark"]["io"].update(fsync=False)), {"EVD-02", "CKP-06"}),
    Mutation("a part of the bytes", "checkpointing", of_job(inside("benchmark", scale=0.5)), {"EVD-02", "CKP-07"}),
    Mutation("a subset", "checkpointing", of_job(inside("benchmark", "parallelism", mode="subset")), {"EVD-02", "CKP-07"}),
    Mutation("small accelerators", "checkpointing", of_job(inside("benchmark", "accelerator", memory_gib=0.0001)), {"EVD-02", "CKP-01"}),
    Mutation("more accelerators asked for", "checkpointing", of_job(inside("benchmark", "accelerator", count=8)), {"EVD-02", "CKP-02"}),
    Mutation("no eviction", "checkpointing", of_result("read", lambda r: [c.update(resident_pct=50.0) for c in r["checkpointing"]["checkpoints"]]), {"CKP-04"}),
    Mutation("smaller checkpoints", "checkpointing", of_result("write", scale(0.5, "checkpointing", "checkpoints", 0, "bytes")), {"EVD-06"}, Forged.seal),
    Mutation("impossible times", "checkpointing", of_result("write", scale(0.001, "checkpointing", "checkpoints", 0, "wall_s")), {"EVD-06"}, Forged.seal),
    Mutation("read before written", "checkpointing", shift("read", -30), {"EVD-05", "CKP-05"}),
    Mutation("buffered", "checkpointing", of_result("read", inside("core", direct_refused="EINVAL")), {"RES-03"}),
    Mutation("not what was written", "checkpointing", of_result("read", inside("verify", mismatches=1)), {"RES-02"}),
    Mutation("nothing compared", "checkpointing", of_result("read", inside("verify", operations=0)), {"RES-02"}),
    Mutation("more compared than read", "checkpointing", of_result("read", scale(3, "verify", "bytes")), {"EVD-07"}),
    Mutation("ranks on more hosts", "checkpointing", of_result("read", inside("ranks", host_index=[0, 0, 0, 1, 1], hosts=["a", "b"])), {"EVD-06"}),
    # ------------------------------------------------------------ kvcache
    Mutation("an option dropped", "kvcache", of_job(lambda j: j["benchmark"]["options"].pop()), {"EVD-02", "EVD-06"}),
    Mutation("a trial copied", "kvcache", copy_stage("run-option_1-0", "run-option_1-2", nothing), {"EVD-06"}),
    Mutation("a trial missing", "kvcache", drop_stage("run-option_3-2"), {"EVD-06"}, Forged.seal),
    Mutation("options swapped", "kvcache", swap("run-option_1-0", "run-option_2-0"), {"EVD-02", "EVD-06"}, Forged.seal),
    Mutation("shorter", "kvcache", of_result("run-option_1-0", inside("window", length_s=0.1)), {"EVD-03"}, Forged.bind),
    Mutation("a window of others' counters", "kvcache", of_result("run-option_1-0", inside("device", 0, "window", length_s=3.0)), {"EVD-07"}),
    Mutation("overloaded", "kvcache", of_result("run-option_1-0", inside("details", overloaded=True)), {"RES-09"}),
    Mutation("no bytes", "kvcache", of_result("run-option_1-0", lambda r: (r.update(io={}, timeline=None, verify=r["verify"] | {"bytes": 0}), r["ranks"].update(read_bytes=[0], write_bytes=[0], operations=[0]))), {"RES-01"}),
    Mutation("no storage", "kvcache", of_result("run-option_1-0", inside("core", name="noop")), {"RES-10"}),
    Mutation("a slow core", "kvcache", of_result("run-option_1-0", lambda r: r["core"].update(refused=[{"core": "uring", "reason": "seccomp"}])), {"RES-12"}),
    Mutation("an endless latency", "kvcache", of_result("run-option_1-0", inside("io", "read", "latency", max=10**12)), {"RES-04"}),
    Mutation("more in the timeline", "kvcache", of_result("run-option_1-0", scale(2, "timeline", "read_bytes", 0)), {"EVD-07"}),
    Mutation("operations of ranks", "kvcache", of_result("run-option_1-0", inside("ranks", operations=[9])), {"EVD-07"}),
    Mutation("a class of sizes", "kvcache", of_result("run-option_1-0", scale(99, "sizes", "read", 0, "bytes")), {"EVD-06"}, Forged.seal),
    Mutation("another model", "kvcache", of_job(inside("benchmark", model="mistral-7b")), {"EVD-02"}),
    Mutation("fewer users", "kvcache", of_job(lambda j: j["benchmark"]["options"][0]["set"].update(users=1)), {"EVD-02"}),
    Mutation("a shorter window asked for", "kvcache", of_job(inside("benchmark", duration_s=0.1)), {"EVD-02"}),
    Mutation("an override hidden", "kvcache", of_file(files.PROVENANCE, lambda p: (p["overrides"].append("benchmark.users=3"))), {"EVD-02"}),
    Mutation("an origin hidden", "kvcache", of_file(files.PROVENANCE, lambda p: p["values"]["benchmark.users"].update({"from": "user"})), {"EVD-02"}),
    Mutation("other official files", "kvcache", of_file(files.PROVENANCE, lambda p: p["choices"]["division"].update(sha256="0" * 64)), {"EVD-02"}),
    # ------------------------------------------------------------ vectordb
    Mutation("no recall", "vectordb", of_result("run-0", lambda r: r["vectordb"]["points"][0]["recall"].update(mean=0.0)), {"VDB-06"}),
    Mutation("recall unknown", "vectordb", of_result("run-0", lambda r: r["vectordb"]["points"][0].update(recall=None)), {"VDB-06"}),
    Mutation("a copied run", "vectordb", copy_stage("run-0", "run-3", nothing), {"EVD-06"}),
    Mutation("four runs", "vectordb", of_job(update(trials=4)), {"EVD-02", "EVD-06"}, Forged.replan),
    Mutation("queries in less time", "vectordb", of_result("run-0", lambda r: r["vectordb"]["points"][0].update(elapsed_s=0.05)), {"EVD-07"}),
    Mutation("other dimension", "vectordb", of_result("run-0", inside("vectordb", "dataset", dimension=64)), {"VDB-02"}),
    Mutation("fewer inserted", "vectordb", of_result("load", inside("vectordb", "load", inserted=400)), {"VDB-03"}),
    Mutation("another index", "vectordb", of_result("run-0", inside("vectordb", "backend", "build", nlist=99)), {"VDB-04"}),
    Mutation("few queries", "vectordb", of_result("run-0", lambda r: (r["vectordb"]["points"][0].update(queries=2))), {"VDB-07"}),
    Mutation("other truth", "vectordb", of_result("truth", inside("vectordb", "queries", sha256="0" * 64)), {"VDB-08"}),
    Mutation("strange answers", "vectordb", of_result("run-0", lambda r: r["vectordb"]["points"][0]["answers"].update(foreign_ids=3)), {"VDB-11"}),
    Mutation("more requests", "vectordb", of_result("run-0", inside("ranks", requests=[10**6])), {"EVD-07"}),
    Mutation("an unscored scale", "vectordb", of_job(inside("benchmark", "dataset", num_vectors=400)), {"EVD-02", "VDB-01", "VDB-02"}),
    Mutation("an unscored backend", "vectordb", of_job(inside("benchmark", "database", backend="zvec")), {"EVD-02", "VDB-13"}),
    Mutation("a short run", "vectordb", of_job(inside("benchmark", "run", runtime_s=0.1)), {"EVD-02", "VDB-07"}),
    Mutation("warm", "vectordb", of_job(inside("benchmark", "cache", mode="warm")), {"EVD-02", "VDB-10"}),
]  # fmt: skip


def told(checked: Any) -> set[tuple[str, str, str]]:
    return {(each.rule, each.severity, each.key) for each in (*checked.findings, *checked.judged)}


@pytest.fixture(scope="module", autouse=True)
def limits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPS_CONF_PATH", str(HERE / "small_conf"))
        yield


@pytest.fixture(scope="module")
def untouched(closed_runs, limits):  # noqa: F811
    """What verification says of each archive before it is changed."""
    return {family: verify_archive(path) for family, path in closed_runs.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_closed_shaped_run_is_valid(untouched, family):
    checked = untouched[family]
    assert (checked.exit_code, checked.verdict, checked.findings) == (0, "CLOSED", ())
    assert [finding for finding in checked.judged if finding.severity == "error"] == []
    assert "JOB-05" in {finding.rule for finding in checked.judged}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: f"{each.family}: {each.name}")
def test_a_mutation_breaks_the_rule_that_it_must(closed_runs, untouched, tmp_path, mutation):  # noqa: F811
    source = closed_runs[mutation.family]
    root = Path(shutil.copytree(source, tmp_path / source.name, copy_function=os.link))
    forged = Forged(Archive(root=root))
    mutation.change(forged)
    mutation.seal(forged)
    checked = verify_archive(root)
    new = told(checked) - told(untouched[mutation.family])
    assert {rule for rule, _, _ in new} == mutation.rules, checked.findings


def test_there_are_enough_mutations_of_each_family():
    assert len(MUTATIONS) >= 80
    assert {mutation.family for mutation in MUTATIONS} == set(FAMILIES)
