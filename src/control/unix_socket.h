#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::control {

/// A listening, non-blocking Unix stream socket at `path`, for its owner only. Paths that do not fit a socket address
/// (107 bytes) are reached through their directory.
Result<UniqueFd> listen_unix(const std::string& path);
/// A connected, blocking one; with SOCK_NONBLOCK among the flags neither connecting nor the socket blocks.
Result<UniqueFd> connect_unix(const std::string& path, int flags = 0);
/// The next connection, non-blocking; not valid when there is none (any more).
UniqueFd accept_unix(int listener);

}  // namespace doppel::control
