"""What a completion must look like."""

import json as json_module
from dataclasses import dataclass
from typing import Any

from foveal._errors import refuse

_KINDS = ("json", "regex", "grammar", "json_object", "choice", "structural_tag")


@dataclass
class GuidedDecodingParams:
    """Exactly one of these. `json`: a schema as text, dict or pydantic class; `grammar`: Lark."""

    json: Any = None
    regex: str | None = None
    grammar: str | None = None
    json_object: bool = False
    choice: list[str] | None = None
    structural_tag: str | None = None

    def __post_init__(self):
        if self.structural_tag is not None:
            refuse("guided_decoding.structural_tag", "a value", "None: Foveal has none")
        if self.json_object not in (True, False):
            refuse("guided_decoding.json_object", repr(self.json_object), "True or False")
        given = self._given()
        if len(given) != 1:
            refuse("guided_decoding", " and ".join(given) or "nothing",
                   f"exactly one of {', '.join(_KINDS[:-1])}")
        self.to_native()

    def _given(self):
        return [kind for kind in _KINDS if getattr(self, kind) not in (None, False)]

    def to_native(self):
        """{"kind", "text"} for the engine."""
        (kind,) = self._given()
        value = getattr(self, kind)
        if kind == "json":
            value = _schema_text(value)
        elif kind == "json_object":
            value = ""
        elif kind == "choice":
            good = isinstance(value, (list, tuple)) and value
            if not good or not all(isinstance(choice, str) for choice in value):
                refuse("guided_decoding.choice", repr(value), "a list of texts")
            value = list(value)
        if kind != "choice" and not isinstance(value, str):
            refuse(f"guided_decoding.{kind}", repr(value), "text")
        return {"kind": kind, "text": value}


def _schema_text(schema):
    if hasattr(schema, "model_json_schema"):
        schema = schema.model_json_schema()
    return json_module.dumps(schema) if isinstance(schema, (dict, bool)) else schema
