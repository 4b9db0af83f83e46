#pragma once

#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <system_error>

namespace doppel::fuzz {

/// No file of this process becomes large, whatever an input asks for.
inline void limit_files() {
  static const bool limited = [] {
    constexpr rlim_t kMost = rlim_t{16} << 20;
    const rlimit limit{kMost, kMost};
    return std::signal(SIGXFSZ, SIG_IGN) != SIG_ERR && ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
  }();
  static_cast<void>(limited);
}

/// Removes all that is in a directory, also what its owner may no longer read.
inline void empty_directory(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  fs::permissions(path, fs::perms::owner_all, ignored);
  for (fs::recursive_directory_iterator it(path, ignored), end; !ignored && it != end; it.increment(ignored)) {
    // Not is_directory(), which follows links and throws where one leads to itself.
    std::error_code gone;
    if (it->symlink_status(gone).type() == fs::file_type::directory) {
      fs::permissions(it->path(), fs::perms::owner_all, gone);
    }
  }
  for (const auto& entry : fs::directory_iterator(path, ignored)) fs::remove_all(entry.path(), ignored);
}

}  // namespace doppel::fuzz
