#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "measure/records.h"

namespace foveal::measure {

/// What decides a result, as name and value in order: task, model, configuration, seed.
using Settings = std::vector<std::pair<std::string, std::string>>;

/// A folder of results that an interrupted run can be taken up in: settings.json, samples.jsonl
/// (one line a sample, appended when it is done) and summary.json. One process at a time.
class ResultFolder {
 public:
  /// Creates the folder or reads what is there. A last line that a crash cut short is dropped.
  /// Throws kInvalidArgument where the results there are of other settings, kIo where the folder
  /// cannot be written or another process has it. `overwrite`: what is there is dropped.
  ResultFolder(std::string path, const Settings& settings, bool overwrite);
  ResultFolder(const ResultFolder&) = delete;
  ResultFolder& operator=(const ResultFolder&) = delete;

  /// By id. Later lines of one id replace earlier ones.
  const std::map<std::string, Record>& records() const { return records_; }
  /// Any thread.
  void add(const Record& record);
  /// Replaces FILE in the folder in one go.
  void write(const std::string& file, const std::string& text) const;
  const std::string& path() const { return path_; }

 private:
  /// Closes it, and with it the lock, also where a constructor throws.
  struct File {
    int fd = -1;
    ~File();
  };

  void read_samples();
  void check_settings(const Settings& settings) const;

  std::string path_;
  File file_;
  std::mutex mutex_;  ///< guards the file and records_ in `add`
  std::map<std::string, Record> records_;
};

}  // namespace foveal::measure
