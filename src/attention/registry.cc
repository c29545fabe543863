#include "attention/registry.h"

#include "base/check.h"

namespace foveal::attention {
namespace {

/// What a configuration can name; dense is what runs without one.
std::string configurable_names() {
  std::string names;
  for (const MethodRow& row : method_rows()) {
    if (row.name == kDenseMethod) continue;
    if (!names.empty()) names += ", ";
    names += row.name;
  }
  return names;
}

}  // namespace

const MethodRow& find_method(std::string_view name) {
  for (const MethodRow& row : method_rows()) {
    if (row.name == name) return row;
  }
  fail(ErrorKind::kInvalidArgument, "sparse_attention_config",
       "got unknown algorithm '{}'; need one of {}", name, configurable_names());
}

}  // namespace foveal::attention
