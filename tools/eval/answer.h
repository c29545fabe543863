#pragma once

#include <string>
#include <vector>

#include "eval/speaker.h"

namespace foveal::eval {

struct Turn {
  std::string role;  ///< user or assistant
  std::string text;
};

/// Ids of a conversation that the model is to go on with. With a chat template its roles are
/// rendered and `prefix` begins the answer; without, the texts follow each other, a line each.
std::vector<int32_t> prompt_ids(const Speaker& speaker, const std::vector<Turn>& turns,
                                const std::string& prefix, bool chat_template);

/// The greedy answer, noted and kept in `result`.
std::string answer(const Speaker& speaker, std::vector<int32_t> prompt, int64_t max_tokens,
                   measure::ArmResult& result);

}  // namespace foveal::eval
