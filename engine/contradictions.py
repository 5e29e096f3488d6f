"""Where numbers of one stage's result contradict each other. Pure.

An engine tells most things twice: of each rank and of all, as bytes and as a rate, by its own clock
and by that of who reads the counters. One number cannot be made better alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from .canonical import Document

# Counters are read when ranks have told each other that the window begins, and that it has ended.
WINDOW_SLACK_S = 1.0
WINDOW_SLACK = 0.05
# Rounded stamps.
ROUNDING = 1e-3
ROUNDING_S = 0.05
# What times that are told as sums of ranks leave open.
TIMES_SLACK = 0.1


def contradictions(result: Document) -> Iterator[str]:
    """What cannot be true of a stage, in words."""
    for direction, moved in sorted(result["io"].items()):
        yield from _direction(direction, moved, result)
    yield from _operations(result)
    yield from _windows(result)
    yield from _training(result)
    yield from _searches(result)


def _direction(direction: str, moved: Document, result: Document) -> Iterator[str]:
    # A rank tells what it moved in the window that all ranks share.
    of_ranks = result["ranks"].get(f"{direction}_bytes")
    if of_ranks is not None and sum(of_ranks) != moved["window_bytes"]:
        yield (
            f"{direction}: ranks moved {sum(of_ranks)} bytes in the window, all together "
            f"{moved['window_bytes']}"
        )
    binned = sum((result.get("timeline") or {}).get(f"{direction}_bytes", ()))
    if binned > moved["window_bytes"]:
        yield f"{direction}: {binned} bytes in the timeline, {moved['window_bytes']} in all"
    for unit in ("bytes", "operations"):
        if moved[f"window_{unit}"] > moved[f"total_{unit}"]:
            yield (
                f"{direction}: {moved[f'window_{unit}']} {unit} in the window, "
                f"{moved[f'total_{unit}']} in all"
            )
    latency = moved["latency"]
    counted = sum(latency["count"])
    if counted and not latency["min"] * counted <= latency["sum"] <= latency["max"] * counted:
        yield f"{direction}: latencies sum up to what their least and greatest do not allow"


def _operations(result: Document) -> Iterator[str]:
    io, of_ranks = result["io"], result["ranks"].get("operations")
    if io and of_ranks is not None:
        done = sum(moved["window_operations"] for moved in io.values())
        if sum(of_ranks) != done:
            yield f"ranks did {sum(of_ranks)} operations, all together {done}"
    compared = result["verify"]["bytes"]
    if "read" in io and compared > io["read"]["total_bytes"]:
        yield f"{compared} bytes were compared, {io['read']['total_bytes']} were read"


def _windows(result: Document) -> Iterator[str]:
    """The window by the ranks' clocks, and by that of who reads the counters of a host."""
    window = result["window"]
    if window is None:
        return
    parts_s = window["ramp_s"] + window["length_s"] + window["drain_s"]
    if parts_s > window["elapsed_s"] + ROUNDING_S:
        yield f"ramp, window and drain of {parts_s:.3f} s lasted {window['elapsed_s']:.3f} s"
        return
    slack_s = WINDOW_SLACK_S + WINDOW_SLACK * window["length_s"]
    for kind in ("device", "mount", "network"):
        for counted in result.get(kind) or ():
            length_s = (counted.get("window") or {}).get("length_s", window["length_s"])
            if abs(length_s - window["length_s"]) > slack_s:
                yield (
                    f"the window lasted {window['length_s']:.2f} s, counters of {kind} were read "
                    f"{length_s:.2f} s apart"
                )
                return


def _training(result: Document) -> Iterator[str]:
    """Utilisation, which the engine computes, against the times and rates that it tells beside."""
    training = result.get("training")
    if training is None:
        return
    ranks, computation_s = len(result["ranks"]["host_index"]), training["computation_s"]
    for epoch in training["epochs"]:
        told_pct, where = epoch["au_nominal_sum_pct"], f"epoch {epoch['epoch']}"
        by_rate_pct = 100 * computation_s * epoch["samples_dlio_per_s"] / training["batch"]
        if abs(told_pct - by_rate_pct) > ROUNDING * by_rate_pct + ROUNDING:
            yield (
                f"{where}: utilisation of {told_pct / ranks:.2f} %, its samples per second make it "
                f"{by_rate_pct / ranks:.2f} %"
            )
        counted_s = epoch["block_sum_s"] - epoch["first_step_sum_s"]
        if epoch["steps"] < 2 or counted_s < ROUNDING_S * ranks:
            continue
        least_pct = 100 * (epoch["steps"] - 1) * computation_s * ranks / counted_s
        most_pct = _most_utilisation_pct(least_pct, epoch["au_nominal_worst_pct"])
        if not (1 - TIMES_SLACK) * least_pct <= told_pct / ranks <= (1 + TIMES_SLACK) * most_pct:
            yield (
                f"{where}: utilisation of {told_pct / ranks:.2f} %, its times make it "
                f"{least_pct:.2f} %" + (f" to {most_pct:.2f} %" if most_pct > least_pct else "")
            )


def _most_utilisation_pct(least_pct: float, worst_pct: float) -> float:
    """The most that ranks have on average whose mean time makes `least_pct`, the worst `worst_pct`.

    A rank's utilisation is the time that it computes over all of its time, which is convex: the
    mean over ranks is least where all times are equal, and most where each is the longest or none
    but that of computing (Jensen).
    """
    if not 0 < worst_pct < least_pct < 100:
        return least_pct
    mean, longest = 100 / least_pct, 100 / worst_pct  # in times that of computing
    quick = (longest - mean) / (longest - 1)
    return 100 * quick + worst_pct * (1 - quick)


def _searches(result: Document) -> Iterator[str]:
    """Requests of all ranks and of each; clients that wait for answers, and how long they did."""
    section = result.get("vectordb")
    if section is None or section["does"] != "run":
        return
    points = section["points"]
    if "requests" in result["ranks"]:
        of_ranks = sum(result["ranks"]["requests"])
        told = sum(point["requests"] for point in points)
        more = sum(point["failed_requests"] + point["late_requests"] for point in points)
        if not told <= of_ranks <= told + more:
            yield f"ranks had {of_ranks} requests, all together {told}"
    for point in points:
        latency = point["latency"]
        if point["target_qps"] is not None or latency["max"] is None:
            continue
        waited_s, longest_s = latency["sum"] / 1e9, latency["max"] / 1e9
        had_s = point["clients"] * (point["elapsed_s"] + longest_s + ROUNDING_S)
        if waited_s > had_s:
            yield (
                f"{point['clients']} clients waited {waited_s:.2f} s for answers in "
                f"{point['elapsed_s']:.2f} s"
            )
