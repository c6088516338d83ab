"""Tables with times from files: a slow twin, formats, time zones, and errors with file and line."""

import csv
import datetime
import gzip
import zoneinfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.data import TimeTable, read_time_table, time_rows
from rnnlab.data.decimals import cells_of, plain_decimals

UCI = {"time": ("Date", "Time"), "delimiter": ";", "day_first": True}

HEADER = "Date;Time;Global_active_power;Voltage;Sub_metering_1\n"


def written(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def household(rows, seed=0):
    """A file of the UCI format, with runs of rows in which everything is missing."""
    rng = np.random.default_rng(seed)
    start = datetime.datetime(2006, 12, 16, 17, 24)
    lines = [HEADER]
    is_missing = rng.random(rows // 10 + 1).repeat(10) < 0.1
    for row in range(rows):
        moment = start + datetime.timedelta(minutes=row)
        stamp = f"{moment.day}/{moment.month}/{moment.year};{moment:%H:%M:%S}"
        cells = [f"{rng.gamma(1.5):.3f}", f"{rng.normal(240, 3):.2f}", f"{rng.integers(40)}.000"]
        if is_missing[row]:
            cells = ["?", "?", ""]
        lines.append(";".join([stamp, *cells]) + "\n")
    return "".join(lines)


def by_hand(path):
    """The same file by csv, float and datetime, a cell at a time."""
    with path.open() as file:
        _, *rows = csv.reader(file, delimiter=";")
    times, values = [], []
    for date, clock, *cells in rows:
        day, month, year = map(int, date.split("/"))
        hour, minute, second = map(int, clock.split(":"))
        times.append(datetime.datetime(year, month, day, hour, minute, second))
        values.append([np.nan if cell in ("", "?") else float(cell) for cell in cells])
    return np.array(times, "datetime64[s]"), np.array(values)


@pytest.mark.parametrize("block", [100, 1000, 4_000_000])
def test_a_household_file_is_read_as_by_hand(tmp_path, monkeypatch, block):
    monkeypatch.setattr(time_rows, "BLOCK", block)
    path = written(tmp_path, household(500))
    table = read_time_table(path, **UCI)
    times, values = by_hand(path)
    np.testing.assert_array_equal(table.times, times)
    assert table.times.dtype == "datetime64[s]"
    np.testing.assert_array_equal(table.values, values)
    assert np.isnan(values).any()
    assert table.columns == ("Global_active_power", "Voltage", "Sub_metering_1")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.removesuffix("\n"),
        lambda text: (
            text.replace(";", '";"').replace("\n", '"\n"').removesuffix('"').join(['"', ""])
        ),
        lambda text: text.replace(";?", "; ? "),
    ],
    ids=["windows", "bom", "blank lines", "no last end", "quotes", "spaces"],
)
def test_other_forms_of_a_file_are_read_the_same(tmp_path, monkeypatch, change):
    monkeypatch.setattr(time_rows, "BLOCK", 1000)
    monkeypatch.setattr(time_rows, "ROWS", 7)
    plain = read_time_table(written(tmp_path, household(100)), **UCI)
    changed = written(tmp_path, change(household(100)), "changed.csv")
    for ours, theirs in zip(read_time_table(changed, **UCI), plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_compressed_file_is_read_the_same(tmp_path):
    plain = read_time_table(written(tmp_path, household(100)), **UCI)
    path = written(tmp_path, gzip.compress(household(100).encode()), "table.csv.gz")
    np.testing.assert_array_equal(read_time_table(path, **UCI).values, plain.values)


plain_texts = st.from_regex(r"-?[0-9]{0,9}\.?[0-9]{0,9}", fullmatch=True)
any_texts = st.one_of(plain_texts, st.floats().map(str), st.text(max_size=20))


@given(st.lists(any_texts, min_size=1))
def test_decimals_are_the_floats_of_python_to_the_last_bit(texts):
    numbers, is_plain = plain_decimals(cells_of(texts))
    for text, number, plain in zip(texts, numbers, is_plain, strict=True):
        if plain:
            assert np.float64(text).tobytes() == number.tobytes()
        else:
            assert np.isnan(number)


@given(plain_texts)
def test_plain_decimals_are_recognised(text):
    digits = sum(map(str.isdigit, text))
    assert plain_decimals(cells_of([text]))[1] == (0 < digits <= 15)


@pytest.mark.parametrize(
    ("content", "options", "times"),
    [
        ("t,x\n2006-12-16 17:24,1\n", {}, ["2006-12-16T17:24"]),
        ("t,x\n2006-12-16T17:24:05,1\n", {}, ["2006-12-16T17:24:05"]),
        ("2006-12-16,1\n2006-12-17,2\n", {}, ["2006-12-16", "2006-12-17"]),
        ("t,x\n12/16/2006,1\n", {}, ["2006-12-16"]),
        ("t,x\n16.12.2006 1:02,1\n", {"day_first": True}, ["2006-12-16T01:02"]),
        ("t,x\n2006-12-16 00:00:00.25,1\n", {}, ["2006-12-16T00:00:00.25"]),
        ("t,x\n2006-12-16T17:24:00Z,1\n", {}, ["2006-12-16T17:24"]),
        ("t,x\n2006-12-16 17:24:00+01:00,1\n", {}, ["2006-12-16T16:24"]),
        ("t,x\n2015-11-21T23:30:00-0630,1\n", {}, ["2015-11-22T06:00"]),
        ("1969-12-31 23:59:59,1\n", {}, ["1969-12-31T23:59:59"]),
    ],
)
def test_times_in_several_forms(tmp_path, content, options, times):
    table = read_time_table(written(tmp_path, content), **options)
    np.testing.assert_array_equal(table.times, np.array(times, "datetime64[us]"))


def test_numbers_in_several_forms(tmp_path):
    content = "t,a,b\n2024-01-01,1e-3,NA\n2024-01-02, 7 ,n\n2024-01-03,-.5,00012.50\n"
    table = read_time_table(written(tmp_path, content), missing=["NA", "n"])
    np.testing.assert_array_equal(table.values, [[1e-3, np.nan], [7, np.nan], [-0.5, 12.5]])
    content = "2024-01-01;1,5;2\n2024-01-02;-3,25e1;\n"
    table = read_time_table(written(tmp_path, content), delimiter=";", decimal=",")
    np.testing.assert_array_equal(table.values, [[1.5, 2], [-32.5, np.nan]])
    assert table.columns == ("1", "2")


def test_columns_and_series(tmp_path):
    path = written(tmp_path, household(20))
    table = read_time_table(path, columns=["Voltage", 2], **UCI)
    whole = read_time_table(path, **UCI)
    assert table.columns == ("Voltage", "Global_active_power")
    np.testing.assert_array_equal(table.values, whole.values[:, [1, 0]])
    series = whole.series("Voltage")
    np.testing.assert_array_equal(series.values, whole.values[:, 1])
    assert series.name == "Voltage"
    with pytest.raises(ValueError, match="no column 'kW'; give one of Global_active_power, Volt"):
        whole.series("kW")


@pytest.mark.parametrize(("zone", "step"), [("Europe/Paris", 60), ("Australia/Lord_Howe", 10)])
def test_a_year_of_local_times_is_that_in_utc(tmp_path, zone, step):
    """Both changes of the clock, written by zoneinfo and read back; Lord Howe's is half an hour."""
    start = datetime.datetime(2023, 1, 1, tzinfo=datetime.UTC)
    moments = [start + datetime.timedelta(minutes=step * row) for row in range(525_600 // step)]
    local = zoneinfo.ZoneInfo(zone)
    lines = [f"{moment.astimezone(local):%Y-%m-%d %H:%M},1\n" for moment in moments]
    path = written(tmp_path, "".join(lines))
    table = read_time_table(path, zone=zone)
    utc = np.array([moment.replace(tzinfo=None) for moment in moments], "datetime64[s]")
    np.testing.assert_array_equal(table.times, utc)
    with pytest.raises(ValueError, match=r":\d+ has 2023-.*a clock (that )?was set back"):
        read_time_table(path)


@pytest.mark.parametrize("keep", ["first", "last"])
def test_one_of_several_rows_of_a_time_is_kept(tmp_path, keep):
    content = "2024-01-01,1\n2024-01-02,2\n2024-01-02,3\n2024-01-02,4\n2024-01-03,5\n"
    table = read_time_table(written(tmp_path, content), duplicates=keep)
    assert table.values[:, 0].tolist() == [1, 2 if keep == "first" else 4, 5]


A = "2024-01-01,1\n"


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, {}, " cannot be read (No such file or directory); give the path of a CSV file"),
        ("", {}, " is empty; give a file with at least one row"),
        ("t,x\n\n", {}, " holds only a header"),
        ("2024-01-01\n", {}, " has no column beside the time; give a file with numbers"),
        ("t;kW\n1/1/24;2\n", {}, " has no column beside the time; give delimiter=';'"),
        (A + "2024-01-02\n", {}, ":2 has 1 column, but the first row has 2"),
        (A + "\n2024-01-02,2,3\n", {}, ":3 has 3 columns, but the first row has 2"),
        (A + ",\n", {}, ":2 has '' is not a date"),
        (A + ",\n\n", {}, ":2 has '' is not a date"),
        (A + "2024-02-30,2\n", {}, ":2 has '2024-02-30' is not a date, with day 30 of month 2"),
        (A + "yesterday,2\n", {}, ":2 has 'yesterday' is not a date; give one such as 2006-12-16"),
        (A + "16/12/2006,2\n", {}, ":2 has '16/12/2006' is not a date, with day 12 of month 16; g"),
        ("31/12/x,1\n", {}, ":1 has '31/12/x' is not a date"),
        (A + "2024-01-02 25:00,2\n", {}, ":2 has '25:00' is not a time of day; give one such as"),
        (A + "2024-01-02 noon,2\n", {}, ":2 has 'noon' is not a time of day"),
        (A + "2024-01-02,x\n", {}, ":2 has 'x' in column '1'; give a finite number, or name the"),
        (A + "2024-01-02,1_0\n", {}, ":2 has '1_0' in column '1'"),
        (A + "2024-01-02,inf\n", {}, ":2 has 'inf' in column '1'"),
        (A + "2024-01-02,?\n", {"missing": []}, ":2 has '?' in column '1'"),
        (A + "2024-01-02,nan\n", {"missing": ["?"]}, ":2 has 'nan' in column '1'"),
        (A + "2024-01-02;1.5\n", {}, ":2 has 1 column"),
        ("2024-01-01;1.5\n", {"delimiter": ";", "decimal": ","}, ":1 has '1.5' in column '1'"),
        (A + "2024-01-02,caf\xe9\n", {}, ":2 has 'caf\ufffd' in column '1'"),
        ("t,caf\xe9\n" + A, {}, ":1 is not UTF-8; convert it"),
        (A + '2024-01-02,"2"x\n', {}, ":2 is not CSV ("),
        ('"t"x,y\n' + A, {}, ":1 is not CSV ("),
        (A + A, {}, ":2 has 2024-01-01 00:00:00 again, after line 1; choose duplicates="),
        (A + "2023-01-01,2\n", {}, ":2 has 2023-01-01 00:00:00 after the 2024-01-01 00:00:00 of"),
        (A + "2024-01-02 10:00Z,2\n", {}, ":2 has a time with an offset from UTC, in contrast"),
        ("2024-01-02 10:00Z,2\n", {"zone": "Europe/Paris"}, " has times with an offset from UTC"),
        ("2024-03-31 02:30,2\n", {"zone": "Europe/Paris"}, ":1 has 2024-03-31 02:30:00, an hour"),
        (A, {"time": "t"}, " has no header, so 't' is unknown"),
        ("t,x\n" + A, {"time": "y"}, " has 0 columns named 'y'"),
        ("t,x\n" + A, {"columns": ["y"]}, " has 0 columns named 'y'"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_file_and_line(tmp_path, content, options, words):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"table\.csv") as caught:
        read_time_table(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}{words}")
    assert "\n" not in message
    assert ". " not in message


def test_a_fault_far_down_has_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(time_rows, "BLOCK", 1000)
    lines = household(200).splitlines(keepends=True)
    lines[150] = lines[150].replace(";", ";x", 3)
    with pytest.raises(ValueError, match=r"table\.csv:151 has 'x"):
        read_time_table(written(tmp_path, "".join(lines)), **UCI)
    lines.insert(99, "\n")
    lines[40:40] = ['16/12/2006;18:02:30;"1";2;3\n']
    with pytest.raises(ValueError, match=r"table\.csv:153 has 'x"):
        read_time_table(written(tmp_path, "".join(lines)), **UCI)


def test_half_of_a_compressed_file_is_refused(tmp_path):
    whole = gzip.compress(household(500).encode())
    path = written(tmp_path, whole[: len(whole) // 2], "table.csv.gz")
    with pytest.raises(ValueError, match=r"table\.csv\.gz cannot be read \(Compressed file ended"):
        read_time_table(path, **UCI)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delimiter": ", "}, "delimiter is ', '; give one character"),
        ({"delimiter": ",", "decimal": ","}, "delimiter is ','"),
        ({"decimal": ";"}, "decimal is ';'; choose one of '.', ','"),
        ({"duplicates": "mean"}, "duplicates is 'mean'; choose one of"),
        ({"day_first": 1}, "day_first is 1"),
        ({"missing": "?"}, r"missing is '\?'; give a list of texts"),
        ({"zone": "Paris"}, "zone is 'Paris'; give the name of a time zone"),
        ({"time": [0, 1, 2]}, r"time is \[0, 1, 2\]; give one column"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        read_time_table(written(tmp_path, "2024-01-01,1,2\n"), **options)


def test_a_table_prints_its_first_time():
    times = np.array(["2024-01-01"], "datetime64[s]")
    assert "2024-01-01" in repr(TimeTable(times, np.ones((1, 1)), ("x",)))
