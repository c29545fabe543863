#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/options.h"
#include "eval/speaker.h"
#include "measure/records.h"
#include "measure/result_folder.h"

namespace foveal::eval {

/// Of every task, so that sums of lengths stay far from overflowing.
inline constexpr int64_t kMostAnswerTokens = 1'000'000;

/// One side of a comparison.
struct Arm {
  std::string name;
  const Speaker& speaker;
};

/// How values of one name are reported.
struct Metric {
  std::string_view name;   ///< of ArmResult::values
  std::string_view title;  ///< what their transformed mean is called
  measure::Transform transform;
  /// Measured for each arm; else only for the tested one, against the baseline.
  bool paired = true;
  std::string_view unit{};  ///< for people: " %"
  /// Tags, coarse to fine, whose values weigh the same: the mean over the first's values of means
  /// over the second's, and so on. Empty: every sample weighs the same.
  std::vector<std::string> balance{};
};

/// What every task is told.
struct Common {
  uint64_t seed = 42;
  int64_t num_samples = 0;  ///< 0: the task's own default
  bool chat_template = true;
  bool paired = false;  ///< there is a second arm
  /// The longest request that every arm takes, prompt and answer together: kLongestIs.
  int64_t max_seq_len = 0;
};

/// One kind of evaluation: samples, and what an arm makes of one. `run` may be called from several
/// threads at once.
class Task {
 public:
  virtual ~Task() = default;
  virtual OptionGroup options() = 0;
  /// The longest request, in tokens, as far as the options say.
  virtual int64_t longest() const = 0;
  /// Whether it measures the tested arm against the baseline even when both are the same.
  virtual bool needs_pair() const { return false; }
  /// Contents that decide results besides the flags: hashes of files.
  virtual measure::Settings contents() const { return {}; }
  /// Makes the samples; `speaker` for its tokenizer.
  virtual void prepare(const Speaker& speaker, const Common& common) = 0;
  /// Ids, tags, lengths and references in order. One with an error is not run.
  virtual std::span<const measure::Record> samples() const = 0;
  /// Fills the arms of `record`, which is samples()[idx]. Throws Error where it fails.
  virtual void run(size_t idx, std::span<const Arm> arms, measure::Record& record) const = 0;
  /// The first is the headline.
  virtual std::vector<Metric> metrics() const = 0;
};

struct TaskEntry {
  std::string_view name;
  std::string_view summary;
  std::unique_ptr<Task> (*make)();
};

std::unique_ptr<Task> make_perplexity();
std::unique_ptr<Task> make_kl();
std::unique_ptr<Task> make_niah();
std::unique_ptr<Task> make_multi_turn();
std::unique_ptr<Task> make_ruler();
std::unique_ptr<Task> make_longbench_v1();
std::unique_ptr<Task> make_longbench_v2();

/// Every task there is.
std::span<const TaskEntry> tasks();

inline double unchanged(double value) { return value; }
inline double percent(double value) { return 100 * value; }

}  // namespace foveal::eval
