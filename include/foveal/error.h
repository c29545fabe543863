#pragma once

#include <stdexcept>
#include <string>

namespace foveal {

/// Why something could not be done. Servers map each kind to one HTTP status.
enum class ErrorKind {
  kInvalidArgument,  ///< The caller asked for something that can never work.
  kNotFound,         ///< A file, tensor or name does not exist.
  kUnsupported,      ///< Well formed, but this model, device or build cannot do it.
  kCorruptFile,      ///< A file contradicts itself or its format.
  kContextLength,    ///< The prompt does not fit the context or the cache.
  kOutOfMemory,      ///< Memory for weights, cache or scratch could not be had.
  kCancelled,        ///< The request was cancelled by its owner.
  kIo,               ///< The operating system refused to read or write.
  kInternal,         ///< A bug in Foveal.
};

/// The only exception type that leaves Foveal. `what()` reads `[where] got X; need Y`, on one line.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace foveal
