#pragma once

#include <cstdint>
#include <span>

namespace foveal::sampler {

/// What narrows a distribution down, in this order. All rules keep the better entries: by value,
/// ties to the lower id.
struct Filters {
  double temperature = 1;  ///< > 0
  int64_t top_k = 0;       ///< keeps the k best; 0: all
  double top_p = 1;  ///< then the shortest run of best ones with at least this share of the rest
  double min_p = 0;  ///< then those with at least this share of the best one's probability
};

/// The best entry, ties to the lower id. Throws kInvalidArgument when every entry is -inf.
int32_t argmax(std::span<const float> logits);

/// The entry at quantile `u` in [0, 1) of softmax(logits / temperature) after the filters, with the
/// survivors in order of id. Entries are below +inf and not NaN; throws as `argmax` does.
int32_t choose(std::span<const float> logits, const Filters& filters, double u);

}  // namespace foveal::sampler
