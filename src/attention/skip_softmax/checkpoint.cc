#include "attention/skip_softmax/checkpoint.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <cmath>

#include "attention/skip_softmax/formula.h"
#include "base/check.h"

namespace foveal::attention::skip_softmax {
namespace {

namespace json = boost::json;

constexpr std::string_view kWhere = "checkpoint sparse_attention_config";
constexpr size_t kMaxJsonBytes = 65536;  // a real one has a few hundred
constexpr size_t kMaxJsonDepth = 16;

std::string_view view(const json::string& text) { return {text.data(), text.size()}; }
std::string_view view(json::string_view text) { return {text.data(), text.size()}; }

/// What a value is, for "got X".
std::string_view kind_name(const json::value& value) { return view(json::to_string(value.kind())); }

json::value parse_json(std::string_view text) {
  FOVEAL_CHECK(text.size() <= kMaxJsonBytes, ErrorKind::kCorruptFile, kWhere,
               "got {} bytes; need at most {}", text.size(), kMaxJsonBytes);
  json::parse_options options;
  options.max_depth = kMaxJsonDepth;
  json::error_code error;
  json::value value = json::parse({text.data(), text.size()}, error, {}, options);
  FOVEAL_CHECK(!error, ErrorKind::kCorruptFile, kWhere,
               "got '{}'; need JSON of at most {} levels ({})", text.substr(0, 80), kMaxJsonDepth,
               error.message());
  return value;
}

bool is_skip_softmax(const json::object& group) {
  const json::value* algorithm = group.if_contains("algorithm");
  if (algorithm == nullptr) algorithm = group.if_contains("sparse_algo");
  return algorithm != nullptr && algorithm->is_string() &&
         (algorithm->get_string() == "skip_softmax" || algorithm->get_string() == "softmax_skip");
}

json::object select_group(const json::object& metadata) {
  const json::value* groups = metadata.if_contains("config_groups");
  if (groups == nullptr) {
    const auto has = [&](json::string_view key) { return metadata.contains(key); };
    const bool flat = has("threshold_scale_factor") || has("target_sparsity") || has("ignore") ||
                      has("disabled_until_timestep");
    return flat ? metadata : json::object();
  }
  FOVEAL_CHECK(groups->is_object(), ErrorKind::kCorruptFile, kWhere,
               "got {} as config_groups; need an object", kind_name(*groups));
  const json::key_value_pair* found = nullptr;
  for (const json::key_value_pair& entry : groups->get_object()) {
    FOVEAL_CHECK(entry.value().is_object(), ErrorKind::kCorruptFile, kWhere,
                 "got {} as group '{}'; need an object", kind_name(entry.value()),
                 view(entry.key()));
    if (!is_skip_softmax(entry.value().get_object())) continue;
    FOVEAL_CHECK(found == nullptr, ErrorKind::kCorruptFile, kWhere,
                 "got multiple skip-softmax groups, '{}' and '{}'; need at most one",
                 view(found->key()), view(entry.key()));
    found = &entry;
  }
  return found == nullptr ? json::object() : found->value().get_object();
}

/// TensorRT-LLM passes over anything but a list; here a layer that was meant to be dense never
/// turns sparse because of a typing error.
void add_ignored(const json::object& object, std::vector<std::string>& patterns) {
  const json::value* ignore = object.if_contains("ignore");
  if (ignore == nullptr || ignore->is_null()) return;
  FOVEAL_CHECK(ignore->is_array(), ErrorKind::kCorruptFile, kWhere,
               "got {} as ignore; need a list of patterns", kind_name(*ignore));
  for (const json::value& pattern : ignore->get_array()) {
    FOVEAL_CHECK(pattern.is_string(), ErrorKind::kCorruptFile, kWhere,
                 "got {} in ignore; need patterns", kind_name(pattern));
    std::string text(view(pattern.get_string()));
    if (std::find(patterns.begin(), patterns.end(), text) == patterns.end()) {
      patterns.push_back(std::move(text));
    }
  }
}

double read_number(const json::value& value, std::string_view what) {
  FOVEAL_CHECK(value.is_number(), ErrorKind::kCorruptFile, kWhere, "got {} as {}; need a number",
               kind_name(value), what);
  const double number = value.to_number<double>();
  FOVEAL_CHECK(std::isfinite(number), ErrorKind::kCorruptFile, kWhere,
               "got {} as {}; need a finite number", number, what);
  return number;
}

std::optional<double> read_target(const json::value& value) {
  if (value.is_null()) return std::nullopt;
  const double target = read_number(value, "target_sparsity");
  FOVEAL_CHECK(target >= 0 && target <= 1, ErrorKind::kCorruptFile, kWhere,
               "got {}; need a share: target_sparsity must be in [0, 1]", target);
  return target;
}

/// The block a phase's coefficients are in, or null.
const json::object* coefficient_block(const json::object& thresholds, Phase phase) {
  for (const std::string_view key : {phase_name(phase), std::string_view("coefficients")}) {
    const json::value* block = thresholds.if_contains({key.data(), key.size()});
    if (block == nullptr) continue;
    FOVEAL_CHECK(block->is_object(), ErrorKind::kCorruptFile, kWhere,
                 "got {} as threshold_scale_factor.{}; need an object of coefficients",
                 kind_name(*block), key);
    return &block->get_object();
  }
  return nullptr;
}

Coefficients read_coefficients(const json::object& block) {
  constexpr std::string_view kReserved[] = {"formula", "target_sparsity", "prefill", "decode",
                                            "coefficients"};
  Coefficients coefficients;
  for (const json::key_value_pair& entry : block) {
    const std::string_view name = view(entry.key());
    if (std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved)) {
      continue;
    }
    coefficients.emplace(name, read_number(entry.value(), name));
  }
  return coefficients;
}

const json::value* find_formula(const json::object& thresholds, const json::object& block) {
  const json::value* formula = thresholds.if_contains("formula");
  return formula != nullptr ? formula : block.if_contains("formula");
}

}  // namespace

