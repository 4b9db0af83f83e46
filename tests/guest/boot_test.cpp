// The kernels that the README promises, booted to a shell by the program as a user runs it.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "guest/dmesg.h"
#include "guest/doppel_process.h"

namespace doppel::test {
namespace {

struct Guest {
  const char* name;
  const char* kernel;
  const char* initramfs;
  unsigned cpus;
  const char* memory;
};

class Boot : public testing::TestWithParam<Guest> {};

TEST_P(Boot, ReachesAShellWithNothingOddInItsLog) {
  const Guest& guest = GetParam();
  const auto kernel = guest_file(guest.kernel);
  const auto initramfs = guest_file(guest.initramfs);
  if (!kernel || !initramfs) GTEST_SKIP() << guest.kernel << " is not in the guest cache; guest/fetch --all gets it";

  DoppelProcess doppel({"run", *kernel, "--initrd", *initramfs, "--append", "console=ttyS0 TERM=dumb", "--cpus",
                        std::to_string(guest.cpus), "--memory", guest.memory});
  ASSERT_TRUE(doppel.expect("# ")) << doppel.output() << doppel.errors();
  doppel.send("echo cpus=$(nproc) memory=$(awk '/MemTotal/ {print $2}' /proc/meminfo)\n");
  ASSERT_TRUE(doppel.expect("cpus=" + std::to_string(guest.cpus) + " memory=")) << doppel.output();
  doppel.send("poweroff\n");
  EXPECT_EQ(doppel.wait(), 0) << doppel.output() << doppel.errors();
  EXPECT_EQ(odd_lines(doppel.output()), std::vector<std::string>{}) << doppel.output();
}

INSTANTIATE_TEST_SUITE_P(Kernels, Boot,
                         testing::Values(Guest{"Cloud", "kernels/cloud", "initramfs-amd64", 1, "1G"},
                                         Guest{"CloudTwoCpus", "kernels/cloud", "initramfs-amd64", 2, "1G"},
                                         Guest{"CloudFourCpus", "kernels/cloud", "initramfs-amd64", 4, "1G"},
                                         Guest{"CloudSmallest", "kernels/cloud", "initramfs-amd64", 1, "128M"},
                                         Guest{"CloudAboveTheHole", "kernels/cloud", "initramfs-amd64", 1, "6G"},
                                         Guest{"Generic", "kernels/generic", "initramfs-amd64", 1, "1G"},
                                         Guest{"Realtime", "kernels/rt", "initramfs-amd64", 2, "1G"},
                                         Guest{"NewestSeries", "kernels/newest", "initramfs-amd64", 2, "1G"},
                                         Guest{"I386Pae", "kernels/i686", "initramfs-i386", 2, "1G"},
                                         Guest{"PvhVmlinux", "vmlinux", "initramfs-amd64", 1, "512M"}),
                         [](const testing::TestParamInfo<Guest>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace doppel::test
