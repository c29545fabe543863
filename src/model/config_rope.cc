#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "model/config_check.h"
#include "model/config_json.h"

namespace foveal::model {
namespace {

using Scaling = RopeConfig::Scaling;

constexpr double kMaxTheta = 1e12;
constexpr double kMaxFactor = 1e6;

struct ScalingName {
  std::string_view name;
  Scaling scaling;
};

constexpr std::array<ScalingName, 6> kScalings{{{"default", Scaling::kNone},
                                                {"linear", Scaling::kLinear},
                                                {"llama3", Scaling::kLlama3},
                                                {"yarn", Scaling::kYarn},
                                                {"longrope", Scaling::kLongRope},
                                                {"su", Scaling::kLongRope}}};

double require(std::optional<double> value, std::string_view name, const std::string& source) {
  FOVEAL_CHECK(value, ErrorKind::kCorruptFile, source, "got no {} for rope scaling; need it", name);
  return *value;
}

/// Where the training context ended: inside the rope object, or beside it (phi3).
int64_t original_positions(const JsonFields& rope, const JsonFields& fields,
                           const ModelConfig& config) {
  for (const JsonFields* place : {&rope, &fields}) {
    const auto value =
        place->integer("original_max_position_embeddings", 1, ConfigLimits::kPositions);
    if (value) return *value;
  }
  return config.architecture == "phi3" ? 4096 : config.max_positions;  // the classes' defaults
}

std::vector<double> factor_list(const JsonFields& rope, std::string_view name, int32_t count) {
  const auto list = rope.numbers(name);
  FOVEAL_CHECK(list && list->size() == static_cast<size_t>(count) &&
                   std::all_of(list->begin(), list->end(), [](double x) { return x > 0; }),
               ErrorKind::kCorruptFile, rope.source(),
               "got {} entries in {}; need {} positive ones, half the rotating channels",
               list ? list->size() : 0, name, count);
  return *list;
}

void read_llama3(RopeConfig& out, const JsonFields& rope) {
  const std::string& source = rope.source();
  out.factor = require(rope.number("factor", 1e-3, kMaxFactor), "factor", source);
  out.low_freq_factor =
      require(rope.number("low_freq_factor", 1e-6, kMaxFactor), "low_freq_factor", source);
  out.high_freq_factor =
      require(rope.number("high_freq_factor", 1e-6, kMaxFactor), "high_freq_factor", source);
  FOVEAL_CHECK(out.low_freq_factor < out.high_freq_factor, ErrorKind::kCorruptFile, source,
               "got low_freq_factor {} and high_freq_factor {}; need the first below the second",
               out.low_freq_factor, out.high_freq_factor);
}

void read_yarn(RopeConfig& out, const JsonFields& rope) {
  out.beta_fast = rope.number("beta_fast", 1e-6, kMaxFactor).value_or(32);
  out.beta_slow = rope.number("beta_slow", 1e-6, kMaxFactor).value_or(1);
  out.mscale = rope.number("mscale", 0, kMaxFactor).value_or(0);
  out.truncate = rope.boolean("truncate").value_or(true);
  // Which channels turn how often comes from theta's logarithm.
  FOVEAL_CHECK(out.theta > 1, ErrorKind::kCorruptFile, rope.source(),
               "got rope_theta {} with yarn; need more than 1", out.theta);
}

/// "dynamic" changes angles only past max_position_embeddings, where Foveal never goes, unless it
/// counts from a shorter original context.
void check_dynamic(const RopeConfig& out, const ModelConfig& config, const std::string& source) {
  FOVEAL_CHECK(out.original_max_positions >= config.max_positions, ErrorKind::kUnsupported, source,
               "got rope type dynamic with original_max_position_embeddings {}; need it at least "
               "max_position_embeddings {}",
               out.original_max_positions, config.max_positions);
}

Scaling scaling_named(const std::string& name, const JsonFields& rope) {
  for (const ScalingName& known : kScalings) {
    if (known.name == name) return known.scaling;
  }
  fail(ErrorKind::kUnsupported, rope.source(),
       "got rope type '{}'; need default, linear, llama3, yarn or longrope", name);
}

/// "yarn", "llama3", ... as the object says; "default" where it names none and scales nothing.
std::string type_of(const JsonFields& rope) {
  auto type = rope.text("rope_type");
  if (!type) type = rope.text("type");
  FOVEAL_CHECK(type || rope.find("factor") == nullptr, ErrorKind::kCorruptFile, rope.source(),
               "got a rope factor and no rope_type; need both or neither");
  return type.value_or("default");
}

/// Both spellings in one file, the old one perhaps left over.
void check_alike(const JsonFields& modern, const JsonFields& older) {
  const auto factor = [](const JsonFields& rope) {
    return rope.number("factor", 1e-3, kMaxFactor).value_or(1);
  };
  FOVEAL_CHECK(type_of(modern) == type_of(older) && factor(modern) == factor(older),
               ErrorKind::kCorruptFile, modern.source(),
               "got rope_parameters of type {} with factor {} and rope_scaling of type {} with "
               "factor {}; need one of them, or both alike",
               type_of(modern), factor(modern), type_of(older), factor(older));
}

/// One set of rope parameters; `rope` is `rope_parameters`, `rope_scaling` or a part of them.
RopeConfig read_one(const JsonFields& rope, const JsonFields& fields, const ModelConfig& config,
                    double theta) {
  RopeConfig out;
  out.theta = rope.number("rope_theta", 1, kMaxTheta).value_or(theta);
  std::string type = type_of(rope);
  // transformers reads phi3's old spellings this way
  if (config.architecture == "phi3" && type == "yarn") type = "longrope";
  out.original_max_positions = original_positions(rope, fields, config);
  // Latent attention's softmax scale follows from it whatever the type is.
  if (type != "default") {
    out.mscale_all_dim = rope.number("mscale_all_dim", 0, kMaxFactor).value_or(0);
  }
  if (type == "dynamic") {
    check_dynamic(out, config, fields.source());
    out.factor = rope.number("factor", 1e-3, kMaxFactor).value_or(1);
    return out;
  }
  out.scaling = scaling_named(type, rope);
  if (out.scaling == Scaling::kNone) return out;
  out.attention_factor = rope.number("attention_factor", 1e-6, kMaxFactor).value_or(0);
  const double stretch =
      static_cast<double>(config.max_positions) / static_cast<double>(out.original_max_positions);
  out.factor = rope.number("factor", 1e-3, kMaxFactor).value_or(stretch);
  switch (out.scaling) {
    case Scaling::kLinear:
      out.factor = require(rope.number("factor", 1e-3, kMaxFactor), "factor", rope.source());
      break;
    case Scaling::kLlama3:
      read_llama3(out, rope);
      break;
    case Scaling::kYarn:
      read_yarn(out, rope);
      break;
    default:
      out.factor = stretch;
      out.short_factor = factor_list(rope, "short_factor", config.rotary_dim / 2);
      out.long_factor = factor_list(rope, "long_factor", config.rotary_dim / 2);
  }
  return out;
}

}  // namespace

void read_rope(ModelConfig& config, const JsonFields& fields, const FamilyDefaults& family) {
  static const boost::json::object kNothing;
  const JsonFields nothing(kNothing, fields.source());
  const auto modern = fields.object("rope_parameters");
  const auto older = fields.object("rope_scaling");
  const JsonFields rope = modern ? *modern : older.value_or(nothing);
  const auto full = rope.object("full_attention");
  const auto sliding = rope.object("sliding_attention");
  const JsonFields& main = full ? *full : rope;
  if (modern && older) check_alike(main, *older);

  const double share = main.number("partial_rotary_factor", 1e-6, 1)
                           .value_or(fields.number("partial_rotary_factor", 1e-6, 1).value_or(1));
  config.rotary_dim =
      config.latent ? config.latent->rope_dim : static_cast<int32_t>(config.head_dim * share);
  const double theta = fields.number("rope_theta", 1, kMaxTheta).value_or(family.rope_theta);
  config.rope = read_one(main, fields, config, theta);
  if (config.architecture != "gemma3") return;
  const double local = fields.number("rope_local_base_freq", 1, kMaxTheta).value_or(1e4);
  config.local_rope = read_one(sliding ? *sliding : nothing, fields, config, local);
}

}  // namespace foveal::model
