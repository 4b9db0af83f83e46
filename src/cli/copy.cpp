#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "base/fd.h"
#include "base/system_error.h"
#include "cli/exec.h"
#include "cli/exit_status.h"
#include "cli/message.h"

namespace doppel::cli {
namespace {

struct Place {
  std::string machine;  ///< empty: here
  std::string path;

  static Place parse(const std::string& text) {
    const std::size_t colon = text.find(':');
    // "./a:b" and "/a:b" are files of ours.
    if (colon == std::string::npos || colon == 0 || text.find('/') < colon) return {{}, text};
    return {text.substr(0, colon), text.substr(colon + 1)};
  }
};

/// Unpacks standard input at $1: into a directory that is there, else under that name. $2 is the name in the archive.
/// With $3, nothing else in it is unpacked: what comes from a guest is what the guest likes. That the guest's clock is
/// a little behind is no news.
constexpr const char* kUnpack = R"~(set -e
path=$1 given=$2
shift 2
export TAR_OPTIONS=--warning=no-timestamp
if [ -d "$path" ]; then exec tar -x -C "$path" -f - "$@"; fi
parent=$(dirname -- "$path") name=$(basename -- "$path")
if [ "$name" = "$given" ]; then exec tar -x -C "$parent" -f - "$@"; fi
work=$(mktemp -d "$parent/.doppel-cp.XXXXXX")
trap 'rm -rf "$work"' EXIT
tar -x -C "$work" -f - "$@"
mv -T "$work/$given" "$path")~";
/// Packs $1 on standard output.
constexpr const char* kPack = R"~(exec tar -c -C "$(dirname -- "$1")" -f - -- "$(basename -- "$1")")~";

std::vector<std::string> shell(const char* script, const std::string& path, const std::string& name) {
  return {"sh", "-c", script, "sh", path, name};
}

/// Runs `command` here, or in a machine by a process of ours; with these standard streams. The process.
Result<pid_t> start(const Place& place, const std::vector<std::string>& command, int input, int output) {
  const pid_t child = ::fork();
  if (child < 0) return system_error("cannot start another process");
  if (child > 0) return child;
  if (input >= 0) ::dup2(input, STDIN_FILENO);
  if (output >= 0) ::dup2(output, STDOUT_FILENO);
  if (!place.machine.empty()) {
    ::_exit(exec_in_guest({.name = place.machine, .command = command, .interactive = input >= 0}));
  }
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  ::_exit(exit_status::kHostFailure);
}

bool succeeded(pid_t process) {
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

int copy_files(const std::string& source, const std::string& destination) {
  const Place from = Place::parse(source);
  const Place to = Place::parse(destination);
  if (from.machine.empty() == to.machine.empty()) {
    complain("cp: one of the two must be in a machine, written NAME:PATH");
    return exit_status::kUsage;
  }
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    complain(system_error("cannot create a pipe").message);
    return exit_status::kHostFailure;
  }
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  std::filesystem::path name(from.path);
  if (!name.has_filename()) name = name.parent_path();
  const std::string base = name.filename().string();
  const Result<pid_t> packer = start(from, shell(kPack, name.string(), base), -1, write_end.get());
  write_end.reset();
  std::vector<std::string> unpack = shell(kUnpack, to.path, base);
  if (to.machine.empty()) unpack.insert(unpack.end(), {"--", base});
  const Result<pid_t> unpacker = start(to, unpack, read_end.get(), -1);
  read_end.reset();
  const bool packed = packer.ok() && succeeded(*packer);
  const bool unpacked = unpacker.ok() && succeeded(*unpacker);
  if (packed && unpacked) return exit_status::kSuccess;
  complain(fmt::format("cannot copy {} to {}", source, destination));
  return exit_status::kFailure;
}

}  // namespace doppel::cli
