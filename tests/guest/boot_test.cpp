// The kernels that the README promises, booted to a shell on each engine by the program as a user runs it.

#include <gtest/gtest.h>

#include <string>
#include <tuple>
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

class Boot : public testing::TestWithParam<std::tuple<const char*, Guest>> {};

TEST_P(Boot, ReachesAShellWithNothingOddInItsLog) {
  const auto& [engine, guest] = GetParam();
  const auto kernel = guest_file(guest.kernel);
  const auto initramfs = guest_file(guest.initramfs);
  if (!kernel || !initramfs) GTEST_SKIP() << guest.kernel << " is not in the guest cache; guest/fetch --all gets it";

  DoppelProcess doppel({"run", *kernel, "--initrd", *initramfs, "--append", "console=ttyS0 TERM=dumb", "--engine",
                        engine, "--cpus", std::to_string(guest.cpus), "--memory", guest.memory});
  ASSERT_TRUE(doppel.expect("# ")) << doppel.output() << doppel.errors();
  doppel.send("echo cpus=$(nproc) memory=$(awk '/MemTotal/ {print $2}' /proc/meminfo)\n");
  ASSERT_TRUE(doppel.expect("cpus=" + std::to_string(guest.cpus) + " memory=")) << doppel.output();
  doppel.send("poweroff\n");
  EXPECT_EQ(doppel.wait(), 0) << doppel.output() << doppel.errors();
  EXPECT_EQ(odd_lines(doppel.output()), std::vector<std::string>{}) << doppel.output();
}

constexpr Guest kGuests[] = {
    {"Cloud", "kernels/cloud", "initramfs-amd64", 1, "1G"},
    {"CloudTwoCpus", "kernels/cloud", "initramfs-amd64", 2, "1G"},
    {"CloudFourCpus", "kernels/cloud", "initramfs-amd64", 4, "1G"},
    {"CloudSmallest", "kernels/cloud", "initramfs-amd64", 1, "128M"},
    {"CloudAboveTheHole", "kernels/cloud", "initramfs-amd64", 1, "6G"},
    {"Generic", "kernels/generic", "initramfs-amd64", 1, "1G"},
    {"Realtime", "kernels/rt", "initramfs-amd64", 2, "1G"},
    {"NewestSeries", "kernels/newest", "initramfs-amd64", 2, "1G"},
    {"I386Pae", "kernels/i686", "initramfs-i386", 2, "1G"},
    {"PvhVmlinux", "vmlinux", "initramfs-amd64", 1, "512M"},
};

INSTANTIATE_TEST_SUITE_P(Kernels, Boot, testing::Combine(testing::Values("dbt", "interp"), testing::ValuesIn(kGuests)),
                         [](const testing::TestParamInfo<Boot::ParamType>& info) {
                           return std::string(std::get<1>(info.param).name) + "_" + std::get<0>(info.param);
                         });

}  // namespace
}  // namespace doppel::test
