"""Reading traces: as streams, in order, and with a clear word about what is broken."""

from __future__ import annotations

import hashlib
import json
import random
import tracemalloc
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.kvcache_native import json_list
from mlps.engines.kvcache_native.json_list import json_elements
from mlps.engines.kvcache_native.traces import (
    BLOCK_IDS,
    Findings,
    TraceRequest,
    TraceSource,
    read_trace,
    replay,
    survey_trace,
)


def mooncake(timestamp, input_length, hash_ids, output_length=10):
    return json.dumps(
        {
            "timestamp": timestamp,
            "input_length": input_length,
            "output_length": output_length,
            "hash_ids": hash_ids,
        }
    )


GOOD = (mooncake(100, 700, [0, 1]), mooncake(350, 1024, [0, 2]), mooncake(350, 10, [3], 0))


@pytest.fixture
def trace(tmp_path):
    """Writes a trace and says how to read it."""

    def write(text, form="mooncake", **keys):
        path = tmp_path / f"trace.{form}"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return TraceSource(path=path, format=form, **keys)

    return write


def said(source):
    """The message of the error that reading raises."""
    with pytest.raises(EngineError) as caught:
        list(read_trace(source))
    return str(caught.value).replace(str(source.path), "FILE")


# Mooncake


def test_mooncake_lines_become_requests(trace):
    assert list(read_trace(trace("\n".join(GOOD)))) == [
        TraceRequest(0, 700, 10, 0, blocks=(0, 1)),
        TraceRequest(250_000_000, 1024, 10, 0, blocks=(0, 2)),
        TraceRequest(250_000_000, 10, 0, 0, blocks=(3,)),
    ]


def test_blank_lines_line_ends_and_a_byte_order_mark_do_not_matter(trace):
    plain = list(read_trace(trace("\n".join(GOOD))))
    assert list(read_trace(trace("\ufeff" + "\r\n\r\n".join(GOOD) + "\n \n"))) == plain


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name"),
        ("[1]", "is not a JSON object"),
        (b"\xfd", "codec can't decode"),
        ("[" * 100_000, "recursion"),
        ("{}", "input_length is None, not a whole number"),
        (mooncake(0, -5, []), "input_length -5 is not from 0 to 16777216"),
        (mooncake(0, 10**9, [1]), "input_length 1000000000 is not from 0"),
        (mooncake(0, 5.5, [1]), "input_length is 5.5, not a whole number"),
        (mooncake(0, True, [1]), "input_length is True, not a whole number"),
        (mooncake(0, 5, [1], -1), "output_length -1 is not from 0"),
        (mooncake(0, 5, None), "hash_ids is not a list of whole numbers"),
        (mooncake(0, 5, ["a"]), "hash_ids is not a list of whole numbers"),
        (mooncake(0, 5, [True]), "hash_ids is not a list of whole numbers"),
        (mooncake(0, 5, [-1]), "hash_ids are not all from 0"),
        (mooncake(0, 5, [2**48]), "hash_ids are not all from 0"),
        (mooncake(0, 5000, [1, 2]), "2 hash_ids do not fit to input_length 5000 in blocks of 512"),
        (mooncake("0", 5, [1]), "timestamp is '0', not a number"),
        (mooncake(float("nan"), 5, [1]), "timestamp is nan, not a number"),
        (mooncake(-1, 5, [1]), "timestamp -1 is negative"),
        (mooncake(10**16, 5, [1]), "beyond a hundred years"),
    ],
    ids=str,
)
def test_a_broken_line_is_named_with_its_reason(trace, line, reason):
    line = line if isinstance(line, bytes) else line.encode()
    message = said(trace(GOOD[0].encode() + b"\n" + line + b"\n"))
    assert message.startswith("FILE line 2: ")
    assert reason in message
    assert message.endswith("this is broken line 1, trace.broken_lines_max allows 0")


def test_broken_lines_are_counted_up_to_their_limit(trace):
    lines = [GOOD[0], "x", GOOD[1], "", "y", GOOD[2], "z"]
    findings = Findings()
    source = trace("\n".join(lines), broken_lines_max=3)
    assert len(list(read_trace(source, findings))) == 3
    assert (findings.broken_lines, findings.first_broken_lines) == (3, [2, 5, 7])
    assert said(trace("\n".join(lines), broken_lines_max=2)).endswith(
        "this is broken line 3 (after lines 2, 5), trace.broken_lines_max allows 2"
    )


