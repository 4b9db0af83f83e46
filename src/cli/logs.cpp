#include "cli/logs.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"
#include "base/system_error.h"
#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/running.h"
#include "control/registry.h"

namespace doppel::cli {
namespace {

/// Copies from where the file is now to its end. False when nobody takes the output any more.
bool copy_rest(const UniqueFd& file) {
  std::array<std::byte, 65536> buffer{};
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return true;
    if (!write_all(STDOUT_FILENO, std::span(buffer).first(static_cast<std::size_t>(got)))) return false;
  }
}

UniqueFd open_log(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

/// Whether the file is still the one by that name.
bool is_current(const UniqueFd& file, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(file.get(), &opened) == 0 && ::stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino;
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

int follow_log(const control::VmPaths& paths, UniqueFd log, const UniqueFd& watch) {
  for (;;) {
    std::array<char, 4096> events{};
    if (::read(watch.get(), events.data(), events.size()) < 0 && errno != EINTR) return exit_status::kFailure;
    // The file is open, so its end can be read even after the machine's directory has gone.
    if (!copy_rest(log)) return exit_status::kSuccess;
    if (is_current(log, paths.console_log())) continue;
    UniqueFd next = open_log(paths.console_log());
    if (next.valid()) {
      log = std::move(next);
      if (!copy_rest(log)) return exit_status::kSuccess;
    } else if (!exists(paths.pid())) {
      return exit_status::kSuccess;
    }
  }
}

}  // namespace

int print_logs(const std::string& name, bool follow) {
  const Result<control::RunningVm> vm = find_running(name);
  if (!vm) {
    complain(vm.error().message);
    return exit_status::kFailure;
  }
  // Watching begins before reading, so that nothing falls in between.
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC));
  const std::string& directory = vm->paths.directory;
  if (follow && ::inotify_add_watch(watch.get(), directory.c_str(),
                                    IN_MODIFY | IN_CREATE | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF) < 0) {
    complain(system_error("cannot watch " + directory).message);
    return exit_status::kFailure;
  }
  UniqueFd log = open_log(vm->paths.console_log());
  if (!log.valid()) {
    complain(system_error("cannot open " + vm->paths.console_log()).message);
    return exit_status::kFailure;
  }
  if (const UniqueFd older = open_log(vm->paths.older_console_log()); older.valid() && !copy_rest(older)) {
    return exit_status::kSuccess;
  }
  if (!copy_rest(log)) return exit_status::kSuccess;
  return follow ? follow_log(vm->paths, std::move(log), watch) : exit_status::kSuccess;
}

}  // namespace doppel::cli
