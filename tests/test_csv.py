import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnbackend.data import Table, read_csv
from nnbackend.errors import DataError

fast = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def fault(write):
    """What a file's content is refused with."""

    def fault(content: str | bytes, **options: object) -> DataError:
        path = write(content)
        with pytest.raises(DataError) as info:
            read_csv(path, **options)
        assert str(info.value).startswith(str(path))
        return info.value

    return fault


def attempt(path: Path) -> Table | DataError:
    try:
        return read_csv(path, missing="drop")
    except DataError as error:
        return error


# --- what it reads


def test_columns_by_name_in_file_order(write):
    table = read_csv(write("n,name,x\n1,a,0.5\n2,b,-1e3\n"))
    assert isinstance(table, Table)
    assert table.names == list(table) == ["n", "name", "x"]
    assert len(table) == 2
    assert "x" in table
    assert "y" not in table
    assert table["n"].dtype == table["x"].dtype == np.float64
    assert table["name"].dtype.kind == "U"
    np.testing.assert_array_equal(table["x"], [0.5, -1000.0])
    np.testing.assert_array_equal(table["name"], ["a", "b"])
    matrix = table.matrix(["x", "n"])
    assert matrix.dtype == np.float64
    np.testing.assert_array_equal(matrix, [[0.5, 1.0], [-1000.0, 2.0]])


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,y",
        "a,b\r\n1,x\r\n2,y\r\n",
        "\ufeffa,b\n1,x\n2,y\n",
        "a,b\r1,x\r2,y\r",
        '\n"a",b\n\n 1 , x\n2,"y"\n\n',
    ],
    ids=["no final newline", "CRLF", "BOM", "CR", "blank lines, spaces, quotes"],
)
def test_every_layout_gives_the_same_table(write, content):
    """faults.md 116 and 117: no final newline, CRLF, a byte order mark."""
    table = read_csv(write(content))
    assert table.names == ["a", "b"]
    assert table["a"].tolist() == [1.0, 2.0]
    assert table["b"].tolist() == ["x", "y"]


def test_quoted_fields_hold_delimiters_quotes_and_newlines(write):
    table = read_csv(str(write('a;b\n"x;""y""\nz";1\n')), delimiter=";")
    assert table["a"].tolist() == ['x;"y"\nz']
    assert table["b"].tolist() == [1.0]


def test_one_column_may_hold_other_delimiters_in_quotes(write):
    assert read_csv(write('"a;b"\n"1;2"\n'))["a;b"].tolist() == ["1;2"]
    assert read_csv(write('"temp, C"\n12\n'), delimiter=";").names == ["temp, C"]


@fast
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_floats_come_back_bit_for_bit(write, values):
    table = read_csv(write("x\n" + "".join(f"{v!r}\n" for v in values)))
    np.testing.assert_array_equal(table["x"].view(np.int64), np.array(values).view(np.int64))


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10).map(lambda s: f"<{s}>")


@fast
@given(st.integers(1, 4).flatmap(lambda k: st.lists(st.lists(words, min_size=k, max_size=k), min_size=1, max_size=5)))
def test_any_text_comes_back(write, rows):
    names = [f"c{i}" for i in range(len(rows[0]))]
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows([names, *rows])
    table = read_csv(write(file.getvalue()))
    assert [table[name].tolist() for name in names] == [list(column) for column in zip(*rows, strict=True)]


@fast
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.binary(max_size=30))
def test_any_content_is_a_table_or_a_data_error(write, content):
    result = attempt(write(content))
    if isinstance(result, Table):
        assert len(result) > 0
        assert result.names
        assert repr(result).startswith("Table (rows: ")
    else:
        assert ": expected " in str(result)
        assert ", got " in str(result)


