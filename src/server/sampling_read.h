#pragma once

#include "server/call.h"
#include "server/json_read.h"

namespace foveal::server {

/// The fields that all routes share: how to choose tokens, when to stop, sparse attention, salt,
/// model; and those that change nothing. Temperature is 1 by default, as in OpenAI's API.
void read_sampling(JsonReader& reader, const ReadContext& context, Call& call);

/// `response_format` and the guided_... fields (guided_read.cc). At most one may be given.
void read_guided(JsonReader& reader, Call& call);
/// A `json_object` or `json_schema` form, as both chat and responses write it.
std::optional<GuidedDecoding> read_format(const boost::json::object& format,
                                          const std::string& path);

void read_stream(JsonReader& reader, Call& call);
/// As many tokens as still fit after the longest prompt: for routes where OpenAI has no limit.
int64_t room_after(const Call& call, const LLM& llm);

}  // namespace foveal::server
