// Everything of a checkpoint's sparse_attention_config that text can reach: formula, JSON,
// patterns. The first byte chooses; a break is a crash, a hang, or an exception that is not
// foveal::Error.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "attention/skip_softmax/formula.h"
#include "attention/skip_softmax/glob.h"
#include "attention/skip_softmax/resolve.h"
#include "foveal/error.h"

namespace {

using foveal::attention::skip_softmax::Coefficients;
using foveal::attention::skip_softmax::Formula;

void run_formula(std::string_view text) {
  const Formula formula = Formula::parse(text);
  Coefficients coefficients;
  for (const std::string& name : formula.names()) coefficients.emplace(name, 0.75);
  formula.check_names(coefficients);
  if (!std::isfinite(formula.evaluate(coefficients, 0.5))) std::abort();
}

void run_checkpoint(std::string_view text) {
  using foveal::attention::skip_softmax::resolve_settings;
  const auto settings = resolve_settings(nullptr, text, /*num_layers=*/3);
  if (!settings) return;
  for (const double factor : {settings->prefill.factor, settings->decode.factor}) {
    if (!(factor >= 0) || !std::isfinite(factor)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    switch (data[0]) {
      case 'j':
        run_checkpoint(text);
        break;
      case 'g':
        foveal::attention::skip_softmax::glob_match(text, "model.layers.12.self_attn");
        break;
      default:
        run_formula(text);
    }
  } catch (const foveal::Error&) {
  }
  return 0;
}
