#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "foveal/llm.h"
#include "measure/failures.h"
#include "tokenizer_source.h"

namespace foveal::bench {

/// One line of a data set: {"task_id", "prompt" or "input_ids" (wins), "output_tokens"}.
struct BenchRequest {
  std::string task_id;
  Prompt prompt;
  int64_t output_tokens = 0;
};

using measure::Failure;

struct Dataset {
  std::vector<BenchRequest> requests;
  std::vector<Failure> failures;  ///< bad lines
};

/// Throws kInvalidArgument for a file without one good line.
Dataset read_dataset(const std::string& path);

/// The first `count`, or all for 0.
std::span<const BenchRequest> first(std::span<const BenchRequest> requests, int64_t count);

/// A line of such a file.
std::string dataset_line(int64_t task_id, const std::vector<int32_t>& ids, int64_t output_tokens);

/// Ids of a model's vocabulary that stand for text: special tokens would end answers or open turns.
std::vector<int32_t> plain_ids(const tools::TokenizerSource& source);

}  // namespace foveal::bench