def test_only_the_first_ten_broken_lines_are_named(trace):
    findings = Findings()
    list(read_trace(trace(GOOD[0] + "\nx" * 50, broken_lines_max=50), findings))
    assert (findings.broken_lines, findings.first_broken_lines) == (50, list(range(2, 12)))


@pytest.mark.parametrize("form", ["mooncake", "burstgpt", "sharegpt"])
@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_has_no_requests(trace, form, text):
    assert said(trace(text, form)) == f"FILE has no requests in {form} format"


def test_a_file_of_nothing_but_broken_lines_has_no_requests(trace):
    message = said(trace("x\ny\n", broken_lines_max=9))
    assert message == "FILE has no requests in mooncake format, 2 broken lines"


@pytest.mark.parametrize("form", ["mooncake", "burstgpt", "sharegpt"])
def test_a_missing_file_is_an_error_of_the_storage(tmp_path, form):
    source = TraceSource(path=tmp_path / "none", format=form)
    assert said(source) == "cannot read FILE: No such file or directory (ENOENT)"


def test_an_endless_line_is_not_read_whole(trace):
    message = said(trace("a" * (2**24 + 10)))
    assert message == "FILE line 1: is longer than 16777216 bytes; is this a mooncake trace?"


# Order of time


def test_times_out_of_order_are_counted_and_sorted(trace):
    times = [5, 3, 4, 9, 8, 10]
    findings = Findings()
    requests = list(read_trace(trace("\n".join(mooncake(t, 5, [t]) for t in times)), findings))
    assert [request.blocks[0] for request in requests] == sorted(times)
    assert [request.arrival_ns for request in requests] == [
        (time - 3) * 10**6 for time in sorted(times)
    ]
    assert findings.out_of_order == 3


def test_equal_times_keep_the_order_of_the_file(trace):
    source = trace("\n".join(mooncake(7, 5, [n]) for n in range(3000)))
    assert [request.blocks[0] for request in read_trace(source)] == list(range(3000))


def test_a_time_beyond_the_window_is_an_error_that_names_the_line(trace):
    times = [*range(10, 2010), 5]
    message = said(trace("\n".join(mooncake(time, 5, [time]) for time in times)))
    assert message == (
        "FILE line 2001: its time is before that of line 976, and more than 1024 requests later:"
        " sort the file by time"
    )


@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_any_disorder_within_the_window_is_sorted(seed):

    draw = random.Random(seed)
    times = [10 * n + draw.randrange(10_000) for n in range(1500)]
    with TemporaryDirectory() as directory:
        path = Path(directory) / "trace"
        path.write_text("\n".join(mooncake(time, 5, [time]) for time in times))
        requests = list(read_trace(TraceSource(path=path, format="mooncake")))
    assert [request.blocks[0] for request in requests] == sorted(times)


# BurstGPT

