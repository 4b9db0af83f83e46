// Machines that are saved while they work, and go on elsewhere: in another process, under another name, on another
// engine.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "control/client.h"
#include "guest/snapshots_fixture.h"

namespace doppel::test {
namespace {

using testing::HasSubstr;

constexpr const char* kPreparation = R"sh(
seq 1 20000 >/tmp/a
good=$(md5sum </tmp/a)
)sh";
constexpr const char* kRound = R"sh(
  cp /tmp/a /tmp/b && sync
  [ "$(md5sum </tmp/b)" = "$good" ] || echo "round $n: another sum" >>/tmp/wrong
  usleep 1000
)sh";

TEST_F(Snapshots, AWorkingGuestGoesOnADozenTimesAcrossEngines) {
  constexpr std::array<const char*, 2> kEngines{"interp", "dbt"};
  start("web", {"--memory", "192M", "--cpus", "2", "--engine", "dbt"});
  load("web", kPreparation, kRound);
  long before = 0;
  for (unsigned i = 0; i < 12; ++i) {
    SCOPED_TRACE(i);
    const std::string tag = "t" + std::to_string(i);
    ok({"snapshot", "create", "web", tag});
    EXPECT_EQ(work("web"), "") << "the guest goes on after being saved";
    ok({"snapshot", "restore", "web", tag, "--engine", kEngines[i / 2 % 2]});
    const long now = rounds("web");
    EXPECT_GE(now, before) << "work was lost";
    before = now;
    EXPECT_EQ(work("web"), "") << "and after being restored";
  }
  EXPECT_EQ(ok({"snapshot", "verify", "web"}), "");
  // The last one is whole without those that it was made from.
  for (unsigned i = 0; i < 11; ++i) ok({"snapshot", "delete", "web", "t" + std::to_string(i)});
  ok({"snapshot", "restore", "web", "t11"});
  EXPECT_EQ(work("web"), "");
}

TEST_F(Snapshots, TheyAreATreeToWhoseNodesAMachineReturns) {
  start("web", {"--memory", "128M"});
  guest("web", "echo one >/tmp/state");
  ok({"snapshot", "create", "web", "one"});
  guest("web", "echo two >/tmp/state");
  ok({"snapshot", "create", "web", "two"});
  ok({"snapshot", "restore", "web", "one"});
  EXPECT_EQ(guest("web", "cat /tmp/state"), "one\n");
  guest("web", "echo branch >/tmp/state");
  ok({"snapshot", "create", "web", "branch"});
  ok({"snapshot", "restore", "web", "two"});
  EXPECT_EQ(guest("web", "cat /tmp/state"), "two\n");
  ok({"snapshot", "restore", "web", "branch"});
  EXPECT_EQ(guest("web", "cat /tmp/state"), "branch\n");

  const auto listed = nlohmann::json::parse(ok({"snapshot", "list", "web", "--json"}));
  ASSERT_EQ(listed.size(), 3U);
  for (const auto& entry : listed) {
    if (entry["tag"] == "one") {
      EXPECT_TRUE(entry["parent"].is_null());
    } else {
      EXPECT_EQ(entry["parent"], "one") << entry["tag"];
      EXPECT_LT(entry["stored_bytes"], std::uint64_t{64} << 20);
    }
  }
}

TEST_F(Snapshots, ACommandRunsInAMachineThatGoesOnFromOne) {
  start("web", {"--memory", "128M"});
  guest("web", "echo prepared >/tmp/state");
  ok({"snapshot", "create", "web", "ready"});
  ok({"kill", "web"});
  for (const char* engine : {"interp", "dbt"}) {
    const RunResult result =
        run_doppel({"run", "--from", "web:ready", "--engine", engine, "-c", "cat /tmp/state -; exit 7"}, "input\n");
    EXPECT_EQ(result.output, "prepared\ninput\n") << result.errors;
    EXPECT_EQ(result.status, 7);
  }
  // Such a machine ends with its command, soon.
  while (!ok({"ps", "-q"}).empty()) {
  }
}

TEST_F(Snapshots, MachinesFromOneSnapshotAreNotTheSame) {
  start("web", {"--memory", "128M", "--net", "user"});
  ok({"snapshot", "create", "web", "ready"});
  start("a", {"--from", "web:ready"});
  start("b", {"--from", "web:ready"});
  const auto guid = [this](const std::string& name) {
    return nlohmann::json::parse(ok({"inspect", name}))["machine"]["vm_gen_id"]["guid"].get<std::string>();
  };
  EXPECT_NE(guid("a"), guid("b"));
  EXPECT_NE(guid("a"), guid("web"));
  guest("a", "echo a >/tmp/state");
  EXPECT_EQ(guest("b", "cat /tmp/state 2>/dev/null; true"), "");
  EXPECT_EQ(guest("b", "ping -c 1 -q 10.0.2.2 >/dev/null && echo reached"), "reached\n");
}