def test_repr_shows_the_first_rows_and_columns(write):
    rows = "".join(f"{i},{'long ' * 9},{i / 3}\n" for i in range(7))
    lines = repr(read_csv(write(f"i,word,third\n{rows}"))).splitlines()
    assert lines[0] == "Table (rows: 7, columns: 3)"
    assert lines[1] == "i  word                     third"
    assert lines[3] == "1  long long long lo...  0.333333"
    assert lines[-1] == "..."
    assert len(lines) == 8
    wide = read_csv(write(",".join(f"c{i}" for i in range(9)) + "\n" + "1," * 8 + "1\n"))
    assert repr(wide).splitlines()[0] == "Table (rows: 1, columns: 9, the first 8 shown)"
    assert "c8" not in repr(wide)


# --- what it refuses


def test_no_such_file(tmp_path):
    """faults.md 116: a file that is missing, a folder."""
    with pytest.raises(DataError, match=r"none\.csv: expected a file that can be read, got 'No such file"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(DataError, match="got a folder"):
        read_csv(tmp_path)


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_empty_file(fault, content):
    """faults.md 116: an empty file."""
    assert "got an empty file" in str(fault(content))


@pytest.mark.parametrize("content", ["a,b", "a,b\n", "a,b\n\n"])
def test_header_only(fault, content):
    """faults.md 116: column names and no row."""
    assert "expected rows below the column names, got none" in str(fault(content))


@pytest.mark.parametrize("row", ["1", "1,2,3"])
def test_ragged_row(fault, row):
    """faults.md 119: too few or too many fields."""
    error = fault(f'a,b\n"1\n1",2\n\n{row}\n3,4\n')
    assert error.row == 5
    assert f"column names, 2, got {row.count(',') + 1}" in str(error)


@pytest.mark.parametrize(
    ("rows", "what"), [('3,"4\n5,6\n7,8\n', "expected a closing quote"), ('3,"4\n5,"6"\n', "a stray quote")]
)
def test_unclosed_quote(fault, rows, what):
    """faults.md 119: a quote that swallows the rest."""
    error = fault(f"a,b\n1,2\n{rows}")
    assert error.row == 3
    assert what in str(error)


def test_column_names_that_repeat_or_are_empty(fault):
    """faults.md 120: all of them at once."""
    error = fault("a,b,a, ,c,c,c\n1,2,3,4,5,6,7\n")
    assert error.row == 1
    assert "got 'a' 2 times, 'c' 3 times, no name for column 4." in str(error)


@pytest.mark.parametrize("content", [b"a,b\r\n1,\xe9\r\n", b"\xef\xbb\xbfa\r\n1,\xff\n", b"a,\xce\xb2\n\n\0,1\n"])
def test_bytes_that_are_not_text(fault, content):
    """faults.md 123: bad UTF-8 and NUL, with byte offset and line."""
    offset = min(i for i in range(len(content)) if content[i] in b"\xe9\xff\0")
    error = fault(content)
    assert error.row == content[:offset].count(b"\n") + 1
    assert f"at byte offset {offset}." in str(error)


def test_utf_16_is_refused(fault):
    assert "expected UTF-8 text, got byte 0xff at byte offset 0" in str(fault("a,b\n1,2\n".encode("utf-16")))


def test_field_without_end(fault):
    """faults.md 123: a field of more than 131,072 characters."""
    error = fault("\ufeffa,b\n1,2\n3," + "4" * 140_000 + "\n")
    assert error.row == 3
    assert "got a longer one in the row at byte offset 11." in str(error)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_wrong_delimiter(fault, delimiter):
    """faults.md 118: one column, and another delimiter that would make more."""
    error = fault(f"a{delimiter}b\n1,5{delimiter}2,5\n")
    assert error.row == 1
    assert f"1 column found; did you mean delimiter={delimiter!r}?" in str(error)
    assert "did you mean delimiter=','?" in str(fault("a,b\n1,2\n", delimiter=delimiter))


SWINDLES = [
    "1_000",
    "\u0661\u0662",
    "0x1F",
    "1,5",
    "1 000",
    "inf",
    "-Infinity",
    "1e",
    "--1",
    "1.2.3",
    "5\u202f%",
    "True",
    ".",
]


@pytest.mark.parametrize("cell", SWINDLES)
def test_a_cell_among_numbers_that_is_none(fault, cell):
    """faults.md 122: what float() takes, and what looks like a number."""
    error = fault(f'id,x\na,1\nb,"{cell}"\nc,.5\n')
    assert (error.row, error.column) == (3, "x")
    assert f"expected a number (the column has 2 of them), got {cell!r}" in str(error)


def test_half_numbers_is_an_error_and_fewer_is_text(fault, write):
    assert fault("x\n1\na\n").row == 3
    assert read_csv(write("x\n1\na\nb\n"))["x"].tolist() == ["1", "a", "b"]


@pytest.mark.parametrize("cell", ["1e999", "-1e999", "9" * 400])
def test_numbers_too_large(fault, cell):
    """faults.md 122: what float() takes for infinity."""
    error = fault(f"id,x\na,1\nb,{cell}\n")
    assert (error.row, error.column) == (3, "x")
    assert f"expected a finite number, got '{cell}'" in str(error)


@fast
@given(st.text("0123456789+-.eE_x, \u0663", min_size=1, max_size=8))
def test_a_number_is_a_plain_decimal(write, cell):
    """faults.md 122: whatever is made of the characters of numbers."""
    result = attempt(write(f'x\n1\n"{cell}"\n'))
    if isinstance(result, Table):
        assert result["x"][-1] == (float(cell) if cell.strip() else 1.0)
        assert set(cell) <= set("0123456789+-.eE ")
    else:
        assert result.row == 3


def test_forms_of_a_number(write):
    cells = ["12", "-3", "+4.", ".5", "6e2", "7.0E-1", "  8 ", '"9"', "1e-999", "0" * 400]
    assert read_csv(write("\n".join(["x", *cells])))["x"].tolist() == [12, -3, 4, 0.5, 600, 0.7, 8, 9, 0, 0]


def test_a_long_cell_is_judged_in_no_time(fault):
    assert fault("x\n1\n" + "1" * 130_000 + "x\n").row == 3


# --- missing cells

GAPS = 'name,x,y\na,1,?\nb,NA,""\nc, ,4\nd,7,nan\ne,4,null\nf,NaN,2\n'


def test_missing_cells_are_counted(fault):
    """faults.md 121: an error, with counts for each column."""
    error = fault(GAPS)
    assert (error.row, error.column) == (2, "y")
    assert "expected no missing cells, got 7 ('y' 4, 'x' 3)." in str(error)


def test_missing_cells_become_the_mean(write):
    """faults.md 121: the mean of the column."""
    table = read_csv(write(GAPS), missing="mean")
    assert table["x"].tolist() == [1, 4, 4, 7, 4, 4]
    assert table["y"].tolist() == [3, 3, 4, 3, 3, 2]
    assert table["name"].tolist() == list("abcdef")


def test_rows_with_missing_cells_are_dropped(write, fault):
    """faults.md 121: no row that misses something."""
    path = write("name,x,y\na,1,\nb,2,3\n,4,5\nc,6,7\n")
    table = read_csv(path, missing="drop")
    assert table["name"].tolist() == ["b", "c"]
    np.testing.assert_array_equal(table.matrix(["x", "y"]), [[2, 3], [6, 7]])
    with pytest.raises(DataError, match="line 3, column 'name'"):
        table.matrix(["name"])
    assert "expected a row without missing cells, got none ('b' 2, 'a' 1)" in str(fault("a,b\n1,\n,\n", missing="drop"))


@pytest.mark.parametrize("content", ["x,y\n1,a\n2,b\n3,\n", "x,y\n1,\n2,?\n"])
def test_text_has_no_mean(fault, content):
    error = fault(content, missing="mean")
    assert error.column == "y"
    assert "expected numbers to take the mean of" in str(error)


def test_text_columns_are_taken_as_they_stand(write, fault):
    path = write("zip,country,x\n007,NA,1\nK2,,NA\n012,DE,3\n")
    table = read_csv(path, text=["zip", "country"], missing="mean")
    assert table["zip"].tolist() == ["007", "K2", "012"]
    assert table["country"].tolist() == ["NA", "", "DE"]
    assert table["x"].tolist() == [1, 2, 3]
    assert read_csv(write("zip\n007\n"), text="zip")["zip"].tolist() == ["007"]
    assert fault("a,b\n1,2\n", text=["c"]).column == "c"


# --- features and targets

SHOP = "shop,area,staff,sales,open\na,10,2,5,yes\nb,20,3,7,no\n"


def test_features_and_targets(write):
    table = read_csv(write(SHOP))
    X, y = table.xy("sales", ["staff", "area"])
    assert X.dtype == np.float64
    np.testing.assert_array_equal(X, [[2, 10], [3, 20]])
    assert y.tolist() == [5, 7]
    X, y = table.xy("open", features=["area"])
    assert (X.tolist(), y.tolist()) == ([[10], [20]], ["yes", "no"])
    X, y = table.xy(["sales", "staff"], "area")
    np.testing.assert_array_equal(y, [[5, 2], [7, 3]])
    numeric = read_csv(write("a,y,b\n1,2,3\n"))
    assert numeric.xy("y")[0].tolist() == [[1, 3]]
    assert numeric.xy(name for name in ["y"])[1].tolist() == [[2]]


def test_text_is_no_feature(write):
    with pytest.raises(DataError, match=r"got text in 'shop', 'open'\. Name .* features=, or .* data\.OneHotEncoder"):
        read_csv(write(SHOP)).xy("sales")
    with pytest.raises(DataError, match="line 2, column 'shop': expected a column of numbers, got 'a'"):
        read_csv(write(SHOP)).xy(["sales", "shop"], ["area"])


@pytest.mark.parametrize(
    ("target", "features", "column", "message"),
    [
        ("price", None, "price", "expected columns for target= among 'shop', .* got 'price'"),
        ("sales", ["sales", "area"], "sales", "expected features without the target, got 'sales' among them"),
        (["sales", "area"], ["area"], "area", "expected features without the target, got 'area' among them"),
        ("sales", ["size"], "size", "expected columns for features= among"),
        ("sales", [], None, "expected at least one column for features=, got none"),
        ([], None, None, "expected at least one column for target=, got none"),
        ("sales", ["area", "area"], "area", "expected each column once in features=, got 'area' again"),
    ],
)
def test_wrong_targets_and_features(write, target, features, column, message):
    """faults.md 125: the target column is absent, or also among the features."""
    with pytest.raises(DataError, match=message) as info:
        read_csv(write(SHOP)).xy(target, features)
    assert info.value.column == column


# --- using it wrongly


def test_unknown_column_and_text_in_a_matrix(write):
    table = read_csv(write('id,x,price\na,1,"1,5"\n\nb,2,3\nc,3,"4,5"\n'), text=["price"])
    with pytest.raises(DataError, match="expected a column among 'id', 'x', 'price', got 'y'") as info:
        table["y"]
    assert info.value.column == "y"
    with pytest.raises(DataError, match="line 2, column 'price': expected a column of numbers, got '1,5'") as info:
        table.matrix(["x", "price"])
    assert (info.value.row, info.value.column) == (2, "price")
    words = read_csv(write("x\n1\n\na\nb\n"))
    with pytest.raises(DataError, match="line 4, column 'x': expected a column of numbers, got 'a'"):
        words.matrix("x")


def test_options_are_checked(write):
    path = write("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected missing='error', 'mean' or 'drop', got 'zero'"):
        read_csv(path, missing="zero")
    for delimiter in ["", ",,", '"', "\n"]:
        with pytest.raises(ValueError, match="expected a delimiter of one character"):
            read_csv(path, delimiter=delimiter)
