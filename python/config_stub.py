"""Writes type stubs of the configuration classes from the table of fields:
config_stub.py OUTPUT/_configs.pyi, with the built extension on PYTHONPATH."""

import importlib.util
import pathlib
import sys

import _foveal

HERE = pathlib.Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("kinds", HERE / "foveal/_kinds.py")
KINDS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(KINDS)

HEAD = '''"""Made by python/config_stub.py from the C++ table of fields."""

from typing import Any

from foveal.guided import GuidedDecodingParams

def plain(value: Any) -> Any: ...

class Config:
    def __init__(self, **values: Any) -> None: ...
    def to_dict(self) -> dict[str, Any]: ...
    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Any: ...

class BaseSparseAttentionConfig(Config): ...
'''


def rows(kind):
    """(name, type, default, help) of one table, other names of a field included."""
    for field in _foveal.fields(kind):
        kind_text = "Any" if field["fixed"] else field["type"]
        if field["default"] is None and "None" not in kind_text:
            kind_text += " | None"
        for name in [field["name"], *field["also"]]:
            yield name, kind_text, repr(field["default"]), field["help"]


def class_text(name, base, fields):
    lines = [f"class {name}({base}):" if base else f"class {name}:"]
    for field, kind, _, text in fields:
        lines += [f"    {field}: {kind}  # {text}"]
    lines += ["    def __init__(", "        self,", "        *,"]
    lines += [f"        {field}: {kind} = {default}," for field, kind, default, _ in fields]
    return "\n".join([*lines, "    ) -> None: ..."])


def sampling_fields():
    for name, kind, default, text in rows("sampling"):
        if name in KINDS.SAMPLING_NONE:
            kind, default = (kind if "None" in kind else f"{kind} | None"), "None"
        yield name, kind, default, text
    for name, (default, kind, text) in KINDS.SAMPLING_EXTRAS.items():
        yield name, kind, repr(default), text
    yield from rows("trtllm_sampling")


def main():
    names = ["BaseSparseAttentionConfig", *KINDS.CONFIGS]
    parts = [HEAD + f"\n__all__ = {names}\n"]
    for name, (kind, base, _) in KINDS.CONFIGS.items():
        parts.append(class_text(name, base, list(rows(kind))))
    parts.append(class_text("SamplingParamsFields", "", list(sampling_fields())))
    pathlib.Path(sys.argv[1]).write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
