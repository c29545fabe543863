#include "calibrate/output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cmath>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "foveal/version.h"
#include "input.h"
#include "json_writer.h"
#include "measure/json.h"

namespace foveal::calibrate {
namespace json = boost::json;
namespace {

bool is_json(const std::string& path) { return path.ends_with(".json"); }

std::string config_path(const std::string& model) {
  return (std::filesystem::path(model) / "config.json").string();
}

// Four digits say all that a calibration knows, and are what people copy.
double rounded(double value) {
  const double scale = std::pow(10.0, 4 - std::ceil(std::log10(std::abs(value))));
  return value == 0 ? 0 : std::round(value * scale) / scale;
}

json::object coefficients(const Law& law) {
  json::object out;
  for (const auto& [name, value] : law.coefficients) out[name] = rounded(value);
  return out;
}

std::string seen_lengths(const PhaseResult& phase) {
  std::string out;
  int64_t last = 0;
  for (const Point& point : phase.points) {
    if (point.length != last) out += fmt::format("{}{}", out.empty() ? "" : ", ", point.length);
    last = point.length;
  }
  return out;
}

// One line, of windows that the choice of layers did not see.
std::string exclusion_text(const Exclusion& exclusion) {
  if (exclusion.dense_layers.empty()) {
    return fmt::format("KL to dense {:.5f} for at most {:g}: no layer need stay dense\n",
                       exclusion.before.kl, exclusion.budget_kl);
  }
  return fmt::format(
      "KL to dense {:.5f} for at most {:g}, with layers {} dense; {:.5f} without exclusions; left "
      "out {:.1f} % of {:.1f} %\n",
      exclusion.after.kl, exclusion.budget_kl, fmt::join(exclusion.dense_layers, ", "),
      exclusion.before.kl, 100 * left_out(exclusion.after.sparsity),
      100 * left_out(exclusion.before.sparsity));
}

// Patterns as ModelOpt writes them.
json::array ignored(const Exclusion& exclusion) {
  json::array out;
  for (const int32_t layer : exclusion.dense_layers) {
    out.emplace_back(fmt::format("model.layers.{}.self_attn", layer));
  }
  return out;
}

void add_patterns(const json::object& from, json::array& to) {
  const json::value* own = from.if_contains("ignore");
  if (own == nullptr || !own->is_array()) return;
  for (const json::value& pattern : own->get_array()) {
    if (std::find(to.begin(), to.end(), pattern) == to.end()) to.push_back(pattern);
  }
}

bool is_skip_softmax(const json::value& group) {
  if (!group.is_object()) return false;
  for (const char* key : {"algorithm", "sparse_algo"}) {
    const json::value* name = group.get_object().if_contains(key);
    if (name != nullptr && (*name == "skip_softmax" || *name == "softmax_skip")) return true;
  }
  return false;
}

/// What the checkpoint says now: the section, and the groups in it, both empty where it has none.
struct Before {
  json::object section, groups;