TEST_F(Snapshots, ClonesShareAStateAndHaveNamesOfTheirOwn) {
  start("web", {"--memory", "128M", "--net", "user"});
  guest("web", "echo prepared >/tmp/state");
  EXPECT_EQ(ok({"clone", "web", "-n", "3"}), "web-1\nweb-2\nweb-3\n");
  std::set<std::string> addresses{guest("web", "cat /sys/class/net/eth0/address")};
  for (const char* name : {"web-1", "web-2", "web-3"}) {
    running_.emplace_back(name);
    EXPECT_EQ(guest(name, "hostname; cat /tmp/state"), std::string(name) + "\nprepared\n");
    EXPECT_TRUE(addresses.insert(guest(name, "cat /sys/class/net/eth0/address")).second) << "an address twice";
    EXPECT_EQ(guest(name, "ping -c 1 -q 10.0.2.2 >/dev/null && echo reached"), "reached\n");
  }
  EXPECT_EQ(ok({"snapshot", "list", "--json"}), "[]\n") << "what they were made from is nobody's to see";
}

TEST_F(Snapshots, ClonesHaveRandomNumbersAndIdentitiesOfTheirOwn) {
  start("web", {"--memory", "128M", "--net", "user"});
  guest("web", "echo 0123456789abcdef0123456789abcdef >/etc/machine-id; echo web >/etc/hostname");
  ok({"snapshot", "create", "web", "ready"});
  EXPECT_EQ(ok({"clone", "web:ready", "-n", "2"}), "web-1\nweb-2\n");
  running_.insert(running_.end(), {"web-1", "web-2"});
  for (const char* command : {"head -c 32 /dev/urandom | md5sum", "cat /proc/sys/kernel/random/uuid", "hostname",
                              "cat /etc/hostname", "cat /etc/machine-id", "cat /sys/class/net/eth0/address"}) {
    std::set<std::string> answers;
    for (const char* name : {"web", "web-1", "web-2"}) {
      EXPECT_TRUE(answers.insert(guest(name, command)).second) << command << " is the same in " << name;
    }
  }
  EXPECT_EQ(guest("web-1", "wc -c </etc/machine-id"), "33\n");
}

TEST_F(Snapshots, TheGuestKnowsTheTimeAfterwards) {
  start("web", {"--memory", "128M"});
  ok({"snapshot", "create", "web", "ready"});
  const auto uptime = [this](const std::string& name) { return std::atof(guest(name, "cat /proc/uptime").c_str()); };
  const double before = uptime("web");
  constexpr int kPauseSeconds = 5;
  ::sleep(kPauseSeconds);
  const auto restored = std::chrono::steady_clock::now();
  start("later", {"--from", "web:ready"});
  const std::string script = "for i in $(seq 600); do [ $(date +%s) -ge " + std::to_string(std::time(nullptr) - 1) +
                             " ] && echo now && break; usleep 50000; done";
  EXPECT_EQ(guest("later", script), "now\n");
  const double after = uptime("later");
  const std::chrono::duration<double> run = std::chrono::steady_clock::now() - restored;
  EXPECT_LE(after, before + run.count()) << "the monotonic clock has gone on while nobody ran";
  const std::string now = "[ $(date +%s) -ge " + std::to_string(std::time(nullptr) - 1) + " ] && echo now";
  EXPECT_EQ(run_doppel({"run", "--from", "web:ready", "-c", now}).output, "now\n") << "from a command's beginning on";
}

TEST_F(Snapshots, ACommandInAPausedMachineSaysWhatItWaitsFor) {
  start("web", {"--memory", "128M"});
  EXPECT_EQ(guest("web", "echo running"), "running\n");
  ok({"pause", "web"});
  DoppelProcess command({"exec", "web", "echo", "answered"});
  EXPECT_TRUE(command.expect_error("doppel resume web")) << command.errors();
  ok({"resume", "web"});
  EXPECT_TRUE(command.expect("answered")) << command.errors();
  EXPECT_EQ(command.wait(), 0);
}

