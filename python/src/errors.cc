// One Python exception a kind of foveal::Error. The classes are Python's (foveal/_errors.py),
// because they have two bases each; here is only the translation.
#include <array>

#include "bind.h"
#include "foveal/error.h"

namespace foveal::python {
namespace {

constexpr size_t kKinds = static_cast<size_t>(ErrorKind::kInternal) + 1;

// Never freed: an exception may still be raised while the interpreter ends.
std::array<PyObject*, kKinds>& error_types() {
  static std::array<PyObject*, kKinds> types{};
  return types;
}

void set_error_types(const nb::list& types) {
  if (types.size() != kKinds) throw nb::value_error("one type a kind, please");
  for (size_t idx = 0; idx < kKinds; ++idx) {
    error_types()[idx] = nb::object(types[idx]).release().ptr();
  }
}

void translate(const std::exception_ptr& caught, void*) {
  try {
    std::rethrow_exception(caught);
  } catch (const Error& error) {
    PyObject* type = error_types()[static_cast<size_t>(error.kind())];
    PyErr_SetString(type ? type : PyExc_RuntimeError, error.what());
  }
}

}  // namespace

void bind_errors(nb::module_& module) {
  nb::register_exception_translator(translate, nullptr);
  module.def("set_error_types", &set_error_types, nb::arg("types"),
             "The exception classes in the order of ErrorKind.");
}

}  // namespace foveal::python
