#pragma once

#include "eval/task.h"

namespace foveal::eval {

/// Runs what the folder does not have yet, `concurrency` samples at a time, each by all arms.
/// Samples that fail are recorded with their error. Throws what writing the folder throws.
void run_samples(const Task& task, std::span<const Arm> arms, int64_t concurrency,
                 measure::ResultFolder& folder);

/// The samples' records, in their order.
std::vector<measure::Record> collect(const Task& task, const measure::ResultFolder& folder);

}  // namespace foveal::eval
