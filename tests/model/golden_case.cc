#include "golden_case.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "model/mapped_file.h"
#include "model/safetensors.h"

namespace foveal::test {
namespace {

namespace fs = std::filesystem;

template <class T>
std::vector<T> values(const model::SafetensorsTensor& tensor) {
  std::vector<T> out(tensor.bytes / sizeof(T));
  std::memcpy(out.data(), tensor.view.data, out.size() * sizeof(T));
  return out;
}

void load_index_sets(const std::map<std::string, const model::SafetensorsTensor*>& tensors,
                     const std::string& name, GoldenCase& out) {
  constexpr int32_t kMostLayers = 8;
  for (int32_t layer = 0; layer < kMostLayers; ++layer) {
    const auto prompt = tensors.find("topk_indices." + std::to_string(layer) + "." + name);
    if (prompt == tensors.end()) continue;
    out.index_topk = prompt->second->view.shape.at(1);
    std::vector<int32_t>& sets = out.index_sets[layer];
    sets = values<int32_t>(*prompt->second);
    const std::vector<int32_t> later =
        values<int32_t>(*tensors.at("topk_indices_greedy." + std::to_string(layer) + "." + name));
    sets.insert(sets.end(), later.begin(), later.end());
  }
}

GoldenCase load_case(const std::map<std::string, const model::SafetensorsTensor*>& tensors,
                     const std::string& name) {
  GoldenCase out;
  out.prompt = values<int32_t>(*tensors.at("input_ids." + name));
  const model::SafetensorsTensor& logits = *tensors.at("logits." + name);
  out.logits = values<float>(logits);
  out.logits_rows = logits.view.shape.at(0);
  out.greedy = values<int32_t>(*tensors.at("greedy." + name));
  if (const auto found = tensors.find("greedy_logits." + name); found != tensors.end()) {
    out.greedy_logits = values<float>(*found->second);
  }
  load_index_sets(tensors, name, out);
  return out;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

std::vector<std::string> golden_folders() {
  std::map<std::string, std::string> found;
  const char* whole = std::getenv("FOVEAL_GOLDEN");
  for (const std::string& root :
       {std::string(FOVEAL_SOURCE_DIR "/tests/golden"), std::string(whole ? whole : "")}) {
    if (root.empty() || !fs::exists(root)) continue;
    for (const auto& entry : fs::directory_iterator(root)) {
      const std::string name = entry.path().filename();
      if (!fs::exists(entry.path() / "golden.safetensors")) continue;
      found[name] = entry.path();
    }
  }
  std::vector<std::string> out;
  for (const auto& [name, folder] : found) out.push_back(folder);
  if (out.empty()) throw std::runtime_error("no golden families found");
  return out;
}

GoldenFamily load_golden(const std::string& folder) {
  GoldenFamily out{.name = fs::path(folder).filename(), .folder = folder};
  const boost::json::value meta = boost::json::parse(read_text(fs::path(folder) / "meta.json"));
  out.tolerance = meta.at("suggested_tolerance_float32").to_number<double>();
  out.bf16_kl = meta.at("bfloat16_run").at("kl").at("mean").to_number<double>();
  if (const auto* dsa = meta.as_object().if_contains("dsa")) {
    out.bf16_sets = dsa->at("sets_kept_in_bfloat16").to_number<double>();
  }
  out.discrete = out.name.find("moe") != std::string::npos || out.name.starts_with("deepseek");
  const model::MappedFile file((fs::path(folder) / "golden.safetensors").string());
  const auto tensors = model::parse_safetensors(file.bytes(), "golden.safetensors");
  std::map<std::string, const model::SafetensorsTensor*> by_name;
  for (const auto& tensor : tensors) by_name[tensor.name] = &tensor;
  out.cases[0] = load_case(by_name, "short");
  out.cases[1] = load_case(by_name, "long");
  out.vocab = by_name.at("logits.short")->view.shape.at(1);
  return out;
}

std::string fast_device() {
#ifndef FOVEAL_FAST_DEVICE
#define FOVEAL_FAST_DEVICE "cpu"
#endif
  const char* device = std::getenv("FOVEAL_TEST_DEVICE");
  return device != nullptr ? device : FOVEAL_FAST_DEVICE;
}

double log_total(const float* row, int64_t vocab) {
  const double top = *std::max_element(row, row + vocab);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(row[i] - top);
  return top + std::log(sum);
}

double kl(const float* golden, const float* ours, int64_t vocab) {
  const double golden_total = log_total(golden, vocab);
  const double ours_total = log_total(ours, vocab);
  double out = 0;
  for (int64_t i = 0; i < vocab; ++i) {
    const double log_p = golden[i] - golden_total;
    out += std::exp(log_p) * (log_p - (ours[i] - ours_total));
  }
  return out;
}

}  // namespace foveal::test
