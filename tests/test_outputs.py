"""Outputs that do not affect each other."""

import json

import pytest

from bertsnr_tools.errors import DataError
from bertsnr_tools.io.outputs import Failures, KeptStream, write_json


def test_json_has_no_nan(tmp_path):
    write_json(str(tmp_path / "x.json"), {"a": [1.5, float("nan"), (float("inf"), None)], "b": {"c": "NaN"}})
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == {
        "a": [1.5, None, [None, None]],
        "b": {"c": "NaN"},
    }


def test_errors_are_logged_once_and_the_last_is_raised(caplog):
    with pytest.raises(DataError, match="^second$") as raised, Failures("a", "b", "c") as failures:
        for text in ("first", "second"):
            with failures.kept():
                raise DataError(text)
    assert [record.message for record in caplog.records] == ["first", "second"] and raised.value.logged


def test_an_error_is_raised_at_once_when_nothing_is_left_to_write(caplog):
    with pytest.raises(DataError, match="^second$") as raised, Failures("a", "b") as failures:
        for text in ("first", "second", "third"):
            with failures.kept():
                raise DataError(text)
    assert [record.message for record in caplog.records] == ["first"] and not raised.value.logged


def test_another_error_is_not_replaced():
    with pytest.raises(KeyError), Failures("a", "b") as failures:
        with failures.kept():
            raise DataError("first")
        raise KeyError


def test_a_stream_ends_at_its_error_and_leaves_no_file(tmp_path, file_limit):
    with pytest.raises(DataError, match="x.fa: File too large"), Failures("a", "b") as failures:
        with KeptStream(str(tmp_path / "x.fa"), failures) as stream:
            with file_limit(1000):
                stream.write_all([b"A" * 600] * 100)
            assert stream.failed and not list(tmp_path.iterdir())
            stream.write(b"A")
            stream.flush()
        (tmp_path / "other").write_text("complete")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_stream_without_an_error_is_complete_and_one_with_another_error_is_not(tmp_path):
    with Failures("a") as failures:
        with KeptStream(str(tmp_path / "x"), failures) as stream:
            stream.write(b"text")
        with pytest.raises(KeyError), KeptStream(str(tmp_path / "y"), failures) as stream:
            stream.write(b"text")
            raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and not stream.failed
