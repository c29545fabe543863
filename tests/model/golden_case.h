#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace foveal::test {

/// One prompt of a golden family and what Hugging Face transformers makes of it in float32. See
/// tests/golden/FORMAT.md.
struct GoldenCase {
  std::vector<int32_t> prompt;
  std::vector<float> logits;  ///< [logits_rows, vocab]: of the last logits_rows prompt positions
  int64_t logits_rows = 0;
  std::vector<int32_t> greedy;
  std::vector<float> greedy_logits;  ///< [greedy, vocab] that chose these tokens; may be empty
  /// Of models with an indexer, by layer: [rows, topk], what it chose at the prompt's last
  /// positions and then with each generated token but the last as input.
  std::map<int32_t, std::vector<int32_t>> index_sets;
  int64_t index_topk = 0;
};

struct GoldenFamily {
  std::string name;
  std::string folder;
  int64_t vocab = 0;
  double tolerance = 0;   ///< on float32 logits, from the noise between float32 and float64
  double bf16_kl = 0;     ///< mean KL of transformers' own bfloat16 run
  double bf16_sets = 0;   ///< with an indexer: how much of the sets of keys that run chooses
  bool discrete = false;  ///< experts: bfloat16 may flip choices, greedy tokens need not agree
  GoldenCase cases[2];    ///< short, long
};

/// The families under tests/golden and, where FOVEAL_GOLDEN names a folder, all there.
std::vector<std::string> golden_folders();
GoldenFamily load_golden(const std::string& folder);

/// The device for runs that are not in float32: what FOVEAL_TEST_DEVICE names, else a GPU in tests
/// of GPUs (FOVEAL_FAST_DEVICE) and the CPU in others.
std::string fast_device();

/// log(sum(e^x)) of a row of logits.
double log_total(const float* row, int64_t vocab);
/// KL(golden || ours), summed over the vocabulary, of one row of logits.
double kl(const float* golden, const float* ours, int64_t vocab);

}  // namespace foveal::test
