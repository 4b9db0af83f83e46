#include "control/registry.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "base/plain_name.h"
#include "base/system_error.h"

namespace doppel::control {
namespace {

bool is_directory(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

/// Claiming, listing and removing exclude one another, so that nobody removes what somebody has just claimed.
Result<UniqueFd> lock_registry(const std::string& runtime) {
  const std::string path = runtime + "/.lock";
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid() || ::flock(file.get(), LOCK_EX) != 0) return system_error("cannot lock " + path);
  return file;
}

UniqueFd open_pid_file(const VmPaths& paths, int flags) {
  return UniqueFd(::open(paths.pid().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600));
}

bool try_lock(const UniqueFd& file) {
  return ::flock(file.get(), LOCK_EX | LOCK_NB) == 0;
}

pid_t read_pid(const UniqueFd& file) {
  std::array<char, 32> text{};
  const ssize_t length = ::pread(file.get(), text.data(), text.size(), 0);
  pid_t pid = 0;
  if (length > 0) std::from_chars(text.data(), text.data() + length, pid);
  return pid;
}

/// The pid file is written once, when the VM starts.
std::int64_t start_time(const UniqueFd& file) {
  struct stat status {};
  return ::fstat(file.get(), &status) == 0 ? status.st_mtime : 0;
}

/// Takes away what an entry consists of; a directory that holds anything else is not an entry, and stays.
void remove(const VmPaths& paths) {
  std::error_code ignored;
  std::vector<std::filesystem::path> ours{paths.pid(),          paths.control_socket(), paths.console_socket(),
                                          paths.vsock_socket(), paths.console_log(),    paths.other_console_log()};
  // vsock has one for each port of the host that somebody listens on.
  for (const auto& file : std::filesystem::directory_iterator(paths.directory, ignored)) {
    if (std::filesystem::is_socket(file.symlink_status(ignored))) ours.push_back(file.path());
  }
  for (const std::filesystem::path& path : ours) std::filesystem::remove(path, ignored);
  std::filesystem::remove(paths.directory, ignored);
}

/// Whether a process holds this entry. With the registry locked.
bool alive(const UniqueFd& pid_file) {
  return pid_file.valid() && !try_lock(pid_file);
}

}  // namespace

Result<std::string> runtime_directory() {
  const std::string uid = std::to_string(::getuid());
  const char* const xdg = std::getenv("XDG_RUNTIME_DIR");
  std::string path = "/tmp/doppel-" + uid;
  if (xdg != nullptr && *xdg == '/') {
    path = std::string(xdg) + "/doppel";
  } else if (is_directory("/run/user/" + uid)) {
    path = "/run/user/" + uid + "/doppel";
  }
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return system_error("cannot create " + path);
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return system_error("cannot examine " + path);
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::getuid() || (status.st_mode & 077) != 0) {
    return Error{
        fmt::format("{} must be a directory of yours with mode 0700: remove it, or set XDG_RUNTIME_DIR", path)};
  }
  return path;
}

Result<void> check_vm_name(std::string_view name) {
  if (is_plain_name(name)) return {};
  return Error{
      fmt::format("\"{}\" cannot be a machine's name: use up to {} letters, digits, '-', '_' and '.', beginning "
                  "with a letter or digit",
                  name, kMaxPlainName)};
}

Registration::Registration(std::string name, VmPaths paths, UniqueFd pid_file)
    : name_(std::move(name)), paths_(std::move(paths)), pid_file_(std::move(pid_file)) {}

Result<void> Registration::record_pid() {
  const std::string text = std::to_string(::getpid()) + "\n";
  if (::ftruncate(pid_file_.get(), 0) != 0 ||
      ::pwrite(pid_file_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return system_error("cannot write " + paths_.pid());
  }
  return {};
}

Result<Registration> Registry::claim(std::string_view wanted) {
  if (!wanted.empty()) {
    if (const auto good = check_vm_name(wanted); !good) return good.error();
  }
  const Result<UniqueFd> guard = lock_registry(runtime_);
  if (!guard) return guard.error();
  for (unsigned number = 1;; ++number) {
    std::string name = wanted.empty() ? fmt::format("vm{}", number) : std::string(wanted);
    const VmPaths paths = paths_of(name);
    if (alive(open_pid_file(paths, 0))) {
      if (wanted.empty()) continue;
      return Error{fmt::format("a machine named {} is running already: choose another --name", name)};
    }
    remove(paths);
    if (std::filesystem::exists(paths.directory)) {
      if (wanted.empty()) continue;
      return Error{fmt::format("{} is not a machine's: remove it, or choose another --name", paths.directory)};
    }
    if (::mkdir(paths.directory.c_str(), 0700) != 0) return system_error("cannot create " + paths.directory);
    UniqueFd pid_file = open_pid_file(paths, O_CREAT | O_EXCL);
    if (!pid_file.valid() || !try_lock(pid_file)) return system_error("cannot create " + paths.pid());
    Registration registration(std::move(name), paths, std::move(pid_file));
    if (auto recorded = registration.record_pid(); !recorded) return recorded.error();
    return registration;
  }
}

Result<std::vector<RunningVm>> Registry::list() {
  const Result<UniqueFd> guard = lock_registry(runtime_);
  if (!guard) return guard.error();
  std::vector<RunningVm> running;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(runtime_, error)) {
    std::string name = entry.path().filename().string();
    if (!check_vm_name(name)) continue;  // .lock, and what is not ours
    const VmPaths paths = paths_of(name);
    const UniqueFd pid_file = open_pid_file(paths, 0);
    if (alive(pid_file)) {
      running.push_back({std::move(name), read_pid(pid_file), start_time(pid_file), paths});
    } else {
      remove(paths);
    }
  }
  if (error) return Error{fmt::format("cannot list {}: {}", runtime_, error.message())};
  std::ranges::sort(running, {}, &RunningVm::name);
  return running;
}

Result<RunningVm> Registry::find(std::string_view name) {
  Result<std::vector<RunningVm>> running = list();
  if (!running) return running.error();
  const auto found = std::ranges::find(*running, name, &RunningVm::name);
  if (found != running->end()) return std::move(*found);
  return Error{fmt::format("no machine named {} is running; doppel ps lists those that are", name)};
}

bool wait_for_end(const RunningVm& vm, int patience_ms) {
  // The directory may have gone, or another VM may have taken the name; the process is what counts.
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, vm.pid, 0)));
  if (!process.valid() && errno == ENOSYS) {  // kernels before 5.3, and sandboxes
    constexpr int kStepMs = 20;
    for (; patience_ms > 0 && ::kill(vm.pid, 0) == 0; patience_ms -= kStepMs) ::poll(nullptr, 0, kStepMs);
    return ::kill(vm.pid, 0) != 0;
  }
  if (!process.valid()) return errno == ESRCH;
  pollfd waiting{process.get(), POLLIN, 0};
  return ::poll(&waiting, 1, patience_ms) > 0;
}

}  // namespace doppel::control
