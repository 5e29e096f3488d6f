"""What the files of a run hold, with upstream's names and keys, from an archive alone.

Sizes and rates have upstream's units: what is called MB, GB and gbps is 2^20 and 2^30 bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from .. import archive as archives
from ..aggregate import aggregates
from ..archive import Archive
from ..canonical import Document, canonical_json, pretty_json, sha256_hex
from ..checkpoint_summary import checkpoint_summaries
from ..evidence import Evidence
from ..host_documents import totals
from ..plan import Launch
from ..training_job import training_jobs
from ..training_metrics import datasets
from ..training_summary import training_summary
from ..tree.layout import FAMILY_DIRECTORIES
from ..units import GIB
from ..vector_job import vector_jobs
from ..vector_summary import vector_summaries
from .leaves import Place, Run, accelerator_of

LAYOUT_VERSION = 3
POINTER = ".mlps-code-image"
_DLIO_STAMP = "%Y-%m-%dT%H:%M:%S.%f"

Files = Iterator[tuple[str, bytes]]


def run_files(archive: Archive, evidence: Evidence, place: Place, run: Run) -> Files:
    """Name below the directory of a run, and content, of each of its files.

    Raises ArchiveError where a log of the archive cannot be read.
    """
    environment = archives.read_document(archive.path(archives.ENVIRONMENT))
    prefix = FAMILY_DIRECTORIES[run.leaf.family]
    metadata = metadata_of(evidence, run)
    yield f"{prefix}_{run.stamp}_metadata.json", pretty_json(metadata)
    if environment.get("fs_separation") is not None:
        yield "fs_separation.json", pretty_json(environment["fs_separation"])
    yield "provenance.json", pretty_json(provenance_of(archive, evidence, place, run))
    if place.image is not None:
        yield POINTER, f"{place.image}\n".encode()
    match run.leaf.family, run.leaf.phase:
        case "training", "datasize":
            return
        case "training", phase:
            yield from _logs(archive, run.launches[0], f"training_{phase}")
            yield from _dlio_config(evidence, run)
            if phase == "run":
                yield from _training_run(evidence, run)
        case "checkpointing", _:
            yield from _logs(archive, run.launches[0], "checkpointing_run")
            yield from _dlio_config(evidence, run)
            yield from _checkpointing(evidence, run)
        case "kvcache", _:
            yield from _kvcache(archive, evidence, run)
        case "vectordb", phase:
            yield from _logs(archive, run.launches[0], f"vector_database_{phase}_simple_mpi")
            yield from _search(evidence, run)


# ---------------------------------------------------------------- every family


def metadata_of(evidence: Evidence, run: Run) -> Document:
    """The metadata of an invocation; paths are relative to its directory."""
    prefix = FAMILY_DIRECTORIES[run.leaf.family]
    overrides = {
        key: _value_at(evidence.spec.document, key)
        for key, origin in sorted(evidence.origins.items())
        if origin.kind == "override" and key.startswith("benchmark.")
    }
    sums = totals(evidence.hosts_start)
    return {
        "benchmark_type": prefix,
        "model": run.leaf.model,
        "command": run.leaf.phase or "run",
        "run_datetime": run.stamp,
        "num_processes": run.launches[0].ranks,
        "accelerator": accelerator_of(evidence),
        "result_dir": ".",
        "parameters": _parameters(evidence),
        "mlps_parameters": evidence.spec.document["benchmark"],
        "mlps_override_parameters": overrides,
        "override_parameters": {},
        "system_info": {
            "total_memory_bytes": sums.memory_bytes,
            "total_cores": sums.cores,
            "num_hosts": sums.hosts,
            "min_memory_bytes": sums.least_memory_bytes,
            "max_memory_bytes": sums.most_memory_bytes,
            "collection_method": "mlps",
            "hosts": [
                {"hostname": name, "memory": facts["memory"], "cpu": facts["cpu"]}
                for name, facts in evidence.hosts_start.facts.items()
            ],
        },
        "runtime": (run.ended - run.started).total_seconds(),
        "verification": run.leaf.division.upper(),
        "executed_command": shlex.join(run.launches[0].argv),
        "invocation_start_time": run.started.isoformat(),
        "invocation_end_time": run.ended.isoformat(),
        "exit_status": 0,
        "provenance_file": "provenance.json",
    }


def provenance_of(archive: Archive, evidence: Evidence, place: Place, run: Run) -> Document:
    """Which archive, stages and trials a run is of, and what the configuration at its core is."""
    core = core_config(evidence)
    return {
        "schema": "mlps-run-provenance/1",
        "rules_edition": evidence.spec.edition,
        "layout_version": LAYOUT_VERSION,
        "tool": {
            "name": "mlps",
            "version": evidence.version,
            "git_sha": "unknown",
            "code_image": place.image or "unknown",
        },
        "core_config": {"algorithm": "sha256", "hash": sha256_hex(canonical_json(core))},
        "archive": {
            "run_id": archive.run_id,
            "path": f".mlps/archives/{archive.run_id}",
            "manifest_sha256": sha256_hex(archives.read_bytes(archive.path(archives.MANIFEST))),
            "job_sha256": evidence.plan.job_sha256,
            "stages": [
                {"name": each.name, "option": each.option, "trial": each.trial}
                for each in run.launches
            ],
        },
    }


def core_config(evidence: Evidence) -> Document:
    """The benchmark's own keys; where data stand and how a site is reached is no part of it."""
    benchmark = evidence.spec.document["benchmark"]
    return {key: benchmark[key] for key in sorted(benchmark) if key != "directory"}


