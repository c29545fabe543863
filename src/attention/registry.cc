#include "attention/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"

namespace foveal::attention {
namespace {

struct AlgorithmName {
  std::string_view operator()(const SkipSoftmaxAttentionConfig&) const { return "skip_softmax"; }
  std::string_view operator()(const RocketSparseAttentionConfig&) const { return "rocket"; }
  std::string_view operator()(const DeepSeekSparseAttentionConfig&) const { return "dsa"; }
};

/// Algorithms of the configuration that may have no room yet, and what there is to say about it.
struct PlannedAlgorithm {
  std::string_view name;
  std::string_view need;
};
constexpr PlannedAlgorithm kPlanned[] = {
    {"rocket", "rocket is not available in this build yet"},
    {"dsa",
     "dsa is not available in this build yet, and it runs only on checkpoints with a lightning "
     "indexer (DeepSeek-V3.2 and its kin), not on dense models"},
};

std::vector<std::string_view> registered_names() {
  std::vector<std::string_view> names;
  for (const MethodRow& row : method_rows()) names.push_back(row.name);
  return names;
}

}  // namespace

const MethodRow& find_method(std::string_view name) {
  for (const MethodRow& row : method_rows()) {
    if (row.name == name) return row;
  }
  const std::vector<std::string_view> known = registered_names();
  for (const PlannedAlgorithm& planned : kPlanned) {
    FOVEAL_CHECK(planned.name != name, ErrorKind::kUnsupported, "sparse_attention_config",
                 "got algorithm '{}'; need one of {}: {}", name, known, planned.need);
  }
  fail(ErrorKind::kInvalidArgument, "sparse_attention_config",
       "got unknown algorithm '{}'; need one of {}", name, known);
}

std::string_view algorithm_name(const SparseAttentionConfig& config) {
  return std::visit(AlgorithmName{}, config);
}

}  // namespace foveal::attention
