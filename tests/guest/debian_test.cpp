// A whole distribution: Debian built out of its packages, booted from a disk image, reached through its agent.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/fd.h"
#include "base/temporary_directory.h"
#include "guest/doppel_process.h"

namespace doppel::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Where the image for the tests is kept: it is built once for each version of the agent.
const std::string kStore = DOPPEL_GUEST_DIR "/images";
const std::string kImage = kStore + "/doppel/images/debian";

class Debian : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    fs::create_directories(kStore);
    ::setenv("XDG_DATA_HOME", kStore.c_str(), 1);
    // Each case is a process of its own.
    const UniqueFd lock(::open((kStore + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(::flock(lock.get(), LOCK_EX), 0);
    std::error_code none;
    const auto built = fs::last_write_time(kImage + "/image.json", none);
    if (!none && built > fs::last_write_time(DOPPEL_GUEST_DIR "/doppel-agent")) return;
    const RunResult build = run_doppel({"image", "build", "debian", "--force", "--include", "openssh-server"});
    if (build.status != 0) failure_ = build.errors;
  }
  void SetUp() override {
    if (failure_.empty()) return;
    // The network is nobody's fault; whatever else keeps an image from being built is ours. (Not "download": each build
    // says that it does.)
    for (const char* const words : {"Unable to fetch", "Failed to fetch", "Could not resolve", "Could not connect",
                                    "Temporary failure", "apt-get update --error-on=any"}) {
      if (failure_.find(words) != std::string::npos) GTEST_SKIP() << "Debian's packages are out of reach: " << failure_;
    }
    FAIL() << failure_;
  }
  /// Ends a machine whatever the test has come to.
  struct Machine {
    ~Machine() { kill_machine(name); }
    std::string name;
  };

  static std::string failure_;
};

std::string Debian::failure_;

TEST_F(Debian, BootsToItsLoginPromptWithNoUnitFailed) {
  const Machine machine{"debian-boot"};
  const TemporaryDirectory shared;
  std::ofstream(shared / "given") << "given";
  const RunResult started = run_doppel(
      {"run", "debian", "--detach", "--name", machine.name, "--temporary", "--share", shared.path() + ":/srv:ro"});
  ASSERT_EQ(started.status, 0) << started.errors;
  DoppelProcess logs({"logs", "--follow", machine.name});
  ASSERT_TRUE(logs.expect(machine.name + " login:")) << logs.output();
  const RunResult running = run_doppel({"exec", machine.name, "systemctl", "is-system-running", "--wait"});
  EXPECT_EQ(running.output, "running\n") << run_doppel({"exec", machine.name, "systemctl", "--failed"}).output;
  const RunResult facts = run_doppel(
      {"exec", machine.name, "sh", "-c",
       "cat /sys/block/vda/serial; echo; findmnt -no SOURCE,FSTYPE /; networkctl status | grep -o 'State: routable'"});
  EXPECT_THAT(facts.output, HasSubstr("root\n/dev/vda ext4\nState: routable")) << facts.errors;
  EXPECT_EQ(run_doppel({"exec", machine.name, "cat", "/srv/given"}).output, "given");
  EXPECT_EQ(run_doppel({"stop", machine.name}).status, 0);
}

/// What a program of the host's says.
std::string output_of(const std::string& command) {
  std::string output;
  std::FILE* const pipe = ::popen((command + " 2>&1").c_str(), "re");
  for (int c = 0; pipe != nullptr && (c = std::fgetc(pipe)) != EOF;) output += static_cast<char>(c);
  if (pipe != nullptr) ::pclose(pipe);
  return output;
}

/// A port of the loopback interface that nobody has.
std::string free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  return std::to_string(ntohs(address.sin_port));
}

TEST_F(Debian, TheHostsSshReachesItWithAKeyThroughAPublishedPort) {
  const Machine machine{"debian-ssh"};
  const TemporaryDirectory directory;
  const std::string key = directory / "key", port = free_port();
  ASSERT_EQ(output_of("ssh-keygen -q -t ed25519 -N '' -f " + key), "");
  const RunResult started = run_doppel({"run", "debian", "--detach", "--name", machine.name, "--temporary", "--ssh-key",
                                        key + ".pub", "--net", "user,publish=" + port + ":22"});
  ASSERT_EQ(started.status, 0) << started.errors;
  EXPECT_EQ(run_doppel({"exec", machine.name, "systemctl", "is-system-running", "--wait"}).output, "running\n");
  const std::string ssh = "ssh -F none -i " + key + " -p " + port +
                          " -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR"
                          " -o UserKnownHostsFile=" +
                          directory / "hosts" + " root@127.0.0.1 ";
  EXPECT_EQ(output_of("printf over-ssh | " + ssh + "'cat; hostname; exit 7'; echo $?"),
            "over-ssh" + machine.name + "\n7\n");

  // A guest without the agent gets it the same way.
  const std::string remove =
      "'systemctl disable --quiet --now doppel-agent; rm /usr/local/sbin/doppel-agent "
      "/etc/systemd/system/doppel-agent.service /etc/modules-load.d/doppel.conf'";
  EXPECT_EQ(output_of(ssh + remove), "");
  EXPECT_EQ(output_of("'" DOPPEL_PROGRAM "' agent | " + ssh + "sh"), "doppel-agent: installed, and running\n");
  EXPECT_EQ(run_doppel({"exec", machine.name, "systemctl", "is-enabled", "doppel-agent"}).output, "enabled\n");
}

TEST_F(Debian, RunsOneCommandAndForgetsWhatItWrote) {
  const auto before = fs::last_write_time(kImage + "/disk.qcow2");
  const RunResult result =
      run_doppel({"run", "debian", "-c", "cat >/root/input; sync; wc -c </root/input; id -un >&2; exit 7"}, "12345");
  EXPECT_EQ(result.status, 7);
  EXPECT_EQ(result.output, "5\n");
  EXPECT_EQ(result.errors, "root\n");
  EXPECT_EQ(fs::last_write_time(kImage + "/disk.qcow2"), before);
}

TEST_F(Debian, AMachineWithANameFindsItsFilesAgain) {
  run_doppel({"image", "remove", "debian/debian-kept"});
  const RunResult first = run_doppel({"run", "debian", "--name", "debian-kept", "-c", "echo kept >/root/file"});
  EXPECT_EQ(first.status, 0) << first.errors;
  const RunResult second = run_doppel({"run", "debian", "--name", "debian-kept", "-c", "cat /root/file"});
  EXPECT_EQ(second.output, "kept\n") << second.errors;
  EXPECT_EQ(run_doppel({"image", "check", kImage + "/machines/debian-kept.qcow2"}).status, 0);
  EXPECT_EQ(run_doppel({"image", "remove", "debian/debian-kept"}).status, 0);
}

}  // namespace
}  // namespace doppel::test
