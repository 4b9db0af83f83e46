#include "cli/logs.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <span>

#include "base/fd.h"
#include "base/system_error.h"
#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/running.h"
#include "control/console_log.h"
#include "control/registry.h"

namespace doppel::cli {
namespace {

/// False when nobody takes the output any more.
bool print(std::span<const std::byte> bytes) {
  return write_all(STDOUT_FILENO, bytes).ok();
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

int follow_log(const control::VmPaths& paths, control::ConsoleLogReader& log, const UniqueFd& watch) {
  for (;;) {
    std::array<char, 4096> events{};
    if (::read(watch.get(), events.data(), events.size()) < 0 && errno != EINTR) return exit_status::kFailure;
    // Asked before reading: a machine that has gone prints no more.
    const bool over = !exists(paths.pid());
    // The files are open, so that they can be read even after the machine's directory has gone.
    if (!log.read(print) || over) return exit_status::kSuccess;
  }
}

int fail(const Error& error) {
  complain(error.message);
  return exit_status::kFailure;
}

}  // namespace

int print_logs(const std::string& name, bool follow) {
  const Result<control::RunningVm> vm = find_running(name);
  if (!vm) return fail(vm.error());
  const control::VmPaths& paths = vm->paths;
  // Watching begins before reading, so that nothing falls in between.
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC));
  if (follow && ::inotify_add_watch(watch.get(), paths.directory.c_str(), IN_MODIFY | IN_DELETE | IN_DELETE_SELF) < 0) {
    return fail(system_error("cannot watch " + paths.directory));
  }
  Result<control::ConsoleLogReader> log =
      control::ConsoleLogReader::open(paths.console_log(), paths.other_console_log());
  if (!log) return fail(log.error());
  if (!log->read(print)) return exit_status::kSuccess;
  return follow ? follow_log(paths, *log, watch) : exit_status::kSuccess;
}

}  // namespace doppel::cli
