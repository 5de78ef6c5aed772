"""Paths for Spark: Hadoop escapes nothing, reads patterns, and Java's options are divided at spaces."""

from pathlib import Path

from vlm4rec_search.common.spark.paths import java_option, spark_path, spark_pattern


def test_a_path_keeps_its_signs_and_is_no_pattern() -> None:
    folder = Path("/srv/my shop ü [new]")
    assert spark_path(folder) == "file:///srv/my shop ü [new]"
    assert spark_pattern(folder, ["a.parquet"]) == r"file:///srv/my shop ü \[new\]/a.parquet"
    assert spark_pattern(folder, ["a", "b"]) == r"file:///srv/my shop ü \[new\]/{a,b}"
    assert java_option("log", folder / 'a "b".log') == r'-Dlog="/srv/my shop ü [new]/a \"b\".log"'