CSV = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45.5,ChatGPT,1087,230,1317,"Conversation, log"
118,GPT-4,417,0,417,API log
"""


def test_burstgpt_rows_become_requests_that_share_nothing(trace):
    requests = list(read_trace(trace(CSV, "burstgpt")))
    assert [request[:3] for request in requests] == [
        (0, 472, 18),
        (40_500_000_000, 1087, 230),
        (113_000_000_000, 417, 0),
    ]
    assert len({request.conversation for request in requests}) == 3
    assert {request.turn for request in requests} == {0}


@pytest.mark.parametrize(
    "header",
    [
        "timestamp,model,request_tokens,RESPONSE TOKENS,x,y",
        "\ufeff Timestamp , Model , Request  tokens , Response tokens,,",
    ],
)
def test_names_of_columns_may_differ_in_case_and_spaces(trace, header):
    rows = CSV.split("\n", 1)[1]
    plain = list(read_trace(trace(CSV, "burstgpt")))
    assert list(read_trace(trace(f"{header}\n{rows}", "burstgpt"))) == plain


def test_columns_may_be_in_any_order(trace):
    (request,) = read_trace(trace("Response tokens,Timestamp,Request tokens\n7,1,9\n", "burstgpt"))
    assert request[:3] == (0, 9, 7)


@pytest.mark.parametrize("text", [GOOD[0], "Timestamp,Model\n1,2", b"\xff\xff\n"])
def test_a_csv_file_without_its_columns_is_refused(trace, text):
    message = said(trace(text, "burstgpt"))
    assert message.startswith("FILE line 1: has no column ")
    assert "'request tokens', 'response tokens'" in message


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,m,2", "has 3 cells"),
        ("x,m,2,3", "could not convert string to float: 'x'"),
        ("1,m,,3", "could not convert string to float: ''"),
        ("1,m,-2,3", "request tokens -2 is not from 0"),
        ("1,m,2.5,3", "request tokens is 2.5, not a whole number"),
        ("1,m,inf,3", "request tokens is inf, not a whole number"),
        ("nan,m,2,3", "timestamp is nan, not a number"),
        ("1,m,2,99999999999", "response tokens 99999999999 is not from 0"),
        (b"1,\xff,2,3", "codec can't decode"),
    ],
    ids=str,
)
def test_a_broken_row_is_named_with_its_reason(trace, row, reason):
    row = row if isinstance(row, bytes) else row.encode()
    message = said(trace(CSV.encode() + row + b"\n", "burstgpt"))
    assert message.startswith("FILE line 5: ")
    assert reason in message


def test_tokens_written_as_fractions_are_whole(trace):
    source = trace("timestamp,request tokens,response tokens\n1.0,472.0,18.0", "burstgpt")
    (request,) = read_trace(source)
    assert request[:3] == (0, 472, 18)


# ShareGPT


def conversation(*messages, name="c"):
    return {
        "id": name,
        "conversations": [{"from": who, "value": "x" * size} for who, size in messages],
    }


def test_sharegpt_pairs_become_turns_of_growing_prompts(trace):
    talk = [
        conversation(("human", 40), ("gpt", 81), ("human", 2), ("gpt", 400)),
        conversation(("gpt", 5), ("human", 12), ("human", 20), ("gpt", 8), ("human", 9)),
        conversation(),
    ]
    source = trace(json.dumps(talk), "sharegpt", rate_per_s=4.0)
    assert list(read_trace(source)) == [
        TraceRequest(0, 10, 20, 0),
        TraceRequest(250_000_000, 5, 2, 1),
        TraceRequest(500_000_000, 31, 100, 0, turn=1, history_tokens=30),
    ]


def test_messages_and_prompts_are_cut_as_the_benchmark_cuts_them(trace):
    talk = [
        conversation(("human", 80_000), ("gpt", 4)),
        conversation(("human", 60_000), ("gpt", 20_000), ("human", 4), ("gpt", 4)),
    ]
    findings = Findings()
    requests = list(read_trace(trace(json.dumps(talk), "sharegpt"), findings))
    assert [request[1:3] for request in requests] == [(16384, 1), (15000, 2048)]
    assert findings.turns_cut == 1


def test_open_conversations_take_turns(trace):
    turns = [("human", 4), ("gpt", 4)]
    talk = [conversation(*turns * size) for size in (3, 1, 2, 1)]
    source = trace(json.dumps(talk), "sharegpt", conversations_open=2)
    order = [(request.conversation, request.turn) for request in read_trace(source)]
    assert order == [(0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (2, 1), (3, 0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": 1}', "FILE line 1: expected '[', found '{': the file must be one JSON list"),
        ("[1 2]", "FILE line 1: expected ']', found '2': elements of the list are separated"),
        ("[{},\n\n{]", "FILE line 3: Expecting property name"),
        ('[\n"abc', "FILE line 2: Unterminated string"),
        ("[{}", "FILE line 1: expected ']', found the end of the file"),
        ("[{},", "FILE line 1: Expecting value"),
        ("[]\n[]", "FILE line 2: there is more after the end of the list"),
        ("[1" + "0" * 5000 + "]", "FILE line 1: Exceeds the limit"),
        ("[" * 100_000, "FILE line 1: is nested too deeply"),
        (b"[\xff]", "FILE is not UTF-8 text"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_json_list_is_named_with_its_line(trace, text, message):
    assert said(trace(text, "sharegpt", broken_lines_max=9)).startswith(message)


@pytest.mark.parametrize(
    "element",
    [7, {}, {"conversations": 1}, {"conversations": [{"from": "human"}]}, {"conversations": [1]}],
    ids=str,
)
def test_an_element_of_another_shape_counts_as_a_broken_line(trace, element):
    good = conversation(("human", 4), ("gpt", 4))
    text = json.dumps([good, element], indent=1)
    findings = Findings()
    requests = list(read_trace(trace(text, "sharegpt", broken_lines_max=1), findings))
    assert len(requests) == 1
    line = 2 + json.dumps(good, indent=1).count("\n") + 1
    assert findings.first_broken_lines == [line]
    assert said(trace(text, "sharegpt")).startswith(f"FILE line {line}: ")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.lists(values), st.integers(1, 30), st.sampled_from([None, 1]), st.booleans())
def test_a_list_read_in_pieces_is_the_list(elements, piece, indent, ascii_only):

    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_list, "_READ_CHARACTERS", piece)
        path = Path(directory) / "list"
        text = json.dumps(elements, indent=indent, ensure_ascii=ascii_only)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            text.encode()
        except UnicodeEncodeError:
            return
        found = list(json_elements(path))
    assert [value for _, value in found] == elements
    if indent and elements:
        assert found[0][0] == 2
    lines = [line for line, _ in found]
    assert lines == sorted(lines)


# Replay


def arrivals(source, **keys):
    defaults = {"speedup": 1.0, "cycles": 1, "same_ids": False}
    return [request.arrival_ns for request in replay(source, **(defaults | keys))]


@pytest.mark.parametrize(
    ("speedup", "expected"),
    [
        (1.0, [1, 250_000_000, 250_000_000]),
        (2.0, [1, 125_000_000, 125_000_000]),
        (0.5, [1, 500_000_000, 500_000_000]),
        (0.0, [0, 0, 0]),
    ],
)
def test_times_are_divided_by_the_speedup(trace, speedup, expected):
    assert arrivals(trace("\n".join(GOOD)), speedup=speedup) == expected


def test_the_next_cycle_begins_a_mean_distance_after_the_last_request(trace):
    source = trace("\n".join(mooncake(time, 5, [1]) for time in (0, 10, 30)))
    ms = 10**6
    expected = [0, 10, 30, 45, 55, 75, 90, 100, 120]
    assert arrivals(source, cycles=3)[1:] == [time * ms for time in expected[1:]]
    endless = replay(source, speedup=1.0, cycles=0, same_ids=True)
    assert [request.arrival_ns // ms for request in islice(endless, 9)] == expected


def test_cycles_share_no_ids_unless_asked(trace):
    source = trace("\n".join(GOOD))
    apart = list(replay(source, speedup=1.0, cycles=2, same_ids=False))
    assert apart[3].blocks == (BLOCK_IDS, BLOCK_IDS + 1)
    assert apart[3].conversation == BLOCK_IDS
    same = list(replay(source, speedup=1.0, cycles=2, same_ids=True))
    assert [request.blocks for request in same[:3]] == [request.blocks for request in same[3:]]


# The whole trace


def test_a_survey_sums_up_the_trace_and_hashes_the_file(trace):
    text = "\n".join([*GOOD, "broken"])
    found = survey_trace(trace(text, broken_lines_max=1))
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert found.size_bytes == len(text)
    assert (found.requests, found.blocks, found.duration_ns) == (3, 5, 250_000_000)
    assert (found.input_tokens, found.output_tokens) == (1734, 20)
    assert (found.broken_lines, found.first_broken_lines) == (1, (4,))
    assert found.common_blocks == frozenset()


def test_blocks_that_many_requests_begin_with_are_common(trace):
    lines = [mooncake(n, 1500, [0, 10 + n % 5, 1000 + n]) for n in range(100)]
    # 20 of 100 requests begin with each of 10 to 14, which is more than 16 of them.
    assert survey_trace(trace("\n".join(lines))).common_blocks == {0, 10, 11, 12, 13, 14}
    assert survey_trace(trace("\n".join(lines[:50]))).common_blocks == {0}
    assert survey_trace(trace("\n".join(lines[:3]))).common_blocks == {0}


@pytest.mark.parametrize("form", ["mooncake", "burstgpt", "sharegpt"])
def test_a_large_trace_is_read_in_little_memory(tmp_path, form):
    path = tmp_path / "large"
    line = {
        "mooncake": lambda n: mooncake(n, 50 * 512, [n + k for k in range(50)]),
        "burstgpt": lambda n: f"{n},ChatGPT,{n % 5000},{n % 700},{n % 5700},Conversation log",
        "sharegpt": lambda n: json.dumps(conversation(*[("human", 400), ("gpt", 1500)] * 4)) + ",",
    }[form]
    lines = {"mooncake": 6_000, "burstgpt": 40_000, "sharegpt": 2_500}[form]
    with path.open("w") as file:
        if form == "burstgpt":
            file.write("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n")
        file.write("[\n" if form == "sharegpt" else "")
        for number in range(lines):
            file.write(line(number) + "\n")
        file.write('{"conversations": []}]\n' if form == "sharegpt" else "")
    source = TraceSource(path=path, format=form)
    tracemalloc.start()
    try:
        requests = sum(1 for _ in read_trace(source))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert requests == {"sharegpt": 4 * lines}.get(form, lines)
    # As records in a list they would take 6 MB or more, the text of ShareGPT 20 MB.
    assert peak_bytes < (12e6 if form == "sharegpt" else 4e6)
