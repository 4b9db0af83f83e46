#include "base/fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/system_error.h"

namespace doppel {
namespace {

Result<void> sync_and_rename(UniqueFd file, const std::string& from, const std::string& to) {
  if (::fsync(file.get()) != 0) return system_error("cannot write " + from + " to disk");
  if (::rename(from.c_str(), to.c_str()) != 0) return system_error("cannot rename " + from + " to " + to);
  // The rename itself survives a crash only once the directory has reached the disk.
  const std::size_t slash = to.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : to.substr(0, slash);
  const UniqueFd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.valid() || ::fsync(parent.get()) != 0) return system_error("cannot write " + directory + " to disk");
  return {};
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

UniqueFd::~UniqueFd() {
  reset();
}

int UniqueFd::release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

void UniqueFd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<UniqueFd> open_for_reading(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return system_error("cannot open " + path);
  return file;
}

Result<std::vector<std::byte>> read_file(const std::string& path, std::size_t limit) {
  Result<UniqueFd> file = open_for_reading(path);
  if (!file) return file.error();

  struct stat status {};
  if (::fstat(file->get(), &status) != 0) return system_error("cannot examine " + path);
  if (S_ISDIR(status.st_mode)) return Error{fmt::format("cannot read {}: it is a directory, not a file", path)};
  const Error too_long{fmt::format("cannot read {}: it is longer than {} bytes", path, limit)};
  const auto expected = S_ISREG(status.st_mode) ? static_cast<std::size_t>(status.st_size) : std::size_t{0};
  if (expected > limit) return too_long;

  // The size is only a hint: pipes and /proc report none, and a file may grow while it is read. One byte more than
  // expected, so that the end is seen without growing the buffer.
  constexpr std::size_t kChunk = std::size_t{64} << 10;
  std::vector<std::byte> content(std::max(expected + 1, kChunk));
  std::size_t length = 0;
  for (;;) {
    if (length == content.size()) content.resize(content.size() * 2);
    const ssize_t got = ::read(file->get(), content.data() + length, content.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("cannot read " + path);
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
    if (length > limit) return too_long;
  }
  content.resize(length);
  return content;
}

Result<void> write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_error("cannot write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> write_file_atomically(const std::string& path, std::span<const std::byte> bytes) {
  const std::string aside = fmt::format("{}.{}.tmp", path, ::getpid());
  UniqueFd file(::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file.valid()) return system_error("cannot create " + aside);
  Result<void> result = write_all(file.get(), bytes);
  if (result) {
    result = sync_and_rename(std::move(file), aside, path);
  } else {
    result = Error{aside + ": " + result.error().message};
  }
  if (!result) ::unlink(aside.c_str());
  return result;
}

}  // namespace doppel
