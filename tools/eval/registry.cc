#include <array>

#include "eval/task.h"

namespace foveal::eval {

std::span<const TaskEntry> tasks() {
  static constexpr std::array<TaskEntry, 7> kTasks{{
      {"perplexity", "of a text's tokens, each given those before it", make_perplexity},
      {"kl",
       "of every token's distribution to the baseline's, and how often the best token is the "
       "same",
       make_kl},
      {"niah", "a number hidden in a long text, over lengths and depths", make_niah},
      {"multi_turn", "questions one after the other over one long text", make_multi_turn},
      {"ruler", "thirteen tasks over lengths: needles, chains, counts, questions", make_ruler},
      {"longbench_v1", "LongBench's sets: questions, summaries, examples, code", make_longbench_v1},
      {"longbench_v2", "long texts and questions with four choices", make_longbench_v2},
  }};
  return kTasks;
}

}  // namespace foveal::eval
