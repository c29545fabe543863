#pragma once

#include "foveal/llm.h"

namespace foveal::tools {

/// For LLM's constructor: a bar on standard error, where that is a terminal, until it is ready.
LLM::Progress loading_bar();

/// Shows the reading of long prompts as a bar on standard error, where that is a terminal.
void show_prefill(LLM& llm);

}  // namespace foveal::tools
