#include "calibrate/exclude.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"

namespace foveal::calibrate {
namespace {

class Search {
 public:
  Search(const KlToDense& dense, const SkipSoftmaxAttentionConfig& sparse, int32_t num_layers)
      : dense_(dense), sparse_(sparse), num_layers_(num_layers) {}

  KlResult measure(std::vector<int32_t> dense_layers, Half half) const {
    std::sort(dense_layers.begin(), dense_layers.end());
    SkipSoftmaxAttentionConfig tested = sparse_;
    tested.dense_layers = std::move(dense_layers);
    LlmConfig config = dense_.sized();
    config.sparse_attention_config = {tested};
    return dense_.measure(config, half);
  }

  std::vector<LayerCost> alone(const std::vector<int32_t>& layers,
                               const std::function<bool()>& in_time) const {
    std::vector<LayerCost> out;
    Progress bar("layers", std::ssize(layers));
    for (const int32_t layer : layers) {
      if (!in_time()) {
        log_warn("[calibrate] got no more time after {} of {} layers; need a larger --time-limit",
                 out.size(), layers.size());
        break;
      }
      std::vector<int32_t> others;
      for (int32_t other = 0; other < num_layers_; ++other) {
        if (other != layer) others.push_back(other);
      }
      const KlResult got = measure(std::move(others), Half::kEven);
      out.push_back({.layer = layer, .kl = got.kl, .left_out = left_out(got.sparsity)});
      bar.update(std::ssize(out));
    }
    return out;
  }

 private:
  const KlToDense& dense_;
  const SkipSoftmaxAttentionConfig& sparse_;
  int32_t num_layers_;
};

// Those that nobody measured come last, in the model's order.
std::vector<int32_t> order_of_all(const std::vector<LayerCost>& costs,
                                  const std::vector<int32_t>& layers) {
  std::vector<int32_t> out = exclusion_order(costs);
  for (const int32_t layer : layers) {
    if (std::find(out.begin(), out.end(), layer) == out.end()) out.push_back(layer);
  }
  return out;
}

// Windows of the model and a checkpoint's `ignore` may leave layers nothing to skip.
std::vector<int32_t> layers_that_skip(const SparsityReport& sparsity) {
  std::vector<int32_t> out;
  for (size_t layer = 0; layer < sparsity.layers.size(); ++layer) {
    const LayerSparsity& of = sparsity.layers[layer];
    if (of.prefill.skipped() > 0 || of.decode.skipped() > 0) {
      out.push_back(static_cast<int32_t>(layer));
    }
  }
  return out;
}

}  // namespace

double left_out(const SparsityReport& sparsity) {
  const LayerSparsity total = sparsity.total();
  double sum = 0;
  double phases = 0;
  for (const PhaseSparsity& phase : {total.prefill, total.decode}) {
    if (phase.skipped() == 0) continue;
    sum += phase.skipped();
    phases += 1;
  }
  return phases == 0 ? 0 : sum / phases;
}

std::vector<int32_t> exclusion_order(std::vector<LayerCost> costs) {
  std::stable_sort(costs.begin(), costs.end(),
                   [](const LayerCost& a, const LayerCost& b) { return a.kl > b.kl; });
  std::vector<int32_t> out;
  for (const LayerCost& cost : costs) out.push_back(cost.layer);
  return out;
}

std::optional<int64_t> fewest_within(double budget, int64_t most,
                                     const std::function<double(int64_t)>& kl_of) {
  if (kl_of(most) > budget) return std::nullopt;
  int64_t low = 0;  // too few
  int64_t high = most;
  while (high - low > 1) {
    const int64_t mid = low + (high - low) / 2;
    (kl_of(mid) <= budget ? high : low) = mid;
  }
  return high;
}

Exclusion exclude_layers(const KlToDense& dense, const SkipSoftmaxAttentionConfig& sparse,
                         int32_t num_layers, double budget_kl,
                         const std::function<bool()>& in_time) {
  FOVEAL_CHECK(dense.num_windows() >= 2, ErrorKind::kInvalidArgument, "file",
               "got {} windows; need two, to choose layers on one and check them on the other",
               dense.num_windows());
  const Search search(dense, sparse, num_layers);
  Exclusion out{.budget_kl = budget_kl};
  const KlResult all = search.measure({}, Half::kEven);
  out.kl = all.kl;
  if (all.kl > budget_kl) {
    const std::vector<int32_t> layers = layers_that_skip(all.sparsity);
    out.alone = search.alone(layers, in_time);
    const std::vector<int32_t> order = order_of_all(out.alone, layers);
    double last = all.kl;
    const auto kl_of = [&](int64_t count) {
      last = search.measure({order.begin(), order.begin() + count}, Half::kEven).kl;
      log_info("KL {:.5f} with {} of {} layers dense", last, count, num_layers);
      return last;
    };
    const std::optional<int64_t> count = fewest_within(budget_kl, std::ssize(layers) - 1, kl_of);
    FOVEAL_CHECK(count, ErrorKind::kInvalidArgument, "budget-kl",
                 "got {}; need at least {:.5f}, the KL of a single layer, or a smaller target",
                 budget_kl, last);
    out.dense_layers.assign(order.begin(), order.begin() + *count);
    std::sort(out.dense_layers.begin(), out.dense_layers.end());
  }
  out.before = search.measure({}, Half::kOdd);
  out.after = out.dense_layers.empty() ? out.before : search.measure(out.dense_layers, Half::kOdd);
  return out;
}

}  // namespace foveal::calibrate
