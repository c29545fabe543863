#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/options.h"
#include "foveal/config.h"
#include "foveal/request.h"

namespace foveal::tools {

/// The flags of one subcommand, made from field tables. There are no positional arguments. For
/// example `run`:
///
///     struct RunOptions { std::string prompt; bool json = false; };
///     OptionGroup describe(RunOptions& options) {
///       return {.fields = {{.name = "prompt", .target = &options.prompt, .help = "text to go on
///       from",
///                           .required = true},
///                          {.name = "json", .target = &options.json, .help = "print JSON"}}};
///     }
///     int run_main(std::span<const std::string> args) {
///       RunOptions own;
///       LlmConfig config;
///       SamplingParams sampling;
///       tools::Command command("run", "Generate text from a prompt.");
///       command.options("Run", describe(own));
///       command.llm_config(config);
///       command.options("Sampling", describe_single(sampling));
///       if (!command.parse(args)) return 0;  // --help was printed
///       ...
///     }
///
/// The structs must outlive the command. Flags are the field names with dashes (underscores are
/// taken too); switches also exist as `--no-<name>`; lists take one item a flag and may be
/// repeated. Every command has `--help` and `--log-level`.
class Command {
 public:
  Command(std::string name, std::string summary);
  ~Command();
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  /// Flags that fill the struct behind `group`, under a title in help. Two fields with one flag in
  /// one command are kInternal.
  void options(std::string title, OptionGroup group);

  /// The fields of `config`, `--config FILE` (also `--extra_llm_api_options`) and `--set
  /// path=value`. Precedence: --set, flags, file, what `config` held. For one thing, the later
  /// --set wins.
  void llm_config(LlmConfig& config);

  /// Fills the structs. False when help was asked for and printed to standard output. Throws
  /// kInvalidArgument, `[cli] got X; need Y` or naming the flag or line in place of `cli`, and what
  /// load_yaml throws. `args` do not include the program's and the command's name.
  bool parse(std::span<const std::string> args);

  std::string help() const;

  /// True when help is asked for; it was printed then. For arguments that `parse` would refuse.
  bool parse_help(std::span<const std::string> args);

  /// Index of the first argument that is neither a flag nor a flag's value, by the flags known so
  /// far; args.size() when there is none. For commands of several words (`eval niah`): the word is
  /// found, the flags that belong to it are added, and the other arguments are parsed. Throws
  /// kInvalidArgument for an unknown flag before it.
  size_t find_word(std::span<const std::string> args) const;

  /// After `parse`: each flag that was given, as `--name`, with its values.
  std::vector<std::pair<std::string, std::vector<std::string>>> given() const;
  /// The value of one of those, by its name with dashes; a list's first, empty where there is none.
  std::string given(std::string_view flag) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The sampling fields of a command that shows one completion: `n` is 1.
OptionGroup describe_single(SamplingParams& sampling);

struct CommandEntry {
  std::string_view name;
  std::string_view summary;
  int (*main)(std::span<const std::string> args);
};

/// The whole program: finds the command, runs it and turns every exception into one line on
/// standard error. Returns the exit status: the command's own, 2 for kInvalidArgument, 141 and no
/// line where standard output has lost its reader, 1 for other failures.
int run_program(int argc, const char* const* argv, std::string_view version,
                std::span<const CommandEntry> commands);

}  // namespace foveal::tools
