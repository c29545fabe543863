// From a table of fields back to Python.
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <charconv>

#include "bind.h"

namespace foveal::python {
namespace {

// The spelling of a value as it stands in a table.
nb::object parsed(std::string_view text) {
  if (text.empty()) return nb::none();
  if (text == "true") return nb::bool_(true);
  if (text == "false") return nb::bool_(false);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return nb::str(text.data(), text.size());
  }
  return nb::float_(number);
}

nb::object phase(const PhaseValue& value) {
  if (value.prefill && value.prefill == value.decode) return nb::float_(*value.prefill);
  nb::dict out;
  if (value.prefill) out["prefill"] = *value.prefill;
  if (value.decode) out["decode"] = *value.decode;
  if (!value.prefill && !value.decode) out["prefill"] = nb::none();  // off, but said so
  return out;
}

struct ToPython {
  nb::object operator()(const bool* value) const { return nb::bool_(*value); }
  nb::object operator()(const PhaseValue* value) const { return phase(*value); }
  template <class T>
  nb::object operator()(const T* value) const {
    return nb::cast(*value);
  }
  template <class T>
  nb::object operator()(const std::optional<T>* value) const {
    return *value ? (*this)(&**value) : nb::object(nb::none());
  }
  nb::object operator()(const std::shared_ptr<OptionGroup>& group) const {
    return values_of(*group);
  }
  nb::object operator()(const FixedOption& fixed) const {
    const nb::object value = parsed(fixed.accepts);
    return PyFloat_Check(value.ptr()) ? nb::object(nb::int_(value)) : value;
  }
  // A count is written without a point, a share with one: topr.
  nb::object operator()(const CustomOption& custom) const {
    const std::string text = custom.shown_value ? custom.shown_value() : std::string();
    const nb::object value = parsed(text);
    const bool count = text.find_first_not_of("0123456789") == std::string::npos;
    return count && PyFloat_Check(value.ptr()) ? nb::object(nb::int_(value)) : value;
  }
};

}  // namespace

nb::object value_of(const OptionField& field) {
  return std::visit([](const auto& target) { return ToPython{}(target); }, field.target);
}

nb::dict values_of(const OptionGroup& group) {
  nb::dict out;
  for (const OptionField& field : group.fields) {
    out[nb::str(field.name.data(), field.name.size())] = value_of(field);
  }
  return out;
}

}  // namespace foveal::python