TEST_F(Snapshots, WarmMachinesServeACommandEach) {
  start("web", {"--memory", "128M"});
  guest("web", "echo prepared >/tmp/state");
  ok({"snapshot", "create", "web", "ready"});
  const std::string names = ok({"snapshot", "warm", "web", "ready", "-n", "2"});
  EXPECT_EQ(std::ranges::count(names, '\n'), 2);
  std::set<std::string> random;
  for (int i = 0; i < 4; ++i) {
    const std::string command =
        "cat /tmp/state; touch /tmp/used.$(ls /tmp/used* 2>/dev/null | wc -l); ls /tmp/used*; "
        "cat /proc/sys/kernel/random/uuid; exit 3";
    const RunResult result = run_doppel({"run", "--from", "web:ready", "-c", command});
    EXPECT_EQ(result.status, 3);
    EXPECT_THAT(result.output, testing::StartsWith("prepared\n/tmp/used.0\n")) << "nobody was here before";
    EXPECT_TRUE(random.insert(result.output).second);
  }
  ok({"snapshot", "warm", "web", "ready", "-n", "0"});
  EXPECT_EQ(ok({"ps", "-q"}), "web\n");
  EXPECT_EQ(ok({"snapshot", "create", "web", "again", "--warm"}), "web:again\n");
  EXPECT_EQ(std::ranges::count(ok({"ps", "-q"}), '\n'), 2) << "one waits at it from the beginning";
  ok({"snapshot", "warm", "web", "ready", "-n", "1"});
  ok({"snapshot", "delete", "web", "ready", "again"});
  // What took the place of the last ones may be on its way still.
  for (int i = 0; i < 1000 && ok({"ps", "-q"}) != "web\n"; ++i) ::usleep(10000);
  EXPECT_EQ(ok({"ps", "-q"}), "web\n");
}

TEST_F(Snapshots, AMachineKilledWhileItIsSavedLeavesWhatWasThere) {
  start("web", {"--memory", "128M"});
  load("web", kPreparation, kRound);
  ok({"snapshot", "create", "web", "first"});
  std::minstd_rand random(1);
  for (int i = 0; i < 10; ++i) {
    SCOPED_TRACE(i);
    const auto machines = nlohmann::json::parse(ok({"ps", "--json"}));
    const std::string tag = "t" + std::to_string(i);
    std::thread killer([pid = machines.at(0).at("pid").get<pid_t>(), delay = random() % 300'000] {
      ::usleep(static_cast<useconds_t>(delay));
      ::kill(pid, SIGKILL);
    });
    run_doppel({"snapshot", "create", "web", tag, "--full", "-q"});
    killer.join();
    // What is listed is whole, whether the new one is among it or not.
    for (const auto& entry : nlohmann::json::parse(ok({"snapshot", "list", "web", "--json"}))) {
      EXPECT_EQ(ok({"snapshot", "verify", "web", entry["tag"], "-q"}), "");
    }
    std::vector<std::string> restore{"snapshot", "restore", "web"};
    if (i % 2 == 0) restore.emplace_back("first");
    ok(restore);
    EXPECT_EQ(work("web"), "");
  }
  ok({"snapshot", "create", "web", "last"});
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "XDG_STATE_HOME/doppel/snapshots/web")) {
    EXPECT_NE(entry.path().filename().string().front(), '.') << "what the dead have begun is gone";
  }
}

TEST_F(Snapshots, OneFileIsASnapshot) {
  start("web", {"--memory", "128M"});
  guest("web", "echo kept >/tmp/state");
  ok({"snapshot", "create", "web", "one", "--compress"});
  ok({"snapshot", "export", "web", "one", directory_ / "file"});
  ok({"kill", "web"});
  ok({"snapshot", "delete", "web", "one"});
  EXPECT_EQ(ok({"snapshot", "import", directory_ / "file", "moved:here"}), "moved:here\n");
  const RunResult result = run_doppel({"run", "--from", "moved:here", "-c", "cat /tmp/state"});
  EXPECT_EQ(result.output, "kept\n") << result.errors;
}

TEST_F(Snapshots, AProcessThatWaitsGoesOnFromWhatItsSocketIsTold) {
  start("web", {"--memory", "128M"});
  guest("web", "echo prepared >/tmp/state");
  ok({"snapshot", "create", "web", "ready"});
  start("later", {"--await-load"});
  const std::string socket = directory_ / "XDG_RUNTIME_DIR/doppel/later/control.sock";
  const auto put = [&socket](const char* method, const char* target, const char* body) {
    const Result<control::HttpResponse> answer = control::call(socket, method, target, body);
    return answer ? std::string("done") : answer.error().message;
  };
  const auto state = [&socket] {
    const Result<control::HttpResponse> answer = control::call(socket, "GET", "/");
    return answer ? nlohmann::json::parse(answer->body)["state"].get<std::string>() : answer.error().message;
  };
  EXPECT_EQ(state(), "Not started");
  EXPECT_THAT(put("PATCH", "/vm", R"({"state": "Resumed"})"), HasSubstr("has not been started"));
  EXPECT_THAT(put("PUT", "/snapshot/load", R"({"snapshot": "web:other"})"), HasSubstr("no snapshot web:other"));
  EXPECT_EQ(put("PUT", "/snapshot/load", R"({"snapshot": "web:ready"})"), "done");
  EXPECT_EQ(state(), "Paused");
  EXPECT_THAT(put("PUT", "/snapshot/load", R"({"snapshot": "web:ready"})"), HasSubstr("started already"));
  EXPECT_EQ(put("PATCH", "/vm", R"({"state": "Resumed"})"), "done");
  EXPECT_EQ(guest("later", "cat /tmp/state"), "prepared\n");
  // The machine's own snapshot by its tag, running at once.
  ok({"kill", "web"});
  start("web", {"--await-load"});
  EXPECT_EQ(ok({"exec", "later", "true"}), "");
  const std::string web = directory_ / "XDG_RUNTIME_DIR/doppel/web/control.sock";
  EXPECT_TRUE(control::call(web, "PUT", "/snapshot/load", R"({"tag": "ready", "resume_vm": true})"));
  EXPECT_EQ(guest("web", "cat /tmp/state"), "prepared\n");
  // Nobody has to load anything.
  start("never", {"--await-load"});
  ok({"kill", "never"});
}

