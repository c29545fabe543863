#include "signal.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "bind.h"

namespace foveal::python {

using Clock = std::chrono::steady_clock;

Signal::~Signal() {
  if (descriptor_ >= 0) close(descriptor_);
}

void Signal::raise(uint64_t request) {
  {
    const std::lock_guard lock(mutex_);
    const bool first = ready_.empty();
    ready_.insert(request);
    if (first) tell();
  }
  changed_.notify_all();
}

void Signal::tell() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then it is readable already.
  if (descriptor_ >= 0) (void)!write(descriptor_, &one, sizeof(one));
}

std::vector<uint64_t> Signal::take() {
  const std::lock_guard lock(mutex_);
  uint64_t count = 0;
  if (descriptor_ >= 0) (void)!read(descriptor_, &count, sizeof(count));
  std::vector<uint64_t> out(ready_.begin(), ready_.end());
  ready_.clear();
  return out;
}

bool Signal::wait_for(std::chrono::nanoseconds limit) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [&] { return !ready_.empty(); });
}

int Signal::descriptor() {
  const std::lock_guard lock(mutex_);
  if (descriptor_ < 0) {
    descriptor_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    FOVEAL_CHECK(descriptor_ >= 0, ErrorKind::kIo, "eventfd", "got {}; need a free descriptor",
                 std::strerror(errno));
    if (!ready_.empty()) tell();
  }
  return descriptor_;
}

namespace {

// Handlers of signals, Ctrl-C's among them, run only where the interpreter asks: often enough for a
// person, seldom enough to cost nothing.
constexpr std::chrono::nanoseconds kSlice = std::chrono::milliseconds(50);

std::vector<uint64_t> wait(SignalHandle& handle, std::optional<double> timeout_s) {
  const double limit_s = std::clamp(timeout_s.value_or(0), 0.0, 1e9);
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(limit_s));
  while (true) {
    const std::chrono::nanoseconds left = timeout_s ? end - Clock::now() : kSlice;
    const auto slice = std::clamp(left, std::chrono::nanoseconds(0), kSlice);
    const bool ready = without_gil([&] { return handle.signal->wait_for(slice); });
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (ready || (timeout_s && Clock::now() >= end)) return handle.signal->take();
  }
}

}  // namespace

void bind_signal(nb::module_& module) {
  nb::class_<SignalHandle>(module, "Signal", nb::is_weak_referenceable())
      .def(nb::init<>())
      .def("wait", &wait, nb::arg("timeout_s").none() = nb::none(),
           "Waits until requests have more; their numbers. Empty after the timeout.")
      .def("take", [](SignalHandle& handle) { return handle.signal->take(); })
      .def("fileno", [](SignalHandle& handle) { return handle.signal->descriptor(); });
}

}  // namespace foveal::python
