#include <nanobind/stl/string.h>

#include "base/check.h"
#include "bind.h"

namespace foveal::python {
namespace {

constexpr int kMaxDepth = 32;  // as for YAML

std::string utf8(nb::handle text) {
  Py_ssize_t size = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (!bytes) throw nb::python_error();
  return {bytes, static_cast<size_t>(size)};
}

ConfigNode list_node(nb::handle value, int depth) {
  ConfigNode node;
  node.kind = ConfigNode::Kind::kList;
  for (const nb::handle item : nb::borrow<nb::sequence>(value)) {
    node.items.push_back(to_node(item, depth + 1));
  }
  return node;
}

ConfigNode map_node(nb::handle value, int depth) {
  ConfigNode node = ConfigNode::map();
  for (const auto& [key, item] : nb::borrow<nb::dict>(value)) {
    const bool named = PyUnicode_Check(key.ptr()) || PyLong_Check(key.ptr());
    FOVEAL_CHECK(named, ErrorKind::kInvalidArgument, "config", "got a key {}; need text",
                 utf8(nb::repr(key)));
    node.entries.push_back({utf8(nb::str(key)), to_node(item, depth + 1)});
  }
  return node;
}

}  // namespace

ConfigNode to_node(nb::handle value, int depth) {
  FOVEAL_CHECK(depth < kMaxDepth, ErrorKind::kInvalidArgument, "config",
               "got values {} levels deep; need fewer", depth);
  PyObject* object = value.ptr();
  if (value.is_none()) return {};
  if (PyBool_Check(object)) return ConfigNode::scalar(object == Py_True ? "true" : "false", {});
  if (PyUnicode_Check(object)) return ConfigNode::scalar(utf8(value), {}, /*quoted=*/true);
  if (PyList_Check(object) || PyTuple_Check(object)) return list_node(value, depth);
  if (PyDict_Check(object)) return map_node(value, depth);
  if (PyFloat_Check(object)) return ConfigNode::scalar(utf8(nb::repr(value)), {});
  // Whatever counts as an integer or a number: those of numpy, for instance.
  if (PyIndex_Check(object)) {
    return ConfigNode::scalar(utf8(nb::str(nb::steal(PyNumber_Index(object)))), {});
  }
  if (nb::hasattr(value, "__float__")) {
    return ConfigNode::scalar(utf8(nb::repr(nb::steal(PyNumber_Float(object)))), {});
  }
  fail(ErrorKind::kInvalidArgument, "config",
       "got a value of type {}; need None, bool, int, float, str, list or dict",
       utf8(value.type().attr("__name__")));
}

}  // namespace foveal::python
