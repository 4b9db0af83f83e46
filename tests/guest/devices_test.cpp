// What a guest does with its virtio devices: disk, network, random numbers, exec and cp.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include "base/fd.h"
#include "base/temporary_directory.h"
#include "control/unix_socket.h"
#include "guest/doppel_process.h"

namespace doppel::test {
namespace {

using testing::HasSubstr;

constexpr std::size_t kDiskBytes = 16U << 20;

class Devices : public testing::Test {
 protected:
  Devices() {
    std::ofstream(disk).close();
    std::filesystem::resize_file(disk, kDiskBytes);
  }
  TemporaryDirectory directory;
  const std::string disk = directory.path() + "/disk.raw";
};

/// $XDG_RUNTIME_DIR, while it lasts.
class RuntimeDirectory {
 public:
  explicit RuntimeDirectory(const std::string& path) {
    if (const char* const before = std::getenv(kName); before != nullptr) before_ = before;
    ::setenv(kName, path.c_str(), 1);
  }
  ~RuntimeDirectory() { before_ ? ::setenv(kName, before_->c_str(), 1) : ::unsetenv(kName); }
  RuntimeDirectory(const RuntimeDirectory&) = delete;
  RuntimeDirectory& operator=(const RuntimeDirectory&) = delete;

 private:
  static constexpr const char* kName = "XDG_RUNTIME_DIR";
  std::optional<std::string> before_;
};

TEST_F(Devices, ADiskKeepsWhatTheGuestWrites) {
  const RunResult written = run_doppel(
      {"run", "--disk", disk + ",serial=number-1", "-c",
       "cat /sys/block/vda/serial; seq 1 300000 >/tmp/x; dd if=/tmp/x of=/dev/vda bs=64k conv=fsync 2>/dev/null"});
  EXPECT_EQ(written.output, "number-1");
  EXPECT_EQ(written.status, 0) << written.errors;
  const std::string compare =
      "seq 1 300000 >/tmp/x; head -c $(stat -c %s /tmp/x) /dev/vda | cmp - /tmp/x && cat /sys/block/vda/ro";
  const RunResult read = run_doppel({"run", "--disk", disk + ",readonly", "-c", compare});
  EXPECT_EQ(read.output, "1\n");
  EXPECT_EQ(read.status, 0) << read.errors;
}

TEST_F(Devices, ASnapshotDiskIsNotWritten) {
  const RunResult result = run_doppel({"run", "--disk", disk + ",snapshot", "-c",
                                       "echo changed | dd of=/dev/vda conv=fsync 2>/dev/null; head -c 7 /dev/vda"});
  EXPECT_EQ(result.output, "changed");
  std::ifstream file(disk, std::ios::binary);
  EXPECT_EQ(file.get(), 0) << "the image has changed";
}

TEST_F(Devices, TheGuestGetsRandomNumbers) {
  const RunResult result = run_doppel({"run", "-c", "head -c 64 /dev/hwrng | wc -c"});
  EXPECT_EQ(result.output, "64\n") << result.errors;
}

TEST_F(Devices, TheUserNetworkGivesAnAddressAndAGateway) {
  const RunResult result = run_doppel(
      {"run", "--net", "user", "--mac", "02:00:00:00:00:07", "-c",
       "ip -4 addr show dev eth0 | grep -o '10.0.2.15/24'; cat /sys/class/net/eth0/address; ping -c 1 -q 10.0.2.2"});
  EXPECT_THAT(result.output, HasSubstr("10.0.2.15/24\n02:00:00:00:00:07\n"));
  EXPECT_THAT(result.output, HasSubstr("1 packets received")) << result.errors;
}

TEST_F(Devices, ADirectoryIsShared) {
  std::ofstream(directory / "given") << "given\n";
  const std::string command =
      "cat /mnt/shared/given; seq 1 200000 >/mnt/shared/made; mkdir /mnt/shared/d; "
      "mv /mnt/shared/made /mnt/shared/d; wc -l </mnt/fixed/d/made; ls /mnt/fixed; "
      "touch /mnt/fixed/new || ls -A /mnt/shared/d/.. | wc -l";
  const RunResult result = run_doppel({"run", "--share", directory.path() + ":/mnt/shared", "--share",
                                       directory.path() + ":/mnt/fixed:ro", "-c", command});
  EXPECT_EQ(result.output, "given\n200000\nd\ndisk.raw\ngiven\n3\n") << result.errors;
  EXPECT_EQ(std::filesystem::file_size(directory / "d/made"), 1'288'895U);
}

TEST_F(Devices, AVirtioConsoleIsOneAsWell) {
  DoppelProcess machine({"run", "--name", "devices-console", "--console", "virtio"});
  ASSERT_TRUE(machine.expect("Leaving this shell")) << machine.output() << machine.errors();
  // More than the guest has buffers for at once, and than it prints at once.
  std::string numbers;
  for (int i = 0; i < 2000; ++i) numbers += std::to_string(i) + "\n";
  machine.send("tty; cat >/tmp/numbers <<end\n" + numbers +
               "end\nmd5sum </tmp/numbers; cat /tmp/numbers; echo ended\n");
  EXPECT_TRUE(machine.expect("/dev/hvc0")) << machine.output();
  EXPECT_TRUE(machine.expect("947d0c736c7b8174e585ab10ef2556c9")) << machine.output();
  EXPECT_TRUE(machine.expect("1998\r\n1999\r\nended")) << machine.output();
  machine.send("poweroff\n");
  EXPECT_EQ(machine.wait(), 0) << machine.errors();
}

TEST_F(Devices, TheGuestConnectsToTheHost) {
  // What it speaks to must be where the machine's own sockets are.
  const RuntimeDirectory runtime(directory.path());
  DoppelProcess machine({"run", "--name", "devices-vsock"});
  ASSERT_TRUE(machine.expect("# ")) << machine.output() << machine.errors();
  const RunResult refused = run_doppel({"exec", "devices-vsock", "doppel-agent", "connect", "9"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.errors, HasSubstr("port 9: "));

  const std::string path = directory.path() + "/doppel/devices-vsock/vsock.sock_700";
  const Result<UniqueFd> listener = control::listen_unix(path);
  ASSERT_TRUE(listener) << listener.error().message;
  constexpr std::size_t kMuch = 3'000'000;
  std::string heard;
  std::thread host([&] {
    pollfd poll{listener->get(), POLLIN, 0};
    ::poll(&poll, 1, -1);
    const UniqueFd guest(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
    // The host is the first to speak, and the last.
    EXPECT_TRUE(write_all(guest.get(), std::as_bytes(std::span("welcome\n", 8))));
    std::array<char, 65536> buffer{};
    for (ssize_t got = 0; (got = ::read(guest.get(), buffer.data(), buffer.size())) > 0;) {
      heard.append(buffer.data(), static_cast<std::size_t>(got));
    }
    EXPECT_TRUE(write_all(guest.get(), std::as_bytes(std::span{heard})));
  });
  const std::string much(kMuch, 'x');
  const RunResult spoken = run_doppel({"exec", "-i", "devices-vsock", "doppel-agent", "connect", "700"}, much);
  host.join();
  EXPECT_EQ(spoken.status, 0) << spoken.errors;
  EXPECT_EQ(heard.size(), kMuch);
  EXPECT_TRUE(spoken.output == "welcome\n" + much) << spoken.output.size();
  machine.send("poweroff\n");
  EXPECT_EQ(machine.wait(), 0) << machine.errors();
}

TEST_F(Devices, ExecAndCpReachARunningGuest) {
  DoppelProcess machine({"run", "--name", "devices-exec", "--net", "none"});
  ASSERT_TRUE(machine.expect("# ")) << machine.output() << machine.errors();
  const RunResult command = run_doppel({"exec", "devices-exec", "sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(command.output, "out\n");
  EXPECT_EQ(command.errors, "err\n");
  EXPECT_EQ(command.status, 7);
  std::string bytes;
  for (int i = 0; i < 500'000; ++i) bytes += static_cast<char>(i * 31);
  EXPECT_EQ(run_doppel({"exec", "-i", "devices-exec", "cat"}, bytes).output, bytes);
  EXPECT_EQ(run_doppel({"exec", "devices-exec", "no-such-command"}).status, 127);

  const std::string there = directory.path() + "/there";
  const std::string back = directory.path() + "/back";
  std::ofstream(there, std::ios::binary) << bytes;
  EXPECT_EQ(run_doppel({"cp", there, "devices-exec:/root/copied"}).status, 0);
  EXPECT_EQ(run_doppel({"cp", "devices-exec:/root/copied", back}).status, 0);
  std::ifstream file(back, std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), bytes);

  // A guest that packs more than it was asked for plants nothing here.
  const std::string fake =
      "tar=$(command -v tar); rm $tar; printf '#!/bin/sh\ncd /root; touch planted; busybox tar -c copied planted' "
      ">$tar; chmod 755 $tar";
  EXPECT_EQ(run_doppel({"exec", "devices-exec", "sh", "-c", fake}).status, 0);
  const std::string into = directory.path() + "/into";
  std::filesystem::create_directory(into);
  EXPECT_EQ(run_doppel({"cp", "devices-exec:/root/copied", into}).status, 0);
  EXPECT_TRUE(std::filesystem::exists(into + "/copied"));
  EXPECT_FALSE(std::filesystem::exists(into + "/planted"));
  machine.send("poweroff\n");
  EXPECT_EQ(machine.wait(), 0) << machine.errors();
}

}  // namespace
}  // namespace doppel::test
