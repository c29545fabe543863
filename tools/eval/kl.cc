#include "base/check.h"
#include "eval/answer.h"
#include "eval/divergence.h"
#include "eval/task.h"
#include "eval/windows.h"

namespace foveal::eval {
namespace {

/// Rows of logits of a window's last predictions, the prompt's first.
struct Rows {
  const TracedTensor* prompt = nullptr;  ///< its last row says the same as the first forced one
  const TracedTensor* forced = nullptr;

  int64_t of_prompt() const {
    if (prompt == nullptr) return 0;
    return prompt->rows - (forced == nullptr ? 0 : 1);
  }
  int64_t size() const { return of_prompt() + (forced == nullptr ? 0 : forced->rows); }
  std::span<const float> operator[](int64_t at) const {
    const TracedTensor& from = at < of_prompt() ? *prompt : *forced;
    const int64_t row = at < of_prompt() ? at : at - of_prompt();
    return std::span(from.data).subspan(static_cast<size_t>(row * from.cols),
                                        static_cast<size_t>(from.cols));
  }
};

Rows rows_of(const RequestOutput& output) {
  return {.prompt = output.logits ? &*output.logits : nullptr,
          .forced = output.generation_logits ? &*output.generation_logits : nullptr};
}

class Kl final : public Task {
 public:
  OptionGroup options() override {
    OptionGroup group = windows_.options();
    group.fields.push_back(
        {.name = "positions",
         .target = &positions_,
         .help = "how many of a window's last predictions are compared; each keeps a row of logits",
         .range = {.min = 1}});
    return group;
  }
  int64_t longest() const override { return windows_.longest(); }
  bool needs_pair() const override { return true; }
  measure::Settings contents() const override { return windows_.contents(); }
  void prepare(const Speaker& speaker, const Common& common) override {
    windows_.prepare(speaker.engine(), common);
  }
  std::span<const measure::Record> samples() const override { return windows_.samples(); }

  void run(size_t idx, std::span<const Arm> arms, measure::Record& record) const override {
    FOVEAL_INVARIANT(arms.size() == 2);
    const RequestOutput baseline = read(idx, arms[0].speaker.engine());
    const RequestOutput tested = read(idx, arms[1].speaker.engine());
    note(baseline, record.arms[arms[0].name]);
    measure::ArmResult& result = record.arms[arms[1].name];
    note(tested, result);
    const Rows p = rows_of(baseline);
    const Rows q = rows_of(tested);
    FOVEAL_INVARIANT(p.size() == q.size());
    std::vector<double> kl;
    std::vector<double> same;
    for (int64_t at = 0; at < p.size(); ++at) {
      kl.push_back(divergence(p[at], q[at]));
      same.push_back(best(p[at]) == best(q[at]) ? 1 : 0);
    }
    const auto split = static_cast<size_t>(p.of_prompt());
    result.values["kl"] = in_blocks(kl);
    result.values["top1"] = in_blocks(same);
    if (split > 0) result.values["kl_prefill"] = in_blocks(std::span(kl).first(split));
    if (split < kl.size()) result.values["kl_decode"] = in_blocks(std::span(kl).subspan(split));
  }

  std::vector<Metric> metrics() const override {
    return {{.name = "kl", .title = "kl", .transform = unchanged, .paired = false},
            {.name = "top1", .title = "top1_agreement", .transform = unchanged, .paired = false},
            {.name = "kl_prefill", .title = "kl_prefill", .transform = unchanged, .paired = false},
            {.name = "kl_decode", .title = "kl_decode", .transform = unchanged, .paired = false}};
  }

 private:
  RequestOutput read(size_t idx, LLM& llm) const {
    const std::vector<int32_t>& ids = windows_.ids(idx);
    const auto size = static_cast<int64_t>(ids.size());
    const int64_t predictions = std::min(positions_, size - 1 - windows_.skip_first());
    const int64_t decode = std::min(windows_.decode_tokens(idx), predictions);
    // The prompt's last row predicts what decode is given, or what follows the window.
    const int64_t from_prompt = predictions - decode;
    const int64_t split = decode > 0 ? size - decode : size - 1;
    SamplingParams sampling;
    sampling.max_tokens = 0;
    RequestOptions options{.logits = from_prompt > 0,
                           .generation_logits = decode > 0,
                           .forced_tokens = {ids.begin() + size - decode, ids.end()}};
    if (from_prompt > 0) options.logits_last = from_prompt + (decode > 0 ? 1 : 0);
    return llm.generate({.token_ids = std::vector<int32_t>(ids.begin(), ids.begin() + split)},
                        sampling, options);
  }

  Windows windows_;
  int64_t positions_ = 256;
};

}  // namespace

std::unique_ptr<Task> make_kl() { return std::make_unique<Kl>(); }

}  // namespace foveal::eval
