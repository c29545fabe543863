#include "attention/registry.h"

#include "base/check.h"

namespace foveal::attention {
namespace {

/// Algorithms of the configuration that may have no room yet, and what there is to say about it.
struct PlannedAlgorithm {
  std::string_view name;
  std::string_view need;
};
constexpr PlannedAlgorithm kPlanned[] = {
    {"dsa",
     "dsa is not available in this build yet, and it runs only on checkpoints with a lightning "
     "indexer (DeepSeek-V3.2 and its kin), not on dense models"},
};

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
  const std::string known = configurable_names();
  for (const PlannedAlgorithm& planned : kPlanned) {
    FOVEAL_CHECK(planned.name != name, ErrorKind::kUnsupported, "sparse_attention_config",
                 "got algorithm '{}'; need one of {}: {}", name, known, planned.need);
  }
  fail(ErrorKind::kInvalidArgument, "sparse_attention_config",
       "got unknown algorithm '{}'; need one of {}", name, known);
}

}  // namespace foveal::attention