def _value_at(document: Document, key: str) -> object:
    value: object = document
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _parameters(evidence: Evidence) -> Document:
    if evidence.spec.family == "training":
        return _dlio_workload(evidence)
    return {}


def _logs(archive: Archive, launch: Launch, stem: str) -> Files:
    for kind, name in (("stdout", archives.STDOUT), ("stderr", archives.STDERR)):
        path = archive.stage(launch.name, name)
        yield f"{stem}.{kind}.log", archives.read_bytes(path) if path.is_file() else b""


# ---------------------------------------------------------------- training and checkpointing


def _dlio_config(evidence: Evidence, run: Run) -> Files:
    name = evidence.spec.benchmark.rpartition("/")[2]
    workload = _dlio_workload(evidence)
    lines = [f"workload={name}"]
    hydra = {"hydra": {"job": {"name": "mlps"}, "overrides": {"task": lines}}}
    yield "dlio_config/config.yaml", archives.to_yaml({"workload": workload})
    yield "dlio_config/overrides.yaml", "".join(f"- {line}\n" for line in lines).encode()
    yield "dlio_config/hydra.yaml", archives.to_yaml(hydra)
    yield (
        "dlio.log",
        f"mlps {evidence.version}, {', '.join(e.name for e in run.launches)}\n".encode(),
    )


def _dlio_workload(evidence: Evidence) -> Document:
    """The settings by the names that DLIO has for them."""
    benchmark = evidence.spec.document["benchmark"]
    name = evidence.spec.benchmark.rpartition("/")[2]
    if evidence.spec.family == "checkpointing":
        return {
            "model": {"name": name, **benchmark["model"]},
            "checkpoint": {
                "num_checkpoints_write": benchmark["writes"],
                "num_checkpoints_read": benchmark["reads"],
                "fsync": benchmark["io"]["fsync"],
                "mode": benchmark["parallelism"]["mode"],
            },
        }
    dataset, train = benchmark["dataset"], benchmark["train"]
    return {
        "model": {"name": name.rpartition("_")[0] or name},
        "workflow": {"generate_data": False, "train": True, "checkpoint": False},
        "dataset": {
            "format": dataset["format"],
            "num_files_train": dataset["train"]["files"],
            "num_subfolders_train": dataset["train"]["subfolders"],
            "num_samples_per_file": dataset["samples_per_file"],
            "record_length_bytes": dataset["record_bytes"],
            "record_length_bytes_stdev": dataset["record_bytes_stdev"],
        },
        "reader": {
            "batch_size": benchmark["reader"]["batch"],
            "read_threads": benchmark["reader"]["threads"],
            "odirect": benchmark["reader"]["direct"],
        },
        "train": {"epochs": train["epochs"], "computation_time": train["computation_s"]},
        "metric": {"au": benchmark["au_least_pct"] / 100},
    }


def _training_run(evidence: Evidence, run: Run) -> Files:
    launch = run.launches[0]
    result = evidence.results[launch.name]
    jobs = {job.option: job for job in training_jobs(evidence.spec)}
    made = datasets(evidence.plan, evidence.outcomes, evidence.results)
    dataset = made[launch.name][1] if launch.name in made else None
    job = jobs.get(launch.option) or next(iter(jobs.values()))
    summary = training_summary(job, dataset, result, evidence.hosts_start)
    yield "summary.json", pretty_json(summary)
    yield "0_output.json", pretty_json({"training": result["training"]})
    epochs = {
        str(epoch["epoch"]): _block(result, epoch["start_s"], epoch["wall_s"], inner="block1")
        for epoch in result["training"]["epochs"]
    }
    yield "0_per_epoch_stats.json", pretty_json(epochs)


def _checkpointing(evidence: Evidence, run: Run) -> Files:
    told = (evidence.outcomes, evidence.results, evidence.hosts_start)
    wanted = {launch.name for launch in run.launches}
    for name, summary in checkpoint_summaries(evidence.plan, *told):
        if name in wanted:
            yield "summary.json", pretty_json(summary)
            break
    sections = {each.name: evidence.results[each.name]["checkpointing"] for each in run.launches}
    yield "0_output.json", pretty_json(sections)
    blocks = {
        f"{sections[each.name]['does']}_{entry['number']}": _block(
            evidence.results[each.name], entry["start_s"], entry["wall_s"]
        )
        for each in run.launches
        for entry in sections[each.name]["checkpoints"]
    }
    yield "0_per_epoch_stats.json", pretty_json({"1": blocks})


