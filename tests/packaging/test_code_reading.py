from pathlib import Path

import pytest

from mooring.errors import BrokenSource
from mooring.packaging.code_reading import Imports, read_imports


def read(folder: Path, code: str, **others: str) -> Imports:
    for name, text in {"modeling_x": code, **others}.items():
        (folder / f"{name}.py").write_text(text)
    return read_imports(folder, ["modeling_x"])


def imports(required: str = "", optional: str = "") -> Imports:
    return Imports(frozenset(required.split()), frozenset(optional.split()))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import einops\nimport os, sys, json.decoder", imports("einops")),
        ("from einops.layers.torch import Rearrange", imports("einops.layers.torch")),
        ("from __future__ import annotations", imports()),
        ("def f():\n    import scipy", imports("scipy")),
        ("class A:\n    import scipy", imports("scipy")),
        ("try:\n    import a\nexcept ImportError:\n    a = None", imports("", "a")),
        ("try:\n    import a\nexcept (KeyError, ModuleNotFoundError):\n    import b",
         imports("", "a b")),
        ("try:\n    import a\nexcept:\n    pass", imports("", "a")),
        ("try:\n    import a\nexcept builtins.ImportError:\n    pass", imports("", "a")),
        ("try:\n    import a\nexcept ValueError:\n    pass", imports("a")),
        ("try:\n    import a\nfinally:\n    pass", imports("a")),
        ("if is_flash_attn_2_available():\n    import a\nelse:\n    import b", imports("", "a b")),
        ("if x and utils.is_torch_npu_available():\n    import a", imports("", "a")),
        ("if is_flash_attn_available('2.0'):\n    def f():\n        import a", imports("", "a")),
        ("if version > 3:\n    import a", imports("a")),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", imports("b")),
        ("if typing.TYPE_CHECKING:\n    import a", imports()),
        ("try:\n    import a\nexcept ImportError:\n    pass\nimport a", imports("a")),
        ("import importlib\nimportlib.import_module('a')", imports()),
    ],
)  # fmt: skip
def test_what_must_be_there_and_what_may(tmp_path: Path, code: str, found: Imports) -> None:
    assert read(tmp_path, code) == found


def test_relative_imports_are_followed(tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "__init__.py").write_text("from .norm import Norm")
    (tmp_path / "layers" / "norm.py").write_text("import c\nfrom ..shared import x")
    found = read(
        tmp_path,
        "from .configuration_x import Config\nfrom . import other\nfrom .layers import Norm",
        configuration_x="import a\nfrom .modeling_x import circle",
        other="import b",
        shared="import d",
        unrelated="import never",
    )
    assert found == imports("a b c d")


def test_relative_imports_do_not_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("import never")
    (tmp_path / "model").mkdir()
    assert read(tmp_path / "model", "from ..outside import x") == imports()


def test_modules_in_folders_are_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "modeling.py").write_text("import a")
    assert read_imports(tmp_path, ["deep.modeling"]) == imports("a")


@pytest.mark.parametrize("code", ["def f(:", "import\0os"])
def test_code_that_is_no_python(tmp_path: Path, code: str) -> None:
    with pytest.raises(BrokenSource, match=r"Given: modeling_x\.py, which cannot be parsed"):
        read(tmp_path, code)
