#include <cmath>

#include "base/check.h"
#include "eval/answer.h"
#include "eval/task.h"
#include "eval/windows.h"

namespace foveal::eval {
namespace {

/// Loss of every prediction of a window: those of its prompt, then those that decode made.
struct Losses {
  std::vector<double> all, decode;
};

Losses losses(const RequestOutput& output, int64_t skip_first) {
  Losses out;
  const auto& prompt = output.prompt_logprobs;
  for (size_t at = 1 + static_cast<size_t>(skip_first); at < prompt.size(); ++at) {
    out.all.push_back(-double{prompt[at].value().logprob});
  }
  const std::vector<TokenLogprob>& forced = output.outputs.at(0).logprobs;
  for (size_t at = 0; at < forced.size(); ++at) {
    if (prompt.size() + at <= static_cast<size_t>(skip_first)) continue;
    out.decode.push_back(-double{forced[at].logprob});
  }
  out.all.insert(out.all.end(), out.decode.begin(), out.decode.end());
  return out;
}

class Perplexity final : public Task {
 public:
  OptionGroup options() override { return windows_.options(); }
  int64_t longest() const override { return windows_.longest(); }
  measure::Settings contents() const override { return windows_.contents(); }
  void prepare(const Speaker& speaker, const Common& common) override {
    windows_.prepare(speaker.engine(), common);
  }
  std::span<const measure::Record> samples() const override { return windows_.samples(); }

  void run(size_t idx, std::span<const Arm> arms, measure::Record& record) const override {
    const std::vector<int32_t>& ids = windows_.ids(idx);
    const auto split = static_cast<std::ptrdiff_t>(ids.size()) - windows_.decode_tokens(idx);
    SamplingParams sampling;
    sampling.max_tokens = 0;
    sampling.prompt_logprobs = 0;
    sampling.logprobs = 0;
    for (const Arm& arm : arms) {
      measure::ArmResult& result = record.arms[arm.name];
      const RequestOutput output = arm.speaker.engine().generate(
          {.token_ids = std::vector<int32_t>(ids.begin(), ids.begin() + split)}, sampling,
          {.forced_tokens = {ids.begin() + split, ids.end()}});
      note(output, result);
      const Losses loss = losses(output, windows_.skip_first());
      result.values["nll"] = in_blocks(loss.all);
      if (!loss.decode.empty()) result.values["nll_decode"] = in_blocks(loss.decode);
    }
  }

  std::vector<Metric> metrics() const override {
    return {{.name = "nll", .title = "perplexity", .transform = std::exp},
            {.name = "nll", .title = "nll", .transform = unchanged},
            {.name = "nll_decode", .title = "decode_perplexity", .transform = std::exp}};
  }

 private:
  Windows windows_;
};

}  // namespace

std::unique_ptr<Task> make_perplexity() { return std::make_unique<Perplexity>(); }

}  // namespace foveal::eval
