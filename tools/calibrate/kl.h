#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "eval/task.h"
#include "foveal/llm.h"

namespace foveal::calibrate {

/// Windows of a text that a configuration is compared with dense on.
struct KlWindows {
  std::string file;
  int64_t length = 4096;      ///< of a window, its decoded tokens included
  int64_t decode_tokens = 0;  ///< at its end, forced one by one
  int64_t prompt_rows = 0;    ///< predictions before them that are compared, too
  int64_t count = 2;
};

/// What a configuration did to them. KL in nats, mean over predictions.
struct KlResult {
  double kl = 0;
  double top1 = 0;          ///< share of predictions with the same best token
  SparsityReport sparsity;  ///< of all windows together
  double kv_bytes = 0;      ///< held by a request at its end
};

/// Every second window, so that what is chosen on some is checked on others.
enum class Half : uint8_t { kAll, kEven, kOdd };

/// Holds a dense engine; each configuration that is compared with it runs in one of its own.
class KlToDense {
 public:
  /// Throws kInvalidArgument where a window cannot be read or none is full, kContextLength for
  /// windows beyond the model's context. Warns of windows that the text does not fill.
  KlToDense(const LlmConfig& config, const KlWindows& windows);

  /// The configuration with a cache for one window, which `measure` wants.
  const LlmConfig& sized() const { return sized_; }
  int64_t num_windows() const;
  KlResult measure(const LlmConfig& tested, Half half = Half::kAll) const;

 private:
  LlmConfig sized_;
  std::unique_ptr<LLM> dense_;
  std::unique_ptr<eval::Speaker> speaker_;
  std::unique_ptr<eval::Task> task_;
};

}  // namespace foveal::calibrate
