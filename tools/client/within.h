#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <optional>
#include <thread>
#include <utility>

namespace foveal::client {

/// What `work` returns, or throws, on a thread of its own; nothing where it has not ended within
/// `limit`. For calls that cannot be interrupted: the thread then goes on, unwatched, so `work`
/// must own all that it touches.
template <class Result>
std::optional<Result> within(std::chrono::milliseconds limit, std::function<Result()> work) {
  std::packaged_task<Result()> task(std::move(work));
  std::future<Result> result = task.get_future();
  std::thread(std::move(task)).detach();
  if (result.wait_for(limit) != std::future_status::ready) return std::nullopt;
  return result.get();
}

}  // namespace foveal::client
