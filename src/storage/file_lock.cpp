#include "storage/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>

#include "base/system_error.h"

namespace doppel::storage {
namespace {

// QEMU's permissions, by bit.
constexpr unsigned kRead = 0;
constexpr unsigned kWrite = 1;
constexpr unsigned kResize = 3;
constexpr off_t kHeldBase = 100;    ///< byte kHeldBase + p is locked by who holds permission p
constexpr off_t kDeniedBase = 200;  ///< byte kDeniedBase + p is locked by who denies p to others

struct flock byte_lock(short type, off_t byte) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

int hold(int fd, off_t byte) {
  struct flock lock = byte_lock(F_RDLCK, byte);
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

bool held_by_other(int fd, off_t byte) {
  struct flock lock = byte_lock(F_WRLCK, byte);
  return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/// " (process 123, qemu-img)" for some other process of ours that has the file open. Open file description locks tell
/// no owner.
std::string other_user(int fd) {
  struct stat ours {};
  if (::fstat(fd, &ours) != 0) return {};
  std::error_code ignored;
  for (const auto& process : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos || pid == std::to_string(::getpid())) continue;
    std::error_code unreadable;
    for (const auto& entry : std::filesystem::directory_iterator(process.path() / "fd", unreadable)) {
      struct stat theirs {};
      if (::stat(entry.path().c_str(), &theirs) != 0 || theirs.st_ino != ours.st_ino || theirs.st_dev != ours.st_dev) {
        continue;
      }
      std::string command;
      std::ifstream comm(process.path() / "comm");
      std::getline(comm, command);
      return fmt::format(" (process {}, {})", pid, command);
    }
  }
  return {};
}

}  // namespace

Result<void> lock_image(int fd, const std::string& path, bool read_only) {
  const auto in_use = [&](const char* how) {
    return Error{fmt::format("{} is in use: another program{} {}; end that first", path, other_user(fd), how)};
  };
  const auto lock_and_check = [&](off_t mine, off_t theirs, const char* how) -> Result<void> {
    if (const int error = hold(fd, mine); error != 0) {
      // File systems without locks (some network ones) are used as they are.
      if (error == ENOSYS || error == EINVAL || error == EOPNOTSUPP || error == ENOLCK) return {};
      if (error == EAGAIN || error == EACCES) return in_use(how);
      return system_error("cannot lock " + path, error);
    }
    if (held_by_other(fd, theirs)) return in_use(how);
    return {};
  };
  const char* const writes = "has it open for writing";
  const char* const reads = "has it open";
  if (auto result = lock_and_check(kHeldBase + kRead, kDeniedBase + kRead, reads); !result) return result;
  for (const unsigned permission : {kWrite, kResize}) {
    if (auto result = lock_and_check(kDeniedBase + permission, kHeldBase + permission, writes); !result) return result;
    if (read_only) continue;
    if (auto result = lock_and_check(kHeldBase + permission, kDeniedBase + permission, reads); !result) return result;
  }
  return {};
}

void unlock_writing(int fd) {
  for (const unsigned permission : {kWrite, kResize}) {
    struct flock lock = byte_lock(F_UNLCK, kHeldBase + permission);
    ::fcntl(fd, F_OFD_SETLK, &lock);
  }
}

}  // namespace doppel::storage
