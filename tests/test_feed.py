"""Files become events: kinds of columns, kinds of label delay, order in time, bad rows (F21, F45, F51)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml

from stream.config import Config, parse
from stream.errors import ConfigError
from stream.events import DeadLetter, Label, Prediction, Request
from stream.runtime.feed import Feed, Item

START = 1_704_067_200.0  # 2024-01-01T00:00:00Z, the default start; a row a minute


def config(**entry: Any) -> Config:
    learn = {"learn": {"champion": "majority"}}
    return parse(yaml.safe_dump({"models": {"m": {"task": "binary", **learn}}, "input": {"model": "m", **entry}}))


def csv_file(folder: Path, text: str, name: str = "d.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def order(items: list[Item]) -> list[str]:
    """r0 for the request of row 0, l0 for its label."""
    return [f"{'l' if isinstance(item.event, Label) else 'r'}{item.key}" for item in items]


def minutes(items: list[Item]) -> list[float]:
    return [(item.event_time - START) / 60 for item in items]


ROWS = "x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(4))


def test_labels_come_right_after_so_many_later_rows(tmp_path: Path) -> None:
    """F21"""
    items = list(Feed(config(label="y", label_delay={"events": 1}), csv_file(tmp_path, ROWS)))
    assert order(items) == ["r0", "r1", "l0", "r2", "l1", "r3", "l2", "l3"]
    assert minutes(items) == [0, 1, 1, 2, 2, 3, 3, 3]
    assert [item.event.label for item in items if isinstance(item.event, Label)] == [0, 1, 0, 1]


def test_without_delay_each_label_follows_its_row(tmp_path: Path) -> None:
    items = list(Feed(config(label="y", label_delay={"events": 0}), csv_file(tmp_path, ROWS)))
    assert order(items) == ["r0", "l0", "r1", "l1", "r2", "l2", "r3", "l3"]


def test_labels_come_after_a_time_behind_the_rows_of_that_time(tmp_path: Path) -> None:
    """F21"""
    items = list(Feed(config(label="y", label_delay={"time": "2m"}), csv_file(tmp_path, ROWS)))
    assert order(items) == ["r0", "r1", "r2", "l0", "r3", "l1", "l2", "l3"]
    assert minutes(items) == [0, 1, 2, 2, 3, 3, 4, 5]


def test_labels_come_at_the_time_of_a_column_and_never_where_it_is_empty(tmp_path: Path) -> None:
    """F21"""
    text = (
        "id,t,known,y\n"
        "a,2024-01-01T00:00:00Z,2024-01-01T00:09:00Z,1\n"
        "b,2024-01-01T00:01:00Z,,0\n"
        "c,2024-01-01T00:02:00Z,2024-01-01T02:04:00+02:00,0\n"
        "d,2024-01-01T00:05:00,2024-01-01T00:05:30Z,\n"
    )
    entry = {"prediction_id": "id", "event_time": {"column": "t"}, "label": "y", "label_delay": {"column": "known"}}
    feed = Feed(config(**entry), csv_file(tmp_path, text))
    items = list(feed)
    assert order(items) == ["ra", "rb", "rc", "lc", "rd", "la"]
    assert minutes(items) == [0, 1, 2, 4, 5, 9]
    assert (feed.rows, feed.labels, feed.bad_rows) == (4, 2, 0)


def test_random_delays_repeat_and_have_the_mean_asked_for(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "x,y\n" + "1,1\n" * 3000)
    entry = {"label": "y", "label_delay": {"exponential": "1h", "seed": 7}}

    def delays() -> dict[str, float]:
        return {
            i.key: i.event_time - START - 60 * int(i.key) for i in Feed(config(**entry), path) if i.topic == "labels"
        }

    found = delays()
    assert found == delays()
    assert 3400 < sum(found.values()) / len(found) < 3800
    entry["label_delay"] = {"exponential": "1h", "seed": 8}
    assert found != delays()


def test_columns_become_numbers_booleans_or_text_by_their_values(tmp_path: Path) -> None:
    text = "i,f,b,s,e,n\n1,1.5,true,a,,NA\n,NaN,false,NA,,2\n3,-2e3,,,,x\n"
    items = list(Feed(config(), csv_file(tmp_path, text)))
    assert [item.event.features for item in items if isinstance(item.event, Request)] == [
        {"i": 1, "f": 1.5, "b": True, "s": "a", "e": None, "n": "NA"},
        {"i": None, "f": None, "b": False, "s": "NA", "e": None, "n": "2"},
        {"i": 3, "f": -2000.0, "b": None, "s": None, "e": None, "n": "x"},
    ]


def test_a_number_that_becomes_text_stays_text_for_the_watcher_to_see(tmp_path: Path) -> None:
    """F11"""
    text = "x\n" + "1\n" * 1024 + "broken\n2\n"
    values = [item.event.features["x"] for item in Feed(config(), csv_file(tmp_path, text))]  # type: ignore[attr-defined]
    assert values[-3:] == [1, "broken", 2]


def test_given_predictions_tags_and_dropped_columns_are_no_features(tmp_path: Path) -> None:
    entry = {"prediction": "said", "score": "p", "tags": ["region"], "drop": ["secret"], "label": "y"}
    text = "x,said,p,region,secret,y\n0.5,1,0.8,north,9,0\n"
    items = list(Feed(config(**entry), csv_file(tmp_path, text)))
    assert items[0].topic == "predictions"
    assert items[0].event == Prediction(
        prediction_id="0", model="m", event_time=START, features={"x": 0.5}, prediction=1, score=0.8,
        tags={"region": "north"},
    )  # fmt: skip
    assert items[1].event == Label(prediction_id="0", event_time=START, label=0, model="m")


def test_ids_keep_their_leading_zeros(tmp_path: Path) -> None:
    items = list(Feed(config(prediction_id="id"), csv_file(tmp_path, "id,x\n007,1\n010,2\n")))
    assert [item.key for item in items] == ["007", "010"]


def test_rows_out_of_order_stay_where_they_stand(tmp_path: Path) -> None:
    entry = {"event_time": {"column": "t", "format": "epoch_s"}, "label": "y", "label_delay": {"time": "10s"}}
    items = list(Feed(config(**entry), csv_file(tmp_path, "t,y\n100,1\n50,0\n200,1\n")))
    assert [(i.topic, i.event_time) for i in items] == [
        ("requests", 100), ("requests", 50), ("labels", 60), ("labels", 110), ("requests", 200), ("labels", 210),
    ]  # fmt: skip


def test_bad_rows_are_dead_letters_with_their_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    """F51"""
    text = (
        "id,t,x\n"
        "a,2024-01-01T00:00:00Z,1\n"
        "b,2024-01-01T00:01:00Z\n"
        "\n"
        "c,yesterday,3\n"
        "d,,4\n"
        ",2024-01-01T00:04:00Z,5\n"
        "e,2024-01-01T00:05:00Z,6\n"
    )
    feed = Feed(config(prediction_id="id", event_time={"column": "t"}), csv_file(tmp_path, text))
    items = list(feed)
    assert [item.key for item in items if isinstance(item.event, Request)] == ["a", "e"]
    letters = [item.event for item in items if isinstance(item.event, DeadLetter)]
    assert [(letter.offset, letter.reason) for letter in letters] == [
        (3, "line 3: 2 fields where the first line names 3"),
        (5, "line 5: t is not a time (iso8601): 'yesterday'"),
        (6, "line 6: t (the event time) is empty"),
        (7, "line 7: id (the prediction's id) is empty"),
    ]
    assert [letter.value for letter in letters[:2]] == ["b,2024-01-01T00:01:00Z", "c,yesterday,3"]
    assert (feed.rows, feed.bad_rows) == (2, 4)


def test_the_same_rows_come_from_every_kind_of_file(tmp_path: Path) -> None:
    text = "x,s,y\n1,a,0\n2,,1\n3,c,0\n"
    plain = csv_file(tmp_path, text)
    packed = tmp_path / "d.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    lines = csv_file(tmp_path, '{"x":1,"s":"a","y":0}\n\n{"x":2,"s":null,"y":1}\n{"x":3,"s":"c","y":0}\n', "d.jsonl")
    columns = tmp_path / "d.parquet"
    parquet.write_table(pa.table({"x": [1, 2, 3], "s": ["a", None, "c"], "y": [0, 1, 0]}), columns)
    tabbed = csv_file(tmp_path, text.replace(",", "\t"), "d.tsv")
    whole = list(Feed(config(label="y"), plain))
    for path in (packed, lines, columns, tabbed):
        assert list(Feed(config(label="y"), path)) == whole, path


def test_parquet_times_and_vectors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    times = pa.array([1_704_067_200_000], pa.timestamp("ms", tz="UTC"))
    parquet.write_table(pa.table({"t": times, "v": [[1.0, 2.0]]}), path)
    items = list(Feed(config(event_time={"column": "t"}), path))
    assert items[0].event_time == START
    assert items[0].event.features == {"v": [1.0, 2.0]}  # type: ignore[attr-defined]


def test_lines_that_are_no_json_objects_are_dead_letters(tmp_path: Path) -> None:
    """F51"""
    feed = Feed(config(), csv_file(tmp_path, '{"x":1}\n[1]\nnonsense\n{"x":{"deep":1}}\n{"x":2}\n', "d.jsonl"))
    items = list(feed)
    assert [type(item.event).__name__ for item in items] == ["Request", *["DeadLetter"] * 3, "Request"]
    assert [item.key for item in items if isinstance(item.event, Request)] == ["0", "4"]


def test_faults_of_file_and_configuration_are_named_together(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "tme,x,targt\n1,2,3\n")
    with pytest.raises(ConfigError) as caught:
        Feed(config(label="target", event_time={"column": "time"}, score="x"), path)
    assert caught.value.faults == [
        "no column 'time' (input.event_time.column); did you mean tme?",
        "no column 'target' (input.label); did you mean targt?",
        "input.score: read beside input.prediction only; without that the champion scores",
    ]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("none.csv", None, "cannot be read: No such file or directory"),
        ("empty.csv", b"", "is empty: the first line must name the columns"),
        ("twice.csv", b"a,a\n1,2\n", "column 'a' stands twice in the first line"),
        ("d.xlsx", b"", "not a file that tidegate reads: give .csv, .jsonl (both also .gz) or .parquet"),
        ("d.csv.gz", b"no gzip", "cannot be read to its end (Not a gzipped file (b'no')); is it whole?"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: bytes | None, fault: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Feed(config(), tmp_path / name)
    assert caught.value.faults == [fault]


def test_a_file_cut_short_says_so(tmp_path: Path) -> None:
    whole = gzip.compress(("x\n" + "".join(f"{i * 7919 % 10007}\n" for i in range(20_000))).encode())
    path = tmp_path / "d.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="is it whole"):
        list(Feed(config(), path))


def test_broken_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(ConfigError, match="is it whole"):
        Feed(config(), path)


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    """F45"""
    feed = Feed(config(), csv_file(tmp_path, "x\n" + "1\n" * 100_000))
    seen = [feed.done() for _ in feed]
    assert seen == sorted(seen)
    assert seen[0] < 0.2
    assert feed.done() == 1.0
