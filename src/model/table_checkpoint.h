#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/checkpoint.h"

namespace foveal::model {

/// What the formats share: tensors by name. A constructor fills it.
class TableCheckpoint : public Checkpoint {
 public:
  const ModelConfig& config() const override { return config_; }
  const TensorView* find(std::string_view name) const override {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, view] : tensors_) out.push_back(name);
    return out;
  }
  int64_t total_bytes() const override { return total_bytes_; }
  std::string folder() const override { return folder_; }

 protected:
  ModelConfig config_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::string folder_;
  int64_t total_bytes_ = 0;
};

}  // namespace foveal::model
