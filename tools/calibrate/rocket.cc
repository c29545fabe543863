#include "calibrate/rocket.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/log.h"
#include "base/progress.h"
#include "calibrate/kl.h"
#include "json_writer.h"
#include "measure/documents.h"

namespace foveal::calibrate {
namespace {

using Clock = std::chrono::steady_clock;

RocketSparseAttentionConfig rocket_of(const LlmConfig& config, const RocketPoint& point) {
  RocketSparseAttentionConfig rocket;
  if (!config.sparse_attention_config.empty()) {
    rocket = std::get<RocketSparseAttentionConfig>(config.sparse_attention_config.front());
  }
  rocket.prompt_budget = point.prompt_budget;
  rocket.topk = point.topk;
  return rocket;
}

LlmConfig with_rocket(LlmConfig config, const RocketPoint& point) {
  config.sparse_attention_config = {rocket_of(config, point)};
  return config;
}

/// A field's value as YAML; empty: it has none to say.
struct ShownValue {
  std::string operator()(int64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(std::string* value) const { return *value; }
  std::string operator()(std::optional<int64_t>* value) const {
    return *value ? fmt::format("{}", **value) : std::string();
  }
  std::string operator()(std::vector<int32_t>* value) const {
    return fmt::format("[{}]", fmt::join(*value, ", "));
  }
  std::string operator()(const CustomOption& option) const { return option.shown_value(); }
  std::string operator()(const FixedOption& /*fixed*/) const { return {}; }
  template <class T>
  std::string operator()(const T& /*other*/) const {
    fail(ErrorKind::kInternal, "calibrate", "got a field of another type; need a way to write it");
  }
};

/// What was measured: what the caller chose beside budget and topk belongs to it.
std::string yaml_of(RocketSparseAttentionConfig config) {
  RocketSparseAttentionConfig defaults;
  const OptionGroup fields = describe(config);
  const OptionGroup usual = describe(defaults);
  std::string out = "sparse_attention_config:\n  algorithm: rocket\n";
  for (size_t idx = 0; idx < fields.fields.size(); ++idx) {
    const OptionField& field = fields.fields[idx];
    const std::string value = std::visit(ShownValue{}, field.target);
    const bool sought = field.name == "prompt_budget" || field.name == "topk";
    if (!sought && value == std::visit(ShownValue{}, usual.fields[idx].target)) continue;
    out += fmt::format("  {}: {}\n", field.name, value);
  }
  return out;
}

// Every budget that evicts something, with every topk, in the order of what they cost.
std::vector<RocketPoint> settings_of(const RocketSweep& sweep) {
  std::vector<RocketPoint> out;
  for (const int64_t budget : sweep.budgets) {
    if (budget >= sweep.length - sweep.decode_tokens) continue;
    for (const int64_t topk : sweep.topks) {
      out.push_back({.prompt_budget = budget, .topk = topk});
    }
  }
  FOVEAL_CHECK(!out.empty(), ErrorKind::kInvalidArgument, "prompt-budgets",
               "got none below a prompt of {} tokens; need one, or a longer --lengths",
               sweep.length - sweep.decode_tokens);
  std::sort(out.begin(), out.end(), [](const RocketPoint& a, const RocketPoint& b) {
    return std::pair(a.prompt_budget, a.topk) < std::pair(b.prompt_budget, b.topk);
  });
  return out;
}

std::string row(const RocketPoint& point, bool chosen) {
  return fmt::format("{:>7} {:>6} {:>10.5f} {:>8.3f} {:>9.1f} {:>12.0f}{}\n", point.prompt_budget,
                     point.topk, point.kl, point.top1, 100 * point.decode_left_out, point.kv_bytes,
                     chosen ? "  <" : "");
}

constexpr const char* kHead = " budget   topk         KL     top1  left out %     KV bytes\n";

}  // namespace

std::vector<RocketPoint> sweep_rocket(const LlmConfig& config, const RocketSweep& sweep) {
  // A text with nothing in it is to blame before budgets that its length has no room for.
  for (const measure::Document& document : measure::read_documents(sweep.file)) {
    check_document(document);
  }
  const std::vector<RocketPoint> settings = settings_of(sweep);
  const auto start = Clock::now();
  // Prompts are read densely, so that only what decode gives is compared.
  const KlToDense dense(config, {.file = sweep.file,
                                 .length = sweep.length,
                                 .decode_tokens = sweep.decode_tokens,
                                 .count = sweep.num_samples});
  std::vector<RocketPoint> out;
  Progress bar("calibrating", std::ssize(settings));
  for (const RocketPoint& setting : settings) {
    if (std::chrono::duration<double>(Clock::now() - start).count() > sweep.time_limit) {
      log_warn("[calibrate] got no more time; need a larger --time-limit for all settings");
      break;
    }
    const KlResult got = dense.measure(with_rocket(dense.sized(), setting));
    out.push_back({.prompt_budget = setting.prompt_budget,
                   .topk = setting.topk,
                   .kl = got.kl,
                   .top1 = got.top1,
                   .decode_left_out = got.sparsity.total().decode.skipped(),
                   .kv_bytes = got.kv_bytes});
    bar.update(std::ssize(out));
  }
  FOVEAL_CHECK(!out.empty(), ErrorKind::kInvalidArgument, "time-limit",
               "got {:g} s, which passed before the first setting ran; need more",
               sweep.time_limit);
  return out;
}

const RocketPoint& choose_rocket(const std::vector<RocketPoint>& points, double budget_kl) {
  const RocketPoint* best = nullptr;
  double least = points.empty() ? 0 : points.front().kl;
  for (const RocketPoint& point : points) {
    least = std::min(least, point.kl);
    if (point.kl > budget_kl) continue;
    const auto cost = [](const RocketPoint& of) {
      return std::pair(of.kv_bytes, -of.decode_left_out);
    };
    if (best == nullptr || cost(point) < cost(*best)) best = &point;
  }
  FOVEAL_CHECK(best != nullptr, ErrorKind::kInvalidArgument, "budget-kl",
               "got {}; need at least {:.5f}, the best of {} settings, or larger ones", budget_kl,
               least, points.size());
  return *best;
}

std::string rocket_table(const std::vector<RocketPoint>& points, const RocketPoint& chosen) {
  std::string out = kHead;
  for (const RocketPoint& point : points) out += row(point, &point == &chosen);
  return out;
}

std::string rocket_yaml(const LlmConfig& config, const std::vector<RocketPoint>& points,
                        const RocketPoint& chosen, const RocketSweep& sweep, double budget_kl) {
  std::string out = fmt::format(
      "# foveal calibrate: {} windows of {} tokens, the last {} decoded; the least memory with a "
      "KL\n"
      "# to dense of at most {:g} nats.\n#{}",
      sweep.num_samples, sweep.length, sweep.decode_tokens, budget_kl, kHead);
  for (const RocketPoint& point : points) {
    out += '#';
    out += row(point, &point == &chosen);
  }
  return out + yaml_of(rocket_of(config, chosen));
}

std::string rocket_json(const std::vector<RocketPoint>& points, const RocketPoint& chosen) {
  tools::JsonWriter out;
  out.begin_object().key("points").begin_array();
  for (const RocketPoint& point : points) {
    out.begin_object().field("prompt_budget", point.prompt_budget).field("topk", point.topk);
    out.field("kl", point.kl).field("top1_agreement", point.top1);
    out.field("decode_left_out", point.decode_left_out).field("kv_bytes", point.kv_bytes);
    out.field("chosen", &point == &chosen).end_object();
  }
  out.end_array().end_object();
  return out.text() + "\n";
}

}  // namespace foveal::calibrate
