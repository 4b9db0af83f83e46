#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/temporary_directory.h"
#include "guest/doppel_process.h"

namespace doppel::test {

/// Machines and snapshots in directories of the test's own.
class Snapshots : public testing::Test {
 protected:
  Snapshots() {
    for (const char* variable : {"XDG_RUNTIME_DIR", "XDG_STATE_HOME"}) {
      const std::string path = directory_ / variable;
      std::filesystem::create_directory(path);
      ::setenv(variable, path.c_str(), 1);
    }
  }
  ~Snapshots() override {
    for (const std::string& name : running_) kill_machine(name);
  }

  std::string ok(const std::vector<std::string>& arguments) {
    const RunResult result = run_doppel(arguments);
    EXPECT_EQ(result.status, 0) << testing::PrintToString(arguments) << ": " << result.errors;
    return result.output;
  }
  void start(const std::string& name, std::vector<std::string> options) {
    options.insert(options.begin(), {"run", "--detach", "--name", name});
    running_.push_back(name);
    ok(options);
  }
  std::string guest(const std::string& name, const std::string& command) {
    return ok({"exec", name, "sh", "-c", command});
  }
  /// Lets the guest work in the background from now on: `round` again and again after `preparation`, until /tmp/stop is
  /// there, watching the clocks. What is wrong is then in /tmp/wrong; /tmp/rounds counts.
  void load(const std::string& name, const std::string& preparation, const std::string& round) {
    guest(name, "cat >/tmp/load <<'END'\n" + preparation + R"sh(
n=0
last=0
until [ -e /tmp/stop ]; do
)sh" + round + R"sh(
  now=$(cut -d. -f1 /proc/uptime)
  [ $now -ge $last ] || echo "round $n: the clock went from $last to $now" >>/tmp/wrong
  [ $((now - last)) -lt 60 ] || [ $n = 0 ] || echo "round $n: the clock jumped from $last to $now" >>/tmp/wrong
  last=$now
  n=$((n + 1))
  echo $n >/tmp/count && mv /tmp/count /tmp/rounds
done
touch /tmp/stopped
END
sh /tmp/load </dev/null >/dev/null 2>&1 &
until [ -e /tmp/rounds ]; do usleep 10000; done
)sh");
  }
  /// How far the load has come.
  long rounds(const std::string& name) { return std::atol(guest(name, "cat /tmp/rounds").c_str()); }
  /// Lets the load go on for a while, and says what it has found wrong.
  std::string work(const std::string& name) {
    return guest(name,
                 "n=$(cat /tmp/rounds); until [ $(cat /tmp/rounds) -ge $((n + 3)) ]; do usleep 10000; done; "
                 "cat /tmp/wrong 2>/dev/null; true");
  }

  TemporaryDirectory directory_;
  std::vector<std::string> running_;
};

}  // namespace doppel::test