  explicit Before(const json::object& whole) {
    const json::value* there = whole.if_contains("sparse_attention_config");
    if (there == nullptr || !there->is_object()) return;
    section = there->get_object();
    const json::value* inside = section.if_contains("config_groups");
    if (inside != nullptr && inside->is_object()) groups = inside->get_object();
  }
};

// Layers that the checkpoint left dense were dense while factors were measured, and stay so.
json::array ignored_before(const Before& before) {
  json::array out;
  add_patterns(before.section, out);
  for (const auto& group : before.groups) {
    if (is_skip_softmax(group.value())) add_patterns(group.value().get_object(), out);
  }
  return out;
}

// In the place of the group that it replaces; those of other algorithms stay.
json::object with_group(const Before& before, json::object group) {
  json::object groups;
  std::string name;
  for (const auto& other : before.groups) {
    if (is_skip_softmax(other.value())) {
      name = other.key();
    } else {
      groups[other.key()] = other.value();
    }
  }
  for (int idx = 0; name.empty(); ++idx) {
    const std::string free = fmt::format("group_{}", idx);
    if (!groups.contains(free)) name = free;
  }
  groups[name] = std::move(group);
  json::object out = before.groups.empty() ? json::object() : before.section;
  out["config_groups"] = std::move(groups);
  out["producer"] = {{"name", "foveal"}, {"version", std::string(kVersion)}};
  return out;
}

// Both phases share a formula where they can; else each has its own.
json::object group_of(const ModelInfo& info, const Calibration& found, json::array ignore) {
  const std::vector<PhaseResult>& results = found.phases;
  json::object factor;
  json::object target;
  json::object observed;
  const bool shared = results.front().law.formula == results.back().law.formula;
  if (shared) factor["formula"] = results.front().law.formula;
  for (const PhaseResult& phase : results) {
    json::object own = coefficients(phase.law);
    if (!shared) own["formula"] = phase.law.formula;
    factor[phase.name] = std::move(own);
    target[phase.name] = phase.target;
    observed[phase.name] = {{"lengths", seen_lengths(phase)},
                            {"least_sparsity", rounded(phase.law.least)},
                            {"most_sparsity", rounded(phase.law.most)},
                            {"error", rounded(phase.law.error)}};
  }
  json::object group{{"algorithm", "skip_softmax"},
                     {"threshold_scale_factor", std::move(factor)},
                     {"target_sparsity", std::move(target)},
                     {"calibration",
                      {{"tiles", info.tiles},
                       {"device", info.device},
                       {"kv_dtype", info.kv_dtype},
                       {"observed", std::move(observed)}}}};
  if (found.exclusion) add_patterns({{"ignore", ignored(*found.exclusion)}}, ignore);
  if (!ignore.empty()) group["ignore"] = std::move(ignore);
  return group;
}

std::string yaml_text(const ModelInfo& info, const Calibration& found) {
  std::string out = fmt::format(
      "# foveal calibrate {}: {}, cache {}, tiles {}. Factors belong to these tiles and to a type "
      "of\n"
      "# text; `left out` was measured on texts that they were not fitted to.\n",
      kVersion, info.name, info.kv_dtype, info.tiles);
  for (const PhaseResult& phase : found.phases) {
    out += fmt::format("# {}: {}", phase.name, phase.law.formula);
    for (const auto& [name, value] : phase.law.coefficients) {
      out += fmt::format(", {} = {:.6g}", name, rounded(value));
    }
    out += fmt::format("; off by {:.1f} points\n", 100 * phase.law.error);
    for (const Check& check : phase.checks) {
      if (check.target != phase.target) continue;
      out += fmt::format("#   {} tokens: left out {:.1f} %, perplexity {:+.2f} %\n", check.length,
                         100 * check.achieved, 100 * (check.perplexity_ratio - 1));
    }
  }
  for (const MissingPhase& phase : found.missing) {
    out += fmt::format("# {}: dense, for it has no law: {}\n", phase.name, phase.why);
  }
  if (found.exclusion) out += "# " + exclusion_text(*found.exclusion);
  out += "sparse_attention_config:\n  algorithm: skip_softmax\n  threshold_scale_factor:\n";
  for (const PhaseResult& phase : found.phases) {
    out += fmt::format("    {}: {}  # target {:g}\n", phase.name,
                       rounded(phase.law.factor(phase.target)), phase.target);
  }
  std::set<int32_t> dense(found.dense_before.begin(), found.dense_before.end());
  if (found.exclusion) {
    dense.insert(found.exclusion->dense_layers.begin(), found.exclusion->dense_layers.end());
  }
  if (!dense.empty()) out += fmt::format("  dense_layers: [{}]\n", fmt::join(dense, ", "));
  return out;
}

void add_result(tools::JsonWriter& out, std::string_view name, const KlResult& result) {
  out.key(name).begin_object().field("kl", result.kl).field("top1_agreement", result.top1);
  const LayerSparsity total = result.sparsity.total();
  out.field("prefill_left_out", total.prefill.skipped());
  out.field("decode_left_out", total.decode.skipped()).end_object();
}

void add_exclusion(tools::JsonWriter& out, const Exclusion& exclusion) {
  out.key("layers")
      .begin_object()
      .field("budget_kl", exclusion.budget_kl)
      .field("length", exclusion.length)
      .field("kl", exclusion.kl);
  out.key("dense_layers").begin_array();
  for (const int32_t layer : exclusion.dense_layers) out.value(int64_t{layer});
  out.end_array().key("alone").begin_array();
  for (const LayerCost& cost : exclusion.alone) {
    out.begin_object().field("layer", int64_t{cost.layer}).field("kl", cost.kl);
    out.field("left_out", cost.left_out).end_object();
  }
  out.end_array();
  add_result(out, "before", exclusion.before);
  add_result(out, "after", exclusion.after);
  out.end_object();
}

}  // namespace

void check_target(const std::string& path, const std::string& model) {
  std::error_code code;
  FOVEAL_CHECK(!is_json(path) || std::filesystem::is_regular_file(config_path(model), code),
               ErrorKind::kInvalidArgument, "output",
               "got '{}' for a model without config.json; need a .yaml, for --config", path);
}

std::string output_text(const std::string& path, const LlmConfig& config, const ModelInfo& info,
                        const Calibration& found) {
  if (!is_json(path)) return yaml_text(info, found);
  const std::string file = config_path(config.model);
  json::object whole = measure::parse_object(tools::read_input(file), file);
  const Before before(whole);
  whole["sparse_attention_config"] =
      with_group(before, group_of(info, found, ignored_before(before)));
  return json::serialize(whole) + "\n";
}

std::string report_json(const ModelInfo& info, const Calibration& found) {
  tools::JsonWriter out;
  out.begin_object().field("model", std::string_view(info.name));
  out.field("tiles", std::string_view(info.tiles));
  for (const PhaseResult& phase : found.phases) {
    out.key(phase.name).begin_object().field("formula", std::string_view(phase.law.formula));
    for (const auto& [name, value] : phase.law.coefficients) out.field(name, value);
    out.field("error", phase.law.error).field("target", phase.target);
    out.field("factor", phase.law.factor(phase.target));
    out.key("points").begin_array();
    for (const Point& point : phase.points) {
      out.begin_object().field("length", point.length).field("factor", point.factor);
      out.field("sparsity", point.sparsity).end_object();
    }
    out.end_array().key("checks").begin_array();
    for (const Check& check : phase.checks) {
      out.begin_object().field("length", check.length).field("target", check.target);
      out.field("factor", check.factor).field("achieved", check.achieved);
      out.field("perplexity_ratio", check.perplexity_ratio).end_object();
    }
    out.end_array().end_object();
  }
  for (const MissingPhase& phase : found.missing) {
    out.key(phase.name).begin_object().field("missing", std::string_view(phase.why)).end_object();
  }
  if (found.exclusion) add_exclusion(out, *found.exclusion);
  out.end_object();
  return out.text() + "\n";
}

std::string summary_text(const Calibration& found) {
  std::string out;
  for (const PhaseResult& phase : found.phases) {
    out += fmt::format("{}: factor {:.6g} for a target of {:g}; {}\n", phase.name,
                       phase.law.factor(phase.target), phase.target, phase.law.formula);
    for (const Check& check : phase.checks) {
      out += fmt::format(
          "  {:>6} tokens, target {:.2f}: factor {:>9.4g}, left out {:.3f}, "
          "perplexity {:+.2f} %\n",
          check.length, check.target, check.factor, check.achieved,
          100 * (check.perplexity_ratio - 1));
    }
  }
  for (const MissingPhase& phase : found.missing) {
    out += fmt::format("{}: no law\n", phase.name);
  }
  if (found.exclusion) out += exclusion_text(*found.exclusion);
  return out;
}

}  // namespace foveal::calibrate
