#include "progress_bars.h"

#include <memory>
#include <optional>

#include "base/progress.h"

namespace foveal::tools {
namespace {

// Of a bar that counts shares: fine enough for a terminal's width.
constexpr int64_t kSteps = 1000;

}  // namespace

LLM::Progress loading_bar() {
  return
      [bar = std::make_shared<std::optional<Progress>>()](const std::string& stage, double share) {
        if (share >= 1) return bar->reset();
        bar->emplace(stage, kSteps);
        (*bar)->show(static_cast<int64_t>(share * kSteps));
      };
}

void show_prefill(LLM& llm) {
  // Shared: the engine may call back once more while an error leaves the caller.
  llm.on_prefill([bar = std::make_shared<std::optional<Progress>>()](int64_t done, int64_t total) {
    if (done == total) return bar->reset();
    if (!*bar) bar->emplace("reading the prompt", total);
    (*bar)->update(done);
  });
}

}  // namespace foveal::tools
