#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace doppel::test {

/// The program under test as a user runs it: arguments, pipes, exit status. Ends its process when it goes out of scope.
class DoppelProcess {
 public:
  enum class Terminal { Pipes, Pty };

  explicit DoppelProcess(const std::vector<std::string>& arguments, Terminal terminal = Terminal::Pipes);
  ~DoppelProcess();
  DoppelProcess(const DoppelProcess&) = delete;
  DoppelProcess& operator=(const DoppelProcess&) = delete;

  /// Waits until `text` has come on stdout after everything that earlier calls matched; false when the program ended or
  /// the (generous) limit passed first. The limit only keeps a broken program from hanging the suite.
  bool expect(std::string_view text, std::chrono::seconds limit = std::chrono::seconds(600));
  /// The same for stderr, from its beginning.
  bool expect_error(std::string_view text, std::chrono::seconds limit = std::chrono::seconds(600));
  void send(std::string_view text);
  void close_input();
  /// Reads everything until the end; the exit status as a shell gives it (128 + signal).
  int wait(std::chrono::seconds limit = std::chrono::seconds(600));

  const std::string& output() const { return output_; }
  const std::string& errors() const { return errors_; }
  pid_t pid() const { return pid_; }

 private:
  /// Reads what there is, waiting up to `limit` for something; false at the end of both streams or of the time.
  bool pump(std::chrono::steady_clock::time_point limit);

  pid_t pid_ = -1;
  UniqueFd input_, output_fd_, error_fd_;
  std::string output_, errors_;
  std::size_t matched_ = 0;
};

/// One finished run.
struct RunResult {
  int status;
  std::string output, errors;
};
RunResult run_doppel(const std::vector<std::string>& arguments, std::string_view input = {});

/// Ends a machine, if it is there: for the end of a test, whatever that has come to.
void kill_machine(const std::string& name) noexcept;

/// A file of the guest cache (kernels/cloud, initramfs-amd64, …), or nothing when it is not there.
std::optional<std::string> guest_file(std::string_view name);

}  // namespace doppel::test
