#pragma once

#include <string>

#include "bench/load.h"

namespace foveal::bench {

/// What a report says of the engine beside LLM::info.
struct ReportOptions {
  std::string dataset;
  LlmConfig config;
  std::string command;  ///< throughput or latency
  bool streaming = true;
};

/// TensorRT-LLM's keys (engine, machine, world_info, request_info, performance, streaming_metrics),
/// and sparsity, memory and failures.
std::string report_json(const LLM& llm, const LoadResult& load, const ReportOptions& options);

/// TensorRT-LLM's labels, a line each.
std::string report_text(const LLM& llm, const LoadResult& load);

/// One line a request, as JSON or with commas.
std::string requests_json(const LoadResult& load);
std::string requests_csv(const LoadResult& load);
/// The tokens of each answer, and its text where the model has a tokenizer.
std::string outputs_json(const LLM& llm, const LoadResult& load);

}  // namespace foveal::bench
