#include "server/admission.h"

#include <utility>

namespace foveal::server {

Admission::Slot::Slot(Slot&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)), count_(other.count_) {}

Admission::Slot& Admission::Slot::operator=(Slot&& other) noexcept {
  if (this == &other) return *this;
  release();
  owner_ = std::exchange(other.owner_, nullptr);
  count_ = other.count_;
  return *this;
}

Admission::Slot::~Slot() { release(); }

void Admission::Slot::release() {
  if (owner_ != nullptr) owner_->in_flight_.fetch_sub(count_);
  owner_ = nullptr;
}

std::optional<Admission::Slot> Admission::enter(int64_t count) {
  int64_t now = in_flight_.load();
  while (now == 0 || now + count <= limit_) {
    if (in_flight_.compare_exchange_weak(now, now + count)) return Slot(*this, count);
  }
  return std::nullopt;
}

}  // namespace foveal::server
