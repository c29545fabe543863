#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bench/load.h"
#include "json_writer.h"

namespace foveal::bench {

/// What a report is about, summed up once.
struct Totals {
  double input = 0;
  double output = 0;
  std::vector<double> latency, ttft, tpot, per_user, speed, gaps;
  std::vector<double> kv_held, kv_peak;
  int64_t cached = 0;
  SparsityReport sparsity;
};

Totals totals_of(const LoadResult& load);

/// The parts of a report that an engine of ours and any server share.
void write_performance(tools::JsonWriter& json, const LoadResult& load, const Totals& totals);
void write_streaming(tools::JsonWriter& json, const Totals& totals);
void write_failures(tools::JsonWriter& json, const LoadResult& load);

/// `label:` and a value, as TensorRT-LLM's lines are laid out.
std::string text_line(std::string_view label, std::string_view value);
/// Its lines on counts, rates and times.
std::string performance_text(const LoadResult& load, const Totals& totals);

}  // namespace foveal::bench
