#include "control/console_log.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>

#include "base/system_error.h"

namespace doppel::control {
namespace {

UniqueFd open_new(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
}

}  // namespace

Result<ConsoleLog> ConsoleLog::create(const std::string& path, const std::string& older_path, std::size_t max_length) {
  UniqueFd file = open_new(path);
  if (!file.valid()) return system_error("cannot create " + path);
  return ConsoleLog(std::move(file), path, older_path, max_length);
}

ConsoleLog::ConsoleLog(UniqueFd file, std::string path, std::string older_path, std::size_t max_length)
    : file_(std::move(file)), path_(std::move(path)), older_path_(std::move(older_path)), max_length_(max_length) {}

void ConsoleLog::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (length_ >= max_length_) turn_over();
    const std::span<const std::byte> part = bytes.first(std::min(bytes.size(), max_length_ - length_));
    if (!write_all(file_.get(), part)) return;
    length_ += part.size();
    bytes = bytes.subspan(part.size());
  }
}

void ConsoleLog::turn_over() {
  std::rename(path_.c_str(), older_path_.c_str());
  file_ = open_new(path_);
  length_ = 0;
}

}  // namespace doppel::control