TEST_F(Snapshots, SharedDirectoriesAreThereAgain) {
  const std::string shared = directory_ / "shared", other = directory_ / "other";
  for (const std::string& path : {shared, other}) std::filesystem::create_directories(path + "/deep/er");
  std::ofstream(shared + "/deep/er/file") << "of the host";
  std::ofstream(other + "/deep/er/file") << "of another";
  start("web", {"--memory", "128M", "--share", shared + ":/mnt"});
  EXPECT_EQ(guest("web", "cat /mnt/deep/er/file; (exec 3</mnt/deep/er/file; sleep 1000) >/dev/null 2>&1 &"),
            "of the host");
  ok({"snapshot", "create", "web", "ready"});
  ok({"snapshot", "restore", "web", "ready"});
  // What was open is stale; what has a name is there.
  EXPECT_EQ(guest("web", "cat /mnt/deep/er/file; echo of the guest >/mnt/deep/er/new; ls /mnt/deep/er"),
            "of the hostfile\nnew\n");
  EXPECT_TRUE(std::filesystem::exists(shared + "/deep/er/new"));
  EXPECT_EQ(
      run_doppel({"run", "--from", "web:ready", "--share", other + ":/mnt", "-c", "cat /mnt/deep/er/file"}).output,
      "of another");
  // An archive names no directory of this host's.
  ok({"snapshot", "export", "web", "ready", directory_ / "archive", "-q"});
  ok({"snapshot", "import", directory_ / "archive", "moved:here"});
  const RunResult refused = run_doppel({"run", "--from", "moved:here", "-c", "true"});
  EXPECT_THAT(refused.errors, HasSubstr("add --share DIRECTORY:/mnt"));
  EXPECT_EQ(
      run_doppel({"run", "--from", "moved:here", "--share", shared + ":/mnt:ro", "-c", "cat /mnt/deep/er/file"}).output,
      "of the host");
}

TEST_F(Snapshots, ARebootBootsAgain) {
  start("web", {"--memory", "128M"});
  ok({"snapshot", "create", "web", "ready"});
  ok({"snapshot", "restore", "web", "ready"});
  guest("web", "touch /tmp/old; (sleep 1; reboot -f) </dev/null >/dev/null 2>&1 &");
  for (int i = 0; i < 600; ++i) {
    const RunResult result = run_doppel({"exec", "web", "sh", "-c", "test -e /tmp/old || echo new"});
    if (result.output == "new\n") return;
  }
  FAIL() << "the guest did not come back";
}

TEST_F(Snapshots, WhatDoesNotFitIsRefused) {
  start("web", {"--memory", "128M"});
  ok({"snapshot", "create", "web", "ready"});
  const std::pair<std::vector<std::string>, const char*> bad[] = {
      {{"run", "--from", "web:ready", "--memory", "256M"}, "has 128M, which cannot change"},
      {{"run", "--from", "web:ready", "--cpus", "2"}, "has 1, which cannot change"},
      {{"run", "--from", "web:other"}, "there is no snapshot web:other"},
      {{"run", "--from", "web:ready", "--net", "user"}, "has 0 network cards"},
      {{"run", "--from", "../x"}, "names no snapshot"},
      {{"snapshot", "create", "web", "ready"}, "already"},
      {{"snapshot", "create", "web", "../x"}, "cannot be a snapshot's name"},
      {{"snapshot", "create", "nobody"}, "no machine named nobody"},
      {{"snapshot", "delete", "web", "other"}, "there is no snapshot web:other"},
  };
  for (const auto& [arguments, words] : bad) {
    const RunResult result = run_doppel(arguments);
    EXPECT_NE(result.status, 0) << testing::PrintToString(arguments);
    EXPECT_THAT(result.errors, HasSubstr(words)) << testing::PrintToString(arguments);
  }
  EXPECT_EQ(guest("web", "echo alive"), "alive\n");
}

}  // namespace
}  // namespace doppel::test
