#pragma once

#include <span>
#include <string>
#include <string_view>

#include "foveal/error.h"

namespace foveal::tools {

/// Standard output has lost its reader, as before `| head`: nobody is left to be told of it.
class NoReader : public Error {
 public:
  using Error::Error;
};

/// Writes to standard output at once. Throws NoReader, and kIo when it takes no more otherwise
/// (full, closed).
void write_out(std::string_view text);

/// Writes a whole file, or leaves what was there (base/new_file.h). An empty path is fine: nothing
/// is written. Throws kIo, naming `flag`.
void write_file(std::string_view flag, const std::string& path, const std::string& text);

/// What a command has for one of its files.
struct OutputText {
  std::string_view flag;
  std::string path;  ///< empty: none
  std::string text;
};

/// Writes all files, then `shown` to standard output, and throws the first error at the end: one
/// full disk does not take the other results of hours with it.
void write_results(std::span<const OutputText> files, std::string_view shown);

/// Refuses a path that could not be written later, before hours of work are spent. `flag` names it
/// in the error. Nothing is created. An empty path is fine: nothing will be written.
void check_writable(std::string_view flag, const std::string& path);

/// Refuses to overwrite what is read: `path` exists and is `input` or a file in that folder, by
/// whatever name.
void check_not_input(std::string_view flag, const std::string& path, const std::string& input);

/// True when both exist and are one regular file, or when both spell the same new path.
bool same_output(const std::string& one, const std::string& other);

/// A flag and the file that it has written.
struct OutputFile {
  std::string_view flag;
  std::string path;  ///< empty: none
};

/// Refuses, before hours of work are spent: what could not be written, what is one of `inputs`
/// (empty ones are none), and two that would be one file.
void check_outputs(std::span<const OutputFile> outputs, std::span<const std::string> inputs);

/// Makes 0, 1 and 2 stand for the standard streams even where the caller closed them: otherwise the
/// next file opened would take their place and receive what is printed. Ignores SIGPIPE and SIGXFSZ
/// (a write then fails, and is reported), turns SIGBUS, the end of a mapped file that shrank,
/// into one line and exit status 1, and lets SIGINT say a line before it ends the process as ever
/// (130 in a shell).
void guard_process();

/// What an interrupt says from now on, `[where] got X; need Y`. One thread.
void set_interrupt_text(std::string text);

}  // namespace foveal::tools
