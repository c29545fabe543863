#include "calibrate/kl.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"
#include "base/options.h"
#include "eval/speaker.h"
#include "measure/configs.h"

namespace foveal::calibrate {
namespace {

// The task's own flags, filled as the command line would.
void set_up(eval::Task& task, const KlWindows& windows) {
  ConfigNode root = ConfigNode::map();
  const auto set = [&](std::string_view name, std::string value) {
    assign_path(root, name, ConfigNode::scalar(std::move(value), {}, /*quoted=*/name == "file"));
  };
  set("file", windows.file);
  set("length", fmt::format("{}", windows.length));
  set("decode_tokens", fmt::format("{}", windows.decode_tokens));
  set("positions", fmt::format("{}", windows.decode_tokens + windows.prompt_rows));
  bind_options(task.options(), root);
}

// Windows that the text does not fill say less than the settings they are compared for; where none
// is full, nothing.
void check_lengths(std::span<const measure::Record> samples, const KlWindows& windows) {
  std::vector<const measure::Record*> cut;
  for (const measure::Record& sample : samples) {
    if (sample.error) throw Error(ErrorKind::kInvalidArgument, *sample.error);
    if (sample.prompt_tokens < windows.length) cut.push_back(&sample);
  }
  FOVEAL_CHECK(cut.size() < samples.size(), ErrorKind::kInvalidArgument, "file",
               "got no window of {} tokens in '{}'; need a longer text, or shorter --lengths",
               windows.length, windows.file);
  if (cut.empty()) return;
  log_warn("[file] got {} tokens for window {}{}; need {} (--lengths), or fewer --num-samples",
           cut.front()->prompt_tokens, cut.front()->id,
           cut.size() > 1 ? fmt::format(" and too few for {} more", cut.size() - 1) : "",
           windows.length);
}

LlmConfig sized_for(LlmConfig config, int64_t length) {
  if (!config.kv_cache_config.max_tokens) {
    config.kv_cache_config.max_tokens = 2 * length + 4 * config.kv_cache_config.tokens_per_block;
  }
  return config;
}

}  // namespace

KlToDense::KlToDense(const LlmConfig& config, const KlWindows& windows)
    : sized_(sized_for(config, windows.length)),
      dense_(std::make_unique<LLM>(measure::baseline_config(sized_, "dense"))),
      speaker_(eval::make_speaker(*dense_)),
      task_(eval::make_kl()) {
  FOVEAL_CHECK(windows.length <= dense_->max_seq_len(), ErrorKind::kContextLength, "lengths",
               "got {}; need at most {}, {}", windows.length, dense_->max_seq_len(),
               eval::kLongestIs);
  set_up(*task_, windows);
  task_->prepare(
      *speaker_,
      {.num_samples = windows.count, .paired = true, .max_seq_len = dense_->max_seq_len()});
  check_lengths(task_->samples(), windows);
}

int64_t KlToDense::num_windows() const { return std::ssize(task_->samples()); }

KlResult KlToDense::measure(const LlmConfig& config, Half half) const {
  LLM tested(config);
  const auto sparse = eval::make_speaker(tested);
  const std::vector<eval::Arm> arms{{"dense", *speaker_}, {"sparse", *sparse}};
  std::vector<measure::Unit> kl;
  std::vector<measure::Unit> top1;
  std::vector<double> kv_bytes;
  SparsityReport sparsity;
  const size_t step = half == Half::kAll ? 1 : 2;
  for (size_t idx = half == Half::kOdd ? 1 : 0; idx < task_->samples().size(); idx += step) {
    measure::Record record = task_->samples()[idx];
    task_->run(idx, arms, record);
    const measure::ArmResult& result = record.arms.at("sparse");
    const auto take = [&](std::string_view name, std::vector<measure::Unit>& into) {
      const auto& units = result.values.find(name)->second;
      into.insert(into.end(), units.begin(), units.end());
    };
    take("kl", kl);
    take("top1", top1);
    kv_bytes.push_back(static_cast<double>(result.kv_bytes));
    sparsity.add(result.sparsity);
  }
  return {.kl = measure::mean(kl),
          .top1 = measure::mean(top1),
          .sparsity = std::move(sparsity),
          .kv_bytes = measure::average(kv_bytes)};
}

}  // namespace foveal::calibrate
