#include "control/console_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <utility>

#include "base/system_error.h"

namespace doppel::control {
namespace {

Result<std::array<UniqueFd, 2>> open_both(const std::string& path, const std::string& other_path, int flags) {
  std::array<UniqueFd, 2> files;
  for (const auto& [file, name] : {std::tie(files[0], path), std::tie(files[1], other_path)}) {
    file = UniqueFd(::open(name.c_str(), flags | O_CLOEXEC, 0600));
    if (!file.valid()) return system_error("cannot open " + name);
  }
  return files;
}

struct Extent {
  std::size_t length = 0;
  std::pair<std::int64_t, std::int64_t> changed{};  ///< seconds, nanoseconds
};

Extent extent_of(const UniqueFd& file) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return {};
  return {static_cast<std::size_t>(status.st_size), {status.st_mtim.tv_sec, status.st_mtim.tv_nsec}};
}

}  // namespace

Result<ConsoleLog> ConsoleLog::create(const std::string& path, const std::string& other_path, std::size_t max_length) {
  Result<std::array<UniqueFd, 2>> files = open_both(path, other_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
  if (!files) return files.error();
  return ConsoleLog(*std::move(files), max_length);
}

void ConsoleLog::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (length_ >= max_length_) {
      current_ ^= 1;
      if (::ftruncate(files_[current_].get(), 0) != 0) return;
      length_ = 0;
    }
    const std::span<const std::byte> part = bytes.first(std::min(bytes.size(), max_length_ - length_));
    if (!write_all(files_[current_].get(), part)) return;
    length_ += part.size();
    bytes = bytes.subspan(part.size());
  }
}

Result<ConsoleLogReader> ConsoleLogReader::open(const std::string& path, const std::string& other_path,
                                                std::size_t max_length) {
  Result<std::array<UniqueFd, 2>> files = open_both(path, other_path, O_RDONLY);
  if (!files) return files.error();
  return ConsoleLogReader(*std::move(files), max_length);
}

ConsoleLogReader::ConsoleLogReader(std::array<UniqueFd, 2> files, std::size_t max_length)
    : files_(std::move(files)), max_length_(max_length) {
  // The older one is the full one; of two, the one that has not changed for longer.
  const Extent first = extent_of(files_[0]), second = extent_of(files_[1]);
  const bool second_is_full = second.length >= max_length_;
  const bool first_is_full = first.length >= max_length_;
  if (second_is_full && (!first_is_full || second.changed < first.changed)) current_ = 1;
}

/// The current file is read to its end, and the other one goes on.
bool ConsoleLogReader::at_turn() const {
  const Extent here = extent_of(files_[current_]), other = extent_of(files_[current_ ^ 1]);
  if (here.length < offset_) return true;  // emptied meanwhile: what is left of the past is in the other
  return offset_ >= max_length_ && (other.length < max_length_ || other.changed > here.changed);
}

bool ConsoleLogReader::read(const std::function<bool(std::span<const std::byte>)>& take) {
  std::array<std::byte, 65536> buffer{};
  for (;;) {
    const ssize_t got = ::pread(files_[current_].get(), buffer.data(), buffer.size(), static_cast<off_t>(offset_));
    if (got < 0 && errno == EINTR) continue;
    if (got > 0) {
      offset_ += static_cast<std::size_t>(got);
      if (!take(std::span(buffer).first(static_cast<std::size_t>(got)))) return false;
    } else if (at_turn()) {
      current_ ^= 1;
      offset_ = 0;
    } else {
      return true;
    }
  }
}

}  // namespace doppel::control
