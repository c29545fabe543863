#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <string>
#include <vector>

#include "base/options.h"
#include "foveal/llm.h"

namespace foveal::python {

namespace nb = nanobind;

/// Each adds its part to the module; types first that later parts return.
void bind_errors(nb::module_& module);
void bind_config(nb::module_& module);
void bind_results(nb::module_& module);
void bind_signal(nb::module_& module);
void bind_request(nb::module_& module);
void bind_engine(nb::module_& module);

/// None, bool, numbers, str, lists, tuples and dicts as the tree that tables of fields read.
/// Throws kInvalidArgument for anything else. Needs the GIL, as all that takes a handle.
ConfigNode to_node(nb::handle value, int depth = 0);

/// The fields of a struct by name, as Python values; nested structs are dicts.
nb::dict values_of(const OptionGroup& group);
/// One field's value: what its table points at.
nb::object value_of(const OptionField& field);

/// Python's sampling parameters: the table's fields, and what guides the text (or None).
SamplingParams sampling_from(nb::handle values, nb::handle guided);
/// {"off": ..., "threshold_scale_factor": ...} or None.
RequestOptions options_from(nb::handle sparse_attention, std::string cache_salt);

/// Runs `work` without the GIL.
template <class Work>
auto without_gil(Work work) {
  const nb::gil_scoped_release release;
  return work();
}

}  // namespace foveal::python
