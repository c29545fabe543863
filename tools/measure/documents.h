#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace foveal::measure {

/// A text, or token ids, or why a line of a data set is neither.
struct Document {
  std::string id;  ///< the file's name, and the line's number in a .jsonl file
  std::string text;
  std::optional<std::vector<int32_t>> ids;
  std::optional<std::string> error;
  boost::json::object object;  ///< the whole line of a .jsonl file
};

/// A text file is one document. In a file named .jsonl each line is one: an object with `text` (or
/// `prompt`), or `input_ids`, which wins; blank lines are passed over. A line that is neither
/// becomes a document with an error. Throws what read_input does, and kInvalidArgument for a file
/// without any document, naming `flag`, which the path came from.
std::vector<Document> read_documents(const std::string& path, std::string_view flag = "file");

/// The lines of such a file whatever its name.
std::vector<Document> read_lines(const std::string& path, std::string_view flag = "file");

/// Likewise, of objects with any fields: only `object` is filled.
std::vector<Document> read_objects(const std::string& path, std::string_view flag = "file");

/// Throws a bad line's error, which names file and line.
void check_document(const Document& document);

/// Of a file's bytes: 16 hexadecimal digits. Not against forgery; it tells files apart. Throws what
/// read_input does.
std::string content_hash(const std::string& path, std::string_view flag = "file");

}  // namespace foveal::measure
