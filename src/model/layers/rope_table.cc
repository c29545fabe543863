#include "model/layers/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace foveal::model {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

// Llama 3: long wavelengths are stretched by `factor`, short ones kept, the band between blended.
void scale_llama3(const RopeConfig& config, std::vector<float>& inverse) {
  const auto original = static_cast<double>(config.original_max_positions);
  const double low_wavelength = original / config.low_freq_factor;
  const double high_wavelength = original / config.high_freq_factor;
  for (float& freq : inverse) {
    const double wavelength = kTwoPi / freq;
    if (wavelength > low_wavelength) {
      freq = static_cast<float>(freq / config.factor);
    } else if (wavelength >= high_wavelength) {
      const double smooth = (original / wavelength - config.low_freq_factor) /
                            (config.high_freq_factor - config.low_freq_factor);
      freq = static_cast<float>((1.0 - smooth) * freq / config.factor + smooth * freq);
    }
  }
}

// YaRN (arXiv 2309.00071, eq. 23): interpolate channels that turn less than beta_slow times within
// the original context, keep those that turn more than beta_fast times, ramp between.
void scale_yarn(const RopeConfig& config, int32_t rotary_dim, std::vector<float>& inverse) {
  const auto original = static_cast<double>(config.original_max_positions);
  const auto channel_of = [&](double rotations) {
    return rotary_dim * std::log(original / (rotations * kTwoPi)) / (2.0 * std::log(config.theta));
  };
  const double first = channel_of(config.beta_fast);
  const double last = channel_of(config.beta_slow);
  const double low = std::max(config.truncate ? std::floor(first) : first, 0.0);
  double high = std::min(config.truncate ? std::ceil(last) : last, rotary_dim - 1.0);
  if (low == high) high += 0.001;
  for (size_t idx = 0; idx < inverse.size(); ++idx) {
    const double ramp = std::clamp((static_cast<double>(idx) - low) / (high - low), 0.0, 1.0);
    const double kept = 1.0 - ramp;
    inverse[idx] =
        static_cast<float>(inverse[idx] / config.factor * (1.0 - kept) + inverse[idx] * kept);
  }
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_attention_factor(const RopeConfig& config) {
  if (config.attention_factor != 0) return config.attention_factor;
  if (config.mscale != 0 && config.mscale_all_dim != 0) {
    return yarn_mscale(config.factor, config.mscale) /
           yarn_mscale(config.factor, config.mscale_all_dim);
  }
  return yarn_mscale(config.factor, 1.0);
}

// LongRoPE (arXiv 2402.13753): one set of factors for contexts within the original length, one
// beyond. Cached keys cannot change their factors later, so the engine's context length decides.
double scale_longrope(const RopeConfig& config, int64_t num_positions,
                      std::vector<float>& inverse) {
  const bool is_long = num_positions > config.original_max_positions;
  const std::vector<double>& factors = is_long ? config.long_factor : config.short_factor;
  FOVEAL_CHECK(factors.size() == inverse.size(), ErrorKind::kCorruptFile, "rope_scaling",
               "got {} longrope factors; need {}", factors.size(), inverse.size());
  for (size_t idx = 0; idx < inverse.size(); ++idx) {
    inverse[idx] = static_cast<float>(inverse[idx] / factors[idx]);
  }
  if (config.attention_factor != 0) return config.attention_factor;
  if (config.factor <= 1.0) return 1.0;
  return std::sqrt(1.0 + std::log(config.factor) /
                             std::log(static_cast<double>(config.original_max_positions)));
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeConfig& config, int32_t rotary_dim,
                                 int64_t num_positions) {
  RopeFrequencies out;
  for (int32_t channel = 0; channel < rotary_dim; channel += 2) {
    const float exponent = static_cast<float>(channel) / static_cast<float>(rotary_dim);
    const float power = std::pow(static_cast<float>(config.theta), exponent);
    out.inverse.push_back(1.0F / power);
  }
  switch (config.scaling) {
    case RopeConfig::Scaling::kNone:
      break;
    case RopeConfig::Scaling::kLinear:
      for (float& freq : out.inverse) freq /= static_cast<float>(config.factor);
      break;
    case RopeConfig::Scaling::kLlama3:
      scale_llama3(config, out.inverse);
      break;
    case RopeConfig::Scaling::kYarn:
      scale_yarn(config, rotary_dim, out.inverse);
      out.attention_factor = yarn_attention_factor(config);
      break;
    case RopeConfig::Scaling::kLongRope:
      out.attention_factor = scale_longrope(config, num_positions, out.inverse);
      break;
  }
  if (!config.freq_factors.empty()) {
    FOVEAL_CHECK(config.freq_factors.size() == out.inverse.size(), ErrorKind::kCorruptFile,
                 "rope_freqs.weight", "got {} factors; need {}", config.freq_factors.size(),
                 out.inverse.size());
    for (size_t idx = 0; idx < out.inverse.size(); ++idx) {
      out.inverse[idx] /= config.freq_factors[idx];
    }
  }
  return out;
}

RopeTable::RopeTable(const RopeConfig& config, int32_t rotary_dim, int64_t num_positions,
                     ThreadPool& pool)
    : num_positions_(num_positions) {
  const RopeFrequencies freqs = rope_frequencies(config, rotary_dim, num_positions);
  const auto half = static_cast<int64_t>(freqs.inverse.size());
  cos_.resize(static_cast<size_t>(num_positions * half));
  sin_.resize(cos_.size());
  const auto attention_factor = static_cast<float>(freqs.attention_factor);
  constexpr int64_t kBlock = 256;  // positions a task: some tens of microseconds of sines
  pool.run((num_positions + kBlock - 1) / kBlock, [&](int64_t block, int) {
    const int64_t end = std::min(num_positions, (block + 1) * kBlock);
    for (int64_t position = block * kBlock; position < end; ++position) {
      for (int64_t idx = 0; idx < half; ++idx) {
        const float angle = static_cast<float>(position) * freqs.inverse[static_cast<size_t>(idx)];
        const auto at = static_cast<size_t>(position * half + idx);
        cos_[at] = static_cast<float>(std::cos(static_cast<double>(angle))) * attention_factor;
        sin_[at] = static_cast<float>(std::sin(static_cast<double>(angle))) * attention_factor;
      }
    }
  });
}

}  // namespace foveal::model
