#pragma once

#include <string>

#include "foveal/llm.h"

namespace foveal::tools {

/// The object of `foveal run --json` and `--stats`.
std::string run_json(const LLM& llm, const RequestOutput& output);

/// One line for people: "7614 prompt tokens in 4.1 s (1850/s), ...".
std::string run_summary(const RequestOutput& output);

/// Resident memory of this process.
int64_t resident_bytes();

}  // namespace foveal::tools
