"""The door of Spark: a UDF answers every row once and in its place, also when a worker is lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import mlflow
import pandas as pd
import psutil
import pytest

from mooring.api.package import PackagedModel
from tests.doors.answers import ANSWERS, QUESTIONS

pytestmark = pytest.mark.slow

ROWS = [QUESTIONS[number % len(QUESTIONS)] for number in range(24)]
PATIENCE = 120.0


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a session with two workers, whose tasks may fail three times; needs Java."""
    folder = tmp_path_factory.mktemp("spark")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--target", str(folder), "--no-deps", "pyspark==4.0.1", "py4j==0.10.9.9",
        ],
        check=True,
        timeout=600,
    )  # fmt: skip
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(folder))
    patch.setenv("SPARK_HOME", str(folder / "pyspark"))
    patch.setenv("PYSPARK_PYTHON", sys.executable)
    patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    session = (
        import_module("pyspark.sql")
        .SparkSession.builder.master("local[2,4]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.python.worker.reuse", "false")
        .getOrCreate()
    )
    yield session
    session.stop()
    patch.undo()


def answered(spark: Any, demo: PackagedModel, *, whole_rows: bool) -> list[tuple[int, str]]:
    """Answer all rows in two partitions; return their numbers and answers, by number."""
    uri = f"models:/demo/{demo.version}"
    answer = mlflow.pyfunc.spark_udf(spark, uri, env_manager="local", result_type="string")
    frame = spark.createDataFrame(pd.DataFrame({"number": range(len(ROWS)), "prompt": ROWS}))
    asked = import_module("pyspark.sql.functions").struct("prompt") if whole_rows else "prompt"
    told = frame.repartition(2).withColumn("answer", answer(asked)).orderBy("number").collect()
    return [(row["number"], row["answer"]) for row in told]


def workers() -> list[psutil.Process]:
    """Return the processes that run Python for Spark's tasks."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            parent = process.parent()
            # A daemon forks one worker for each task.
            family = [process] if parent is None else [process, parent]
            if all("pyspark.daemon" in member.cmdline() for member in family):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize("whole_rows", [False, True])
def test_every_row_is_answered_in_its_place(
    spark: Any, demo: PackagedModel, whole_rows: bool
) -> None:
    expected = [(number, ANSWERS[question]) for number, question in enumerate(ROWS)]
    assert answered(spark, demo, whole_rows=whole_rows) == expected


def test_a_lost_worker_costs_no_row_and_doubles_none(spark: Any, demo: PackagedModel) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + PATIENCE
        while not killed and time.monotonic() < deadline:
            for process in workers():
                # Once it has loaded the model, so in the middle of its rows.
                if process.memory_info().rss > 400e6:
                    process.send_signal(signal.SIGKILL)
                    killed.append(process.pid)
                    break
            time.sleep(0.05)

    killing = threading.Thread(target=kill_one)
    killing.start()
    found = answered(spark, demo, whole_rows=True)
    killing.join()
    assert len(killed) == 1
    assert found == [(number, ANSWERS[question]) for number, question in enumerate(ROWS)]
