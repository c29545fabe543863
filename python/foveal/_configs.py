"""Configuration classes. Names, defaults, ranges and error texts are the C++ table's; nothing about
a field is written here."""

import inspect
import os
import types

from foveal import _foveal
from foveal._errors import refuse
from foveal._kinds import CONFIGS

__all__ = ["BaseSparseAttentionConfig", *CONFIGS]


def plain(value):
    """Configs as dicts, tuples as lists, paths as text: what the tables read."""
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def document(cls, fields):
    """Gives a class the signature and docstring that its fields make."""
    shown = [field for field in fields if not field["fixed"]]
    keyword = inspect.Parameter.KEYWORD_ONLY
    cls.__signature__ = inspect.Signature([
        inspect.Parameter(field["name"], keyword, default=field["default"]) for field in shown
    ])
    rows = [f"    {field['name']}: {field['help']} ({field['need']})" for field in shown]
    cls.__doc__ = "\n".join([(cls.__doc__ or cls.__name__).strip(), "", *rows])


class Config:
    """A set of fields, checked whenever one of them is set."""

    _kind = ""
    _defaults = {}
    _aliases = {}
    _fixed = frozenset()
    _settled = frozenset()  # what follows from the others until it is set

    def __init_subclass__(cls, kind="", **kwargs):
        super().__init_subclass__(**kwargs)
        if not kind:
            return
        fields = _foveal.fields(kind)
        cls._kind = kind
        cls._defaults = {field["name"]: field["default"] for field in fields}
        cls._aliases = {also: field["name"] for field in fields for also in field["also"]}
        cls._fixed = frozenset(field["name"] for field in fields if field["fixed"])
        cls._settled = frozenset(field["name"] for field in fields
                                 if field["type"].endswith("None") and field["default"] is not None)
        document(cls, fields)

    def __init__(self, **values):
        if not self._kind:
            refuse(type(self).__name__, "the base class", f"one of {', '.join(CONFIGS)}")
        self._take(plain(values))

    def _take(self, values):
        bound = _foveal.bind(self._kind, values, type(self).__name__)
        self.__dict__.clear()
        self.__dict__.update((name, value) for name, value in bound.items()
                             if name not in self._settled or values.get(name) is not None)

    def _all(self):
        return _foveal.bind(self._kind, self.__dict__, type(self).__name__)

    def __setattr__(self, name, value):
        name = self._aliases.get(name, name)
        self._take({**self.__dict__, name: plain(value)})

    def __delattr__(self, name):
        setattr(self, name, None if name in self._settled else self._defaults[name])

    def __getattr__(self, name):  # only for what is not there: other names of a field, and settled ones
        if name in type(self)._aliases:
            return self.__dict__[self._aliases[name]]
        if name in type(self)._settled:
            return self._all()[name]
        raise AttributeError(f"{type(self).__name__} has no field {name}")

    def __eq__(self, other):
        return type(self) is type(other) and self._all() == other._all()

    __hash__ = None

    def __repr__(self):
        shown = [f"{name}={value!r}" for name, value in self.__dict__.items()
                 if name in self._settled or value != self._defaults[name]]
        return f"{type(self).__name__}({', '.join(shown)})"

    def to_dict(self):
        """All fields that can be chosen, and the algorithm's name."""
        return {name: value for name, value in self._all().items()
                if name not in self._fixed or name == "algorithm"}

    @classmethod
    def from_dict(cls, values):
        return cls(**values)


class BaseSparseAttentionConfig(Config):
    """One algorithm of sparse attention."""

    @classmethod
    def from_dict(cls, values):
        """Of any algorithm when called on the base class: `algorithm` says which."""
        if cls is not BaseSparseAttentionConfig:
            return cls(**values)
        known = {sub._defaults["algorithm"]: sub for sub in cls.__subclasses__()}
        name = values.get("algorithm")
        if name not in known:
            refuse("sparse_attention_config.algorithm", repr(name), f"one of {', '.join(known)}")
        return known[name](**values)


def config_class(name, kind, base, text):
    """The class of one table."""
    def body(namespace):
        namespace.update(__doc__=text, __module__=__name__)
    return types.new_class(name, (globals()[base],), {"kind": kind}, body)


for _name, (_kind, _base, _text) in CONFIGS.items():
    globals()[_name] = config_class(_name, _kind, _base, _text)