def _block(result: Document, start_s: float, length_s: float, inner: str = "") -> Document:
    """Start and end of a block in UTC, and its length as text, as DLIO has it."""
    start = result["window"]["start_unix_s"] + start_s
    moments = {"start": _moment(start), "end": _moment(start + length_s)}
    block: Document = {**moments, "duration": f"{length_s:.2f}"}
    return {"start": block["start"], inner: block, **block} if inner else block


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime(_DLIO_STAMP)


# ---------------------------------------------------------------- KV cache


def _kvcache(archive: Archive, evidence: Evidence, run: Run) -> Files:
    told = aggregates(evidence.plan, evidence.outcomes, evidence.results)
    numbers = _option_numbers(evidence)
    options = {
        numbers[each["option"]]: {"option": numbers[each["option"]], **each, "name": each["option"]}
        for each in told
    }
    options = {number: {**values, "option": number} for number, values in sorted(options.items())}
    ranks = evidence.plan.ranks
    hosts = len(evidence.plan.hosts)
    partial = any(each["partial_failure"] for each in told)
    summary = {
        "schema_version": "1.0",
        "run_datetime": run.stamp,
        "npernode": ranks // hosts,
        "host_count": hosts,
        "total_ranks": ranks,
        "trials_per_option": evidence.spec.trials,
        "options": options,
        "partial_failure": partial,
        "trial_failures": {},
    }
    yield "summary.json", pretty_json(summary)
    for number, values in options.items():
        yield f"option_{number}_results.json", pretty_json(values)
    for launch in run.launches:
        number, trial = numbers[launch.option], launch.trial or 0
        yield from _logs(archive, launch, f"kvcache_opt{number}_trial{trial}_{run.stamp}")
        result = evidence.results[launch.name]
        for rank in range(launch.ranks):
            place = f"option_{number}/trial_{trial}/rank_{rank}"
            document = _rank_result(evidence, result, rank)
            yield f"{place}/kvcache_results_{run.stamp}.json", pretty_json(document)


def _option_numbers(evidence: Evidence) -> Mapping[str | None, str]:
    """The number of each option, from 1, in the order of the job."""
    names: Sequence[str | None] = evidence.spec.options or (None,)
    return {name: str(number) for number, name in enumerate(names, 1)}


def _rank_result(evidence: Evidence, result: Document, rank: int) -> Document:
    """What an archive holds of one rank; latencies of all ranks are merged and not told apart."""
    ranks, window = result["ranks"], result["window"]
    length_s = window["length_s"]
    tokens, storage_s = ranks["generated_tokens"][rank], ranks["storage_s"][rank]
    read, written = ranks["read_bytes"][rank], ranks["write_bytes"][rank]
    return {
        "requests_completed": ranks["requests"][rank],
        "total_tokens_generated": tokens,
        "total_storage_io_latency": storage_s,
        "seed": evidence.spec.document["seed"],
        "summary": {
            "total_requests": ranks["requests"][rank],
            "total_tokens": tokens,
            "elapsed_time": length_s,
            "avg_throughput_tokens_per_sec": tokens / length_s,
            "storage_throughput_tokens_per_sec": tokens / storage_s if storage_s > 0 else 0.0,
            "requests_per_second": ranks["requests"][rank] / length_s,
            "total_storage_io_time": storage_s,
            "end_to_end_latency_ms": {"p95": _ms(ranks["request_p95_ns"][rank])},
            "cache_stats": {
                "tier_storage_kv_bytes_read_gb": read / GIB,
                "tier_storage_kv_bytes_written_gb": written / GIB,
                "tier_storage_read_bandwidth_gbps": read / GIB / length_s,
                "tier_storage_write_bandwidth_gbps": written / GIB / length_s,
                "total_read_bytes": read,
                "total_write_bytes": written,
                "storage_read_device_p95_ms": _ms(ranks["entry_read_p95_ns"][rank]),
                "storage_write_device_p95_ms": _ms(ranks["entry_write_p95_ns"][rank]),
            },
        },
    }


def _ms(value_ns: int | None) -> float | None:
    return None if value_ns is None else value_ns / 1e6


# ---------------------------------------------------------------- vector search


def _search(evidence: Evidence, run: Run) -> Files:
    name = run.launches[0].name
    jobs = vector_jobs(evidence.spec)
    for launch, documents in vector_summaries(
        evidence.plan, jobs, evidence.outcomes, evidence.results
    ):
        if launch == name:
            yield "summary.json", pretty_json(documents["summary.json"])
            if "statistics.json" in documents:
                statistics = documents["statistics.json"]
                yield "vectordb/simple/statistics.json", pretty_json(statistics)
                yield "recall_stats.json", pretty_json(statistics["recall"])
                yield "result_verdict.json", pretty_json(_verdict(evidence, run))


def _verdict(evidence: Evidence, run: Run) -> Document:
    """Whether the nearest neighbours that recall is measured against are all known."""
    truths = [
        section["truth"]
        for launch in evidence.plan.launches
        if launch.index < run.launches[0].index
        and (section := evidence.results.get(launch.name, {}).get("vectordb"))
        and section["truth"]
    ]
    covered = truths[-1]["covered"] if truths else None
    return {
        "flat_setup": {"ok": covered is not None and covered >= 1.0, "coverage": covered},
        "partial_failure": False,
    }
