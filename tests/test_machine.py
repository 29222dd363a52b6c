from pathlib import Path

import psutil
import pytest

from mooring.machine import (
    Gpu,
    container_memory,
    names_bfloat16,
    read_gpus,
    read_machine,
    read_memory,
)

GIB = 2**30


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def member(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "cgroup"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_this_machine(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert 0 < machine.memory_available <= machine.memory_total <= psutil.virtual_memory().total
    assert machine.disk_free > 0
    assert read_memory()[0] == machine.memory_total


class TestContainer:
    def test_version_2_counts_files_that_can_be_dropped_as_free(self, tmp_path: Path) -> None:
        root = tmp_path / "groups"
        write(
            root / "pod" / "app",
            memory__max=f"{4 * GIB}\n",
            memory__current=f"{3 * GIB}\n",
            memory__stat=f"anon 1\ninactive_file {GIB}\nactive_file {GIB // 2}\n",
        )
        expected = (4 * GIB, 5 * GIB // 2)
        assert container_memory(root, member(tmp_path, "0::/pod/app")) == expected

    def test_the_tightest_limit_above_counts(self, tmp_path: Path) -> None:
        root = tmp_path / "groups"
        write(root / "pod", memory__max=str(2 * GIB), memory__current=str(GIB // 2))
        write(root / "pod" / "app", memory__max=str(4 * GIB), memory__current=str(GIB // 2))
        expected = (2 * GIB, 2 * GIB - GIB // 2)
        assert container_memory(root, member(tmp_path, "0::/pod/app")) == expected

    def test_max_means_no_limit(self, tmp_path: Path) -> None:
        root = tmp_path / "groups"
        write(root, memory__max="max\n", memory__current=str(GIB))
        assert container_memory(root, member(tmp_path, "0::/")) == (None, 0)

    def test_version_1(self, tmp_path: Path) -> None:
        root = tmp_path / "groups"
        write(
            root / "memory" / "app",
            memory__limit_in_bytes=str(GIB),
            memory__usage_in_bytes=str(GIB // 2),
            memory__stat=f"inactive_file 5\ntotal_inactive_file {GIB // 4}\ntotal_active_file 1\n",
        )
        membership = member(tmp_path, "5:cpu:/app", "4:memory:/app", "0::/")
        assert container_memory(root, membership) == (GIB, 3 * GIB // 4 + 1)

    def test_more_used_than_allowed_leaves_nothing(self, tmp_path: Path) -> None:
        root = tmp_path / "groups"
        write(root, memory__max=str(GIB), memory__current=str(2 * GIB))
        assert container_memory(root, member(tmp_path, "0::/")) == (GIB, 0)

    def test_no_control_groups(self, tmp_path: Path) -> None:
        assert container_memory(tmp_path / "none", tmp_path / "nothing") == (None, 0)


class TestGpus:
    ANSWER = "0, NVIDIA H100 80GB HBM3, 81559, 81000\n1, NVIDIA T4, 15360, 100\n"
    H100 = Gpu("NVIDIA H100 80GB HBM3", 81559 * 2**20, 81000 * 2**20)
    T4 = Gpu("NVIDIA T4", 15360 * 2**20, 100 * 2**20)

    @pytest.fixture
    def driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Put a program of that name first on the path."""
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{self.ANSWER}END\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return program

    @pytest.mark.usefixtures("driver")
    def test_each_is_read(self) -> None:
        assert read_gpus() == (self.H100, self.T4)

    @pytest.mark.usefixtures("driver")
    @pytest.mark.parametrize(
        ("visible", "expected"),
        [("", ()), ("-1", ()), ("1", (T4,)), ("0,1", (H100, T4)), ("GPU-ab12", (H100, T4))],
    )
    def test_hidden_ones_do_not_count(self, visible: str, expected: tuple[Gpu, ...]) -> None:
        assert read_gpus(visible) == expected

    @pytest.mark.parametrize(
        "script",
        ["exit 9", "echo 0, Orin, [N/A], [N/A]", "echo No devices were found", "kill -9 $$"],
    )
    def test_a_driver_that_does_not_work_means_none(self, driver: Path, script: str) -> None:
        driver.write_text(f"#!/bin/sh\n{script}\n")
        assert read_gpus() == ()

    def test_no_driver_means_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert read_gpus() == ()


@pytest.mark.parametrize(
    ("cpu_info", "native"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("model name\t: amx_bf16\n", False),
        ("", False),
    ],
)
def test_bfloat16_is_read_from_the_flags(cpu_info: str, native: bool) -> None:
    assert names_bfloat16(cpu_info) is native