CheckpointSettings read_checkpoint(std::string_view text) {
  if (text.empty()) return {};
  const json::value metadata = parse_json(text);
  if (metadata.is_null()) return {};
  FOVEAL_CHECK(metadata.is_object(), ErrorKind::kCorruptFile, kWhere, "got {}; need an object",
               kind_name(metadata));
  CheckpointSettings settings;
  settings.found = true;
  settings.group = select_group(metadata.get_object());
  add_ignored(metadata.get_object(), settings.ignore);
  add_ignored(settings.group, settings.ignore);
  return settings;
}

std::optional<PhaseValue> checkpoint_target(const CheckpointSettings& settings) {
  const json::value* target = settings.group.if_contains("target_sparsity");
  if (target == nullptr || target->is_null()) return std::nullopt;
  if (!target->is_object()) {
    const std::optional<double> both = read_target(*target);
    return PhaseValue{both, both};
  }
  PhaseValue value;
  for (const json::key_value_pair& entry : target->get_object()) {
    const std::string_view key = view(entry.key());
    FOVEAL_CHECK(key == "prefill" || key == "decode", ErrorKind::kCorruptFile, kWhere,
                 "got target_sparsity.{}; need prefill and decode", key);
    (key == "prefill" ? value.prefill : value.decode) = read_target(entry.value());
  }
  return value;
}

void refuse_plain_factor(const CheckpointSettings& settings) {
  const json::value* thresholds = settings.group.if_contains("threshold_scale_factor");
  if (thresholds == nullptr || thresholds->is_null()) return;
  FOVEAL_CHECK(thresholds->is_object(), ErrorKind::kCorruptFile, kWhere,
               "got {} as threshold_scale_factor; need an object with a formula and coefficients "
               "(a plain factor belongs in the configuration)",
               kind_name(*thresholds));
}

double factor_from_target(const CheckpointSettings& settings, Phase phase, double target_sparsity) {
  const json::value* thresholds = settings.group.if_contains("threshold_scale_factor");
  const bool usable = thresholds != nullptr && thresholds->is_object();
  FOVEAL_CHECK(usable, ErrorKind::kInvalidArgument, kWhere,
               "got no threshold_scale_factor object; need its formula and coefficients to resolve "
               "target_sparsity for {}",
               phase_name(phase));
  const json::object* block = coefficient_block(thresholds->get_object(), phase);
  if (block == nullptr) block = &thresholds->get_object();
  const json::value* formula = find_formula(thresholds->get_object(), *block);
  const Coefficients coefficients = read_coefficients(*block);
  FOVEAL_CHECK(formula != nullptr && formula->is_string() && !coefficients.empty(),
               ErrorKind::kInvalidArgument, kWhere,
               "got {} and {} coefficients; need both to resolve target_sparsity for {}",
               formula == nullptr ? "no formula" : "a formula", coefficients.size(),
               phase_name(phase));
  const Formula parsed = Formula::parse(view(formula->get_string()));
  parsed.check_names(coefficients);
  return parsed.evaluate(coefficients, target_sparsity);
}

}  // namespace foveal::attention::skip_softmax
